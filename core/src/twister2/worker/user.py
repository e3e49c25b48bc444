"""The user process: load the program, wait for the start of the attempt, call the function, hand back its result."""

from __future__ import annotations

import gc
import json
import os
import pathlib
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

from twister2.control.package import MANIFEST, Manifest
from twister2.spec.errors import Twister2Error
from twister2.worker.board import StepBoard
from twister2.worker.ending import join_threads, run_exit_handlers
from twister2.worker.environment import Start
from twister2.worker.interrupt import interruptible
from twister2.worker.life import flush_streams, live
from twister2.worker.pipe import Pipe
from twister2.worker.pmi import environment
from twister2.worker.program import check_python, load, user_error
from twister2.worker.userlink import ProcessLink

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
"""Set to the worker's share of CPUs unless the user has set them: N workers must not start N times all cores'
threads.
"""

_started = False


def is_user_process() -> bool:
    """Whether this process is the user process of a worker."""
    return _started


def main(sock: socket.socket, board: int, pmi: int | None, job: Mapping[str, Any]) -> None:
    """Live one attempt, then end the process (never returns to the fork server's code)."""
    global _started
    _started = True
    gc.freeze()  # what there is by now is not the program's: it needs neither collecting nor, at the end, writing out
    for descriptor in (sock.fileno(), board):
        os.set_inheritable(descriptor, False)  # programs that this one starts have no business with them
    link = ProcessLink(Pipe(sock), StepBoard(board), job["worker_id"], job["attempt"])
    if pmi is not None:
        changes = environment(job["worker_id"], job["n_workers"], pmi, list(os.environ))
        for name, value in changes.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(max(1, int(job["cpus"]))))
    code, pid = 1, os.getpid()
    try:
        code = _live(link, job)
    except BaseException as error:  # whatever it is, the job must hear of it
        if os.getpid() == pid:
            link.fail(user_error(error, "running", worker=link.worker_id))
        else:
            traceback.print_exc()
    finally:
        flush_streams()
        os._exit(code)


def _live(link: ProcessLink, job: Mapping[str, Any]) -> int:
    folder = pathlib.Path(job["package"])
    manifest = Manifest.decode((folder / MANIFEST).read_bytes())
    deadline_s = float(manifest.resolved["tables"]["job"]["threads_deadline_s"])
    try:
        check_python(manifest)
        if manifest.resolved["tables"]["job"].get("wheels"):
            from twister2.worker.wheels import use

            use(folder, manifest)
        with interruptible(link):
            function = load(manifest, folder)
    except Twister2Error as error:
        link.fail(error)
        run_exit_handlers(1, deadline_s)
        return 1
    start = _wait_for_start(link)
    if start is None:
        return 1
    result = live(
        link,
        function,
        manifest,
        partial(Start.from_json, start),
        around=partial(interruptible, link),
        settle=lambda environment: join_threads(link, environment.log, deadline_s),
    )
    if result is not None:
        link.post("returned", {"last": link.last_steps()}, result)
    code = int(result is None)
    run_exit_handlers(code, deadline_s)
    return code


def _wait_for_start(link: ProcessLink) -> dict[str, Any] | None:
    while not link.closed and not link.aborted:
        frame = link.receive(5.0)
        if frame is not None and frame[0] == "start":
            return {**json.loads(frame[2]), **frame[1]}
    return None
