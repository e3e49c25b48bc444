"""Kind ``observe``: life-cycle observers, any number at once.

An observer is called where it says (:attr:`ObserveSpec.where`): in the client (a progress display) or in the job master
(a metrics endpoint). Calls come from one thread of the observer's own, in order; they should return within 50 ms and
must not raise: an observer that raises, or whose call lasts longer than 5 s, is disabled and reported, the job
goes on. Return values are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from twister2.spec.plugin import PluginSpec, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEvent


@attrs.frozen(eq=False, repr=False)
class JobFacts(Value):
    """What is known of a job when it starts."""

    job_id: str
    name: str
    n_workers: int
    rm: str
    program: str


@attrs.frozen(eq=False, repr=False)
class Progress(Value):
    """Progress and counters of one worker, sent at most a few times a second.

    :ivar step: what the worker is doing now (``"run word-count"``), empty between steps.
    :ivar done: units done, in ``unit``; :ivar total: all there is, or None when unknown.
    :ivar counters: per vertex or edge: records, bytes, busy_s, waiting_s, blocked_s.
    :ivar memory: resident bytes of the user process.
    :ivar final: what all graphs did on this worker in this attempt, told once when its program has ended well:
        ``counters`` are sums over all runs, by ``"graph: vertex"``, with ``runs``. Other reports are of one run each.
    :ivar runs: with ``final``: how often graphs were run.
    """

    worker_id: int
    attempt: int
    step: str
    done: float
    total: float | None
    unit: str
    counters: Mapping[str, Mapping[str, float]]
    memory: int
    final: bool = False
    runs: int = 0


class ObserveSpec(PluginSpec):
    """Base of every ``twister2.observe`` plugin. Implement the hooks you need."""

    kind: ClassVar[str] = "observe"
    where: ClassVar[Literal["client", "master"]] = "client"

    @hookspec
    def observe_start(self, config: Any, job: JobFacts) -> None:
        """The observer is selected and the job was submitted: the first call."""

    @hookspec
    def job_state(self, job_id: str, state: str, reason: str) -> None:
        """The job changed its state (:class:`twister2.spec.rm.JobState` value), with the reason in plain words."""

    @hookspec
    def attempt_started(self, job_id: str, attempt: int, n_workers: int) -> None:
        """All workers of an attempt have joined."""

    @hookspec
    def worker_event(self, job_id: str, event: WorkerEvent) -> None:
        """A worker joined, was lost, restarted (a new copy joined a later attempt), or the job was scaled."""

    @hookspec
    def progress(self, job_id: str, progress: Progress) -> None:
        """A worker reports how far it is."""

    @hookspec
    def checkpoint_committed(self, job_id: str, number: int) -> None:
        """A checkpoint is complete."""

    @hookspec
    def output(self, job_id: str, worker_id: int, stream: str, text: str) -> None:
        """Before text of a worker (stdout, stderr, log; ``worker_id`` -1: of the job itself) is shown: a display can
        step aside, for up to 0.2 s. The text is a piece as it came: part of a line, or many lines.
        """

    @hookspec
    def job_ended(self, job_id: str, state: str, reason: str, seconds: float) -> None:
        """The last call; it has a second, then the process may end."""
