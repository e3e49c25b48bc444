"""The backend for ``workers_as = "threads"``: the workers of a job are threads of the calling process.

For debugging and small jobs. There is no second process: what needs one (seeing a worker die, killing it, outliving the
client) is closed, and said so in :data:`OFFERS`.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from twister2.spec.errors import CapabilityError, JobNotFoundError, ResourceError, SubmissionRefusedError
from twister2.spec.rm import (
    Allocation,
    JobHandle,
    JobState,
    JobStatus,
    LogChunk,
    ResourceGroup,
    ResourceManager,
    ResourceOffers,
    RmContext,
)
from twister2_rm_standalone.capacity import check_fit
from twister2_rm_standalone.procfs import alive, start_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from twister2_rm_standalone.config import StandaloneConfig

NAME = "standalone"

OFFERS = ResourceOffers(
    in_process=True,
    master_in_client=True,
    restarts_slots=True,
    shared_files=frozenset({"package", "state", "output"}),
    same_host=True,
    why={
        "worlds": "threads of one process are one MPI process, not several",
        "supervised": "a thread has no supervisor: it dies, and is killed, only with the whole process",
        "master_in_allocation": "master and workers live in the client's process",
        "resizes": "the threads of a job are fixed when it starts",
        "outlives_client": "the workers are threads of the client's process",
        "limits": "threads share the process's CPUs and memory",
    },
)


class _ThreadJob:
    """The threads of one job. Lives as long as the process, like the threads."""

    def __init__(self, run: Callable[[int], None], slots: int) -> None:
        self._run = run
        self.slots = slots
        self.threads: dict[int, threading.Thread] = {}
        self.raised: dict[int, str] = {}
        self.killed = self.cleaned = False

    def start(self, slot: int) -> None:
        self.raised.pop(slot, None)
        thread = threading.Thread(target=self._main, args=(slot,), name=f"slot-{slot}", daemon=True)
        self.threads[slot] = thread
        thread.start()

    def _main(self, slot: int) -> None:
        try:
            self._run(slot)
        except BaseException as error:  # whatever it is, it must show in the state and not on a terminal
            self.raised[slot] = f"raised {type(error).__name__}: {error}"

    def alive(self, slots: Sequence[int]) -> list[int]:
        return [slot for slot in slots if slot in self.threads and self.threads[slot].is_alive()]

    def wait(self, slots: Sequence[int], seconds: float) -> list[int]:
        """Wait until these threads have ended; returns those that have not."""
        deadline = time.monotonic() + seconds
        for slot in slots:
            thread = self.threads.get(slot)
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return self.alive(slots)


_JOBS: dict[str, _ThreadJob] = {}
"""All thread jobs of this process: client and master make a backend each and must see the same threads."""


class ThreadManager(ResourceManager):
    """Workers are daemon threads of this process, named ``slot-<n>``."""

    offers = OFFERS

    def __init__(self, config: StandaloneConfig, context: RmContext) -> None:
        self._config, self._context = config, context

    def render(self, allocation: Allocation) -> str:
        return (
            f"# {allocation.summary}\n"
            f"# {allocation.n_workers} threads slot-0..slot-{allocation.n_workers - 1} of the submitting process\n"
        )

    def submit(self, allocation: Allocation) -> JobHandle:
        run = allocation.in_process
        if run is None or allocation.world is not None or allocation.master is not None:
            raise SubmissionRefusedError(
                f"rm standalone with threads does not take job {allocation.job_id}",
                why="it runs workers in the calling process only, without a master of their own or a process world",
                remedy="set rm.standalone.workers_as = 'processes'",
                where="rm.standalone.workers_as",
            )
        if self._config.limits or self._config.bind != "none":
            raise SubmissionRefusedError(
                "threads are neither confined nor bound to CPUs",
                why=OFFERS.why["limits"],
                remedy="leave out rm.standalone.limits and rm.standalone.bind, or set rm.standalone.workers_as = "
                "'processes'",
                where="rm.standalone.workers_as",
            )
        _forget_cleaned()
        if allocation.job_id in _JOBS:
            raise SubmissionRefusedError(
                f"job {allocation.job_id} runs already in this process",
                why="job ids are used once",
                remedy="clean the old job first",
            )
        # a thread takes no memory to speak of; what the job asks for per worker is checked all the same
        warnings = check_fit(allocation.groups, 1, allocation.oversubscribe)
        job = _ThreadJob(run, allocation.n_workers)
        _JOBS[allocation.job_id] = job
        for slot in range(allocation.n_workers):
            job.start(slot)
        return _handle(allocation.job_id, warnings)

    def find(self, job_id: str) -> JobHandle | None:
        if job_id not in _JOBS:
            return None
        return _handle(job_id, [])

    def state(self, handle: JobHandle) -> JobStatus:
        job = _JOBS.get(handle.job_id)
        if job is None:
            return JobStatus(JobState.UNKNOWN, f"its workers were threads of process {handle.facts.get('pid', '?')}")
        living = job.alive(range(job.slots))
        slots = {slot: "running" if slot in living else job.raised.get(slot, "exited 0") for slot in range(job.slots)}
        if living:
            return JobStatus(JobState.RUNNING, "", slots)
        if job.killed:
            return JobStatus(JobState.KILLED, "it was killed", slots)
        bad = next((f"slot {slot} {text}" for slot, text in slots.items() if text != "exited 0"), "")
        return JobStatus(JobState.FAILED if bad else JobState.COMPLETED, bad, slots)

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        """Nothing to do: the threads are handed what they need with ``Allocation.in_process``."""
        self._known(handle)

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        job = self._known(handle)
        if world is not None:
            raise CapabilityError(
                f"threads have no {world} world", why=OFFERS.why["worlds"], remedy="use comm_inproc or processes"
            )
        for slot in slots:
            if not job.alive([slot]):
                job.start(slot)

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        self._wait(handle, self._known(handle), slots, grace_s)

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        raise CapabilityError(
            "a job of threads cannot be resized",
            why=OFFERS.why["resizes"],
            remedy="set rm.standalone.workers_as = 'processes'",
        )

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        """Nothing: threads write where the process writes."""
        yield from ()

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        raise ResourceError(
            f"job {handle.job_id} has no master in its allocation",
            why=OFFERS.why["master_in_allocation"],
            remedy="reach the master in the client's process",
        )

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        job = _JOBS.get(handle.job_id)
        if job is None:
            self._refuse_from_afar(handle)
            return
        living = job.alive(range(job.slots))
        job.killed = job.killed or bool(living)
        self._wait(handle, job, living, grace_s)

    def clean(self, handle: JobHandle) -> list[str]:
        job = _JOBS.get(handle.job_id)
        if job is None:
            return []
        living = job.alive(range(job.slots))
        job.cleaned = True
        _forget_cleaned()
        return [f"thread slot-{slot} still runs" for slot in living]

    def close(self) -> None:
        """Nothing is held."""

    def _refuse_from_afar(self, handle: JobHandle) -> None:
        pid, start = handle.facts.get("pid", 0), handle.facts.get("start", 0)
        if pid and pid != os.getpid() and alive(pid, start):
            raise ResourceError(
                f"job {handle.job_id} cannot be killed from here",
                why=f"its workers are threads of process {pid}, which runs",
                remedy=f"interrupt or end process {pid}",
            )

    def _known(self, handle: JobHandle) -> _ThreadJob:
        try:
            return _JOBS[handle.job_id]
        except KeyError:
            raise JobNotFoundError(
                f"job {handle.job_id} is not known in this process",
                why=f"its workers were threads of process {handle.facts.get('pid', '?')}",
                remedy="ask in the process that started it",
            ) from None

    def _wait(self, handle: JobHandle, job: _ThreadJob, slots: Sequence[int], grace_s: float) -> None:
        left = job.wait(slots, grace_s)
        if left:
            names = ", ".join(f"slot-{slot}" for slot in left)
            raise ResourceError(
                f"workers of job {handle.job_id} still run: threads {names}",
                why="a thread cannot be killed; it ends when the master's abort reaches it or its process ends",
                remedy=f"end process {handle.facts.get('pid', '?')}, or use rm.standalone.workers_as = 'processes'",
            )


def _forget_cleaned() -> None:
    """Forget jobs that were cleaned, as soon as their last thread has ended."""
    for job_id, job in [*_JOBS.items()]:
        if job.cleaned and not job.alive(range(job.slots)):
            _JOBS.pop(job_id, None)


def _handle(job_id: str, warnings: list[str]) -> JobHandle:
    pid = os.getpid()
    return JobHandle(NAME, job_id, f"threads-of-{pid}", {"pid": pid, "start": start_of(pid), "warnings": warnings})
