"""What is known of a job, put together from what its workers report."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.observe import JobFacts, Progress

RATE_WINDOW_S = 3.0
RATES = ("records", "bytes")
READ = ("records_read", "bytes_read")


class WorkerView:
    """The last word of one worker.

    :ivar counters: of the running graph. :ivar before: what earlier graphs counted.
    """

    def __init__(self) -> None:
        self.step = ""
        self.done: float | None = None
        self.total: float | None = None
        self.unit = ""
        self.memory = 0
        self.counters: dict[tuple[str, str], float] = {}
        self.before: dict[tuple[str, str], float] = {}

    def take(self, progress: Progress) -> None:
        """Take in a report; one of counters says nothing of ``done`` and the other way round."""
        self.memory = progress.memory or self.memory
        if progress.counters:
            self.step = progress.step
            for name, values in progress.counters.items():
                for field in (*RATES, *READ):
                    value = float(values.get(field, 0.0))
                    key = (name, field)
                    last = self.counters.get(key, 0.0)
                    if value < last:
                        self.before[key] = self.before.get(key, 0.0) + last
                    self.counters[key] = value
        else:
            self.step = progress.step or self.step
            self.done, self.total, self.unit = progress.done, progress.total, progress.unit


class JobView:
    """One job as displays show it."""

    def __init__(self, job: JobFacts, clock: Callable[[], float] = time.monotonic) -> None:
        self.job, self._clock = job, clock
        self.state, self.reason = "queued", ""
        self.attempt = 0
        self.n_workers = job.n_workers
        self.joined: set[int] = set()
        self.checkpoint: int | None = None
        self.workers: dict[int, WorkerView] = {}
        self.final: dict[int, Mapping[str, Mapping[str, float]]] = {}
        """By worker: what graphs did there in all, once its program has ended."""
        self._begun = clock()
        self._samples: deque[tuple[float, dict[str, float]]] = deque()

    @property
    def seconds(self) -> float:
        """Seconds since the job was submitted."""
        return self._clock() - self._begun

    @property
    def memory(self) -> int:
        """Resident bytes of all user processes."""
        return sum(worker.memory for worker in self.workers.values())

    @property
    def step(self) -> str:
        """What most workers are doing."""
        steps = [worker.step for worker in self.workers.values() if worker.step]
        return max(set(steps), key=lambda step: (steps.count(step), step)) if steps else ""

    def start_attempt(self, attempt: int, n_workers: int) -> None:
        """All workers of an attempt have joined; what earlier attempts reported is void."""
        if attempt != self.attempt:
            self.workers.clear()
            self.final.clear()
            self._samples.clear()
        self.attempt, self.n_workers = attempt, n_workers
        self.joined = set(range(n_workers))

    def take(self, progress: Progress) -> None:
        """A worker's report; late ones of earlier attempts are dropped."""
        if progress.attempt and self.attempt and progress.attempt < self.attempt:
            return
        if progress.final:
            self.final[progress.worker_id] = progress.counters
            return
        self.workers.setdefault(progress.worker_id, WorkerView()).take(progress)
        now = self._clock()
        self._samples.append((now, self.totals()))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()

    def done(self) -> tuple[float, float | None, str] | None:
        """Done, total (None: unknown) and unit over all workers that report it."""
        told = [worker for worker in self.workers.values() if worker.done is not None]
        if not told:
            return None
        totals = [worker.total for worker in told]
        total = None if None in totals or len(told) < self.n_workers else sum(each or 0.0 for each in totals)
        return sum(worker.done or 0.0 for worker in told), total, told[-1].unit

    def totals(self) -> dict[str, float]:
        """Records and bytes: of the vertex or edge that had most, as a record passes several."""
        sums = self._sums()
        return {field: max((value for key, value in sums.items() if key[1] == field), default=0.0) for field in RATES}

    def read(self) -> tuple[float, float]:
        """Records and bytes that came from outside: what sources say that they have read."""
        sums = self._sums()
        records, n_bytes = (sum(value for key, value in sums.items() if key[1] == field) for field in READ)
        return records, n_bytes

    def _sums(self) -> dict[tuple[str, str], float]:
        sums: dict[tuple[str, str], float] = {}
        for worker in self.workers.values():
            for counted in (worker.counters, worker.before):
                for key, value in counted.items():
                    sums[key] = sums.get(key, 0.0) + value
        return sums

    def rates(self) -> dict[str, float]:
        """Records and bytes per second over the last few seconds."""
        if len(self._samples) < 2:
            return dict.fromkeys(RATES, 0.0)
        (begin, first), (end, last) = self._samples[0], self._samples[-1]
        seconds = max(end - begin, 1e-3)
        return {field: max(0.0, last[field] - first[field]) / seconds for field in RATES}
