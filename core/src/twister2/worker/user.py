"""The user process: load the program, wait for the start of the attempt, call the function, hand back its result."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import traceback
from typing import TYPE_CHECKING, Any

from twister2.control.package import MANIFEST, Manifest
from twister2.spec.errors import Twister2Error
from twister2.worker.board import StepBoard
from twister2.worker.ending import join_threads, run_exit_handlers
from twister2.worker.environment import Environment, Start
from twister2.worker.interrupt import interruptible
from twister2.worker.pipe import Pipe
from twister2.worker.pmi import environment
from twister2.worker.program import called, check_python, load, user_error
from twister2.worker.results import pickled_result
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
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the program may have closed or replaced it
                stream.flush()
        os._exit(code)


def _live(link: ProcessLink, job: Mapping[str, Any]) -> int:
    folder = pathlib.Path(job["package"])
    manifest = Manifest.decode((folder / MANIFEST).read_bytes())
    try:
        check_python(manifest)
        with interruptible(link):
            function = load(manifest, folder)
    except Twister2Error as error:
        link.fail(error)
        return 1
    start = _wait_for_start(link)
    if start is None:
        return 1
    environment = Environment(link, Start.from_json(start), manifest)
    pid = os.getpid()
    try:
        with interruptible(link):
            result = called(function, environment)
        if os.getpid() != pid:
            os._exit(0)  # a process that the program forked and let return: only the worker itself speaks for it
        if link.aborted:
            link.raise_if_aborted()
        join_threads(link, environment.log, environment.config["job"]["threads_deadline_s"])
        # arrays in it may lie in a transport's memory, which ends with the network
        blob = pickled_result(result, environment) if manifest.want_results else b""
        environment.close(aborted=False)
        link.post("returned", {"last": link.last_steps()}, blob)
        code = 0
    except BaseException as error:
        if os.getpid() != pid:
            raise
        link.fail(user_error(error, "running", worker=link.worker_id))
        environment.close(aborted=True)
        code = 1
    run_exit_handlers(code, environment.config["job"]["threads_deadline_s"])
    return code


def _wait_for_start(link: ProcessLink) -> dict[str, Any] | None:
    while not link.closed and not link.aborted:
        frame = link.receive(5.0)
        if frame is not None and frame[0] == "start":
            return frame[1]
    return None
