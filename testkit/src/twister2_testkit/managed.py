"""Whole jobs on a real server of a resource manager: a program with what tests need of one, and clients of it.

For tests whose jobs run elsewhere than :class:`twister2_testkit.jobs.Jobs` can see: what is left of them tells the
server alone, which each manager's tests ask themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

T = TypeVar("T")
FINISH_S, UNTIL_S = 120.0, 90.0
"""Far more than what is waited for takes on a loaded machine."""
GOES_S = 20.0

PROGRAM = """
import os, pathlib, sys, time

def main(env):
    print("hello from", env.worker_id, "of", env.n_workers, flush=True)
    env.barrier("all")

def fails(env):
    if env.worker_id == 1:
        raise ValueError("bad luck")
    env.barrier("all")

def waits_once(env):
    pathlib.Path(env.args[0], f"{env.attempt}-{env.worker_id}").write_text(str(os.getpid()))
    while env.attempt == 1:
        time.sleep(0.1)
    print("attempt", env.attempt, "done", flush=True)

def waits(env):
    pathlib.Path(env.args[0], f"{env.attempt}-{env.worker_id}").write_text(str(os.getpid()))
    while not pathlib.Path(env.args[0], "go").exists():
        time.sleep(0.1)
    print("went on", flush=True)

def sleeps(env):
    print("asleep", flush=True)
    time.sleep(float(env.args[0]) if env.args else 600)

def groups(env):
    me = env.controller.workers()[env.worker_id]
    print("worker", env.worker_id, "is", me.group, "with", me.memory_mb, flush=True)
    time.sleep(600)

def counts(env):
    steps = env.state("steps", 0)
    goes_on = steps.value > 0
    steps.value += 1
    env.commit()
    if env.worker_id == 0:
        print("attempt", env.attempt, "of", env.n_workers, goes_on, flush=True)
    while not env.controller.exchange("enough", os.path.exists(env.args[0]))[0]:
        steps.value += 1
        env.commit()
        time.sleep(0.3)
"""
"""``main`` greets, ``fails`` raises on worker 1, ``waits_once`` ends in its second attempt and ``waits`` when there is
a file ``go`` in the folder that it is given (where each worker leaves its process id), ``sleeps``,
``groups`` says of what group a worker is and sleeps, and ``counts`` commits until the file that it is given exists.
"""


MPI_PROGRAM = """
import os, signal, time
import numpy as np
from twister2.spec.collectives import Call
from twister2_net import allreduce

def main(env):
    collectives, own, total = env.network.collectives(), np.full(100_000, 1.0 + env.worker_id), np.empty(100_000)
    assert (env.mpi.rank, env.mpi.size) == (env.worker_id, env.n_workers)
    for turn in range(20):
        if (turn, env.attempt, env.worker_id) == (10, 1, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        collectives.run(Call("allreduce", algorithm="native"), own, total)
    env.mpi.Allreduce(own, plain := np.empty(100_000))
    assert (plain == total).all()
    memories = {worker.node.memory for worker in env.controller.workers()}
    print(env.attempt > 1, total[-1], allreduce(env, env.worker_id), "with", len(memories), "memories", flush=True)

def goes_on(env):
    for turn in range(1 << 40):
        if allreduce(env, 1) != env.n_workers:
            raise ValueError("not all")
        if turn == 10:
            print("goes on", flush=True)
        time.sleep(0.01)
"""
"""With ``job.comm = mpi``: in ``main`` worker 1 is killed amid the collectives of the first attempt, and the next one
says what came out; ``goes_on`` never ends.
"""


class ManagedJobs:
    """Clients in a folder with a program, ``program.py``. Use as a context: what still runs at its end is ended.

    :ivar state: the state folder. :ivar environment: variables of the clients beside those of this process.
    """

    def __init__(self, folder: Path, profile: str, program: str = PROGRAM) -> None:
        """
        :param profile: the one to which :meth:`waiting` submits.
        """
        self._folder, self._profile = folder, profile
        self.state = folder / "state"
        self.environment = {"TWISTER2__JOB__STATE_DIR": str(self.state)}
        (folder / "program.py").write_text(program, encoding="utf-8")
        self._started: list[subprocess.Popen[str]] = []

    def __call__(self, *words: object, **changes: str | None) -> subprocess.Popen[str]:
        """Start ``twister2 WORDS...``.

        :param changes: variables of this client; None: without it.
        """
        merged = {**os.environ, **self.environment, **changes}
        process = subprocess.Popen(
            [sys.executable, "-m", "twister2.cli.main", *map(str, words)],
            cwd=self._folder,
            env={name: value for name, value in merged.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    @staticmethod
    def finish(process: subprocess.Popen[str], seconds: float = FINISH_S) -> tuple[int, str, str]:
        """Wait for the end of a client: exit code, stdout, stderr."""
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err

    def run(self, *words: object, **changes: str | None) -> tuple[int, str, str]:
        """``twister2 WORDS...`` to its end: exit code, stdout, stderr."""
        return self.finish(self(*words, **changes))

    @staticmethod
    def until(what: Callable[[], T], seconds: float = UNTIL_S) -> T:
        """Wait until ``what()`` gives something that is true, and return that.

        :raises AssertionError: it does not in time.
        """
        end = time.monotonic() + seconds
        while not (value := what()):
            assert time.monotonic() < end, f"not true within {seconds:g} s"
            time.sleep(0.05)
        return value

    def jobs(self) -> list[str]:
        """Ids of all jobs."""
        return sorted(path.name for path in (self.state / "jobs").glob("*"))

    def job(self) -> str:
        """The id of the only one."""
        (job,) = self.jobs()
        return job

    def waiting(self, *options: object, program: str = "waits") -> tuple[subprocess.Popen[str], str, Path]:
        """A job of two workers that run: its client, its id, and the folder of what its workers report."""
        reports = self._folder / "reports"
        reports.mkdir()
        running = self("submit", self._profile, "-n", 2, *options, f"program.py:{program}", reports)
        self.until(lambda: len(list(reports.glob("1-*"))) == 2 or running.poll() is not None)
        assert running.poll() is None, self.finish(running)
        return running, self.job(), reports

    def __enter__(self) -> ManagedJobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        self._end_clients()
        for job in self.jobs():
            if not self._is_over(job):
                self.finish(self("kill", job))
        self._end_clients()

    def _end_clients(self) -> None:
        while self._started:
            process = self._started.pop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GOES_S)
            process.kill()
            process.wait(GOES_S)
            for stream in (process.stdout, process.stderr):  # which what it started may hold open
                assert stream is not None
                stream.close()

    def _is_over(self, job: str) -> bool:
        """Whether a job's master has written down its end here."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return bool(json.loads((self.state / "jobs" / job / "state.json").read_bytes())["tidied"])
        return False
