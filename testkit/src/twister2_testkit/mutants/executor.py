"""Executors with one fault each; :class:`twister2_testkit.executor.ExecutorSuite` must reject every one.

All are the shared execution with tasks or methods that are tampered with.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph.runtime import PlanExecution
from twister2.spec.executor import Execution, Executor, ExecutorContext, Snapshot
from twister2.spec.tasks import Compute, Sink, Source, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.network import Step
    from twister2.spec.plan import Plan, VertexPlan


class Sound(Executor):
    """An executor without a fault; mutants override one method."""

    def __init__(self, context: ExecutorContext) -> None:
        self.context = context

    def prepare(self, plan: Plan) -> Execution:
        """Prepare a plan whose tasks are tampered with."""
        if plan.mode != "batch":
            raise self.refusal(plan)
        vertices = tuple(attrs.evolve(vertex, make=self._tampered(vertex)) for vertex in plan.vertices)
        return self.execution(attrs.evolve(plan, vertices=vertices))

    def refusal(self, plan: Plan) -> Exception:
        """The error for a mode it does not do."""
        from twister2.spec.errors import GraphError

        return GraphError(f"no {plan.mode} graphs", why="batch only", remedy="use another executor")

    def execution(self, plan: Plan) -> Execution:
        """The execution of a tampered plan."""
        return PlanExecution(plan, self.context)

    def _tampered(self, vertex: VertexPlan) -> Callable[[int], Task]:
        def make(index: int) -> Task:
            task = vertex.make(index)
            self.tamper(task)
            return task

        return make

    def tamper(self, task: Any) -> None:
        """Break something of a task."""

    def close(self) -> None:
        """Nothing to release."""


class LosesEnd(Sound):
    """Never tells a compute that its inputs have ended."""

    def tamper(self, task: Any) -> None:
        """Drop ``finish``."""
        if isinstance(task, Compute):
            task.finish = lambda emit: None  # type: ignore[method-assign]


class SkipsClose(Sound):
    """Does not close sinks."""

    def tamper(self, task: Any) -> None:
        """Drop ``close``."""
        if isinstance(task, Sink):
            task.close = lambda: None  # type: ignore[method-assign]


class ClosesTwice(Sound):
    """Closes each source twice."""

    def tamper(self, task: Any) -> None:
        """Double ``close``."""
        if isinstance(task, Source):
            close = task.close

            def twice() -> None:
                close()
                close()

            task.close = twice  # type: ignore[method-assign]


class CommitsTwice(Sound):
    """Commits each sink twice."""

    def tamper(self, task: Any) -> None:
        """Double ``commit``."""
        if isinstance(task, Sink):
            commit = task.commit

            def twice(committables: list[Any]) -> None:
                commit(committables)
                commit(committables)

            task.commit = twice  # type: ignore[method-assign]


class NeverCommits(Sound):
    """Forgets the commit."""

    def tamper(self, task: Any) -> None:
        """Drop ``commit``."""
        if isinstance(task, Sink):
            task.commit = lambda committables: None  # type: ignore[method-assign]


class ForgetsAbort(Sound):
    """Does not abort sinks when something failed."""

    def tamper(self, task: Any) -> None:
        """Drop ``abort``."""
        if isinstance(task, Sink):
            task.abort = lambda: None  # type: ignore[method-assign]


class Reorders(Sound):
    """Swaps the first two batches of each sink."""

    def tamper(self, task: Any) -> None:
        """Hold back the first batch until the second."""
        if not isinstance(task, Sink):
            return
        write, prepare = task.write, task.prepare
        held: list[tuple[Any, str] | None] = []

        def late(batch: Any, edge: str) -> None:
            if not held:
                held.append((batch, edge))
                return
            write(batch, edge)
            if held[0] is not None:
                write(*held[0])
                held[0] = None

        def prepared(checkpoint: int) -> list[Any]:
            if held and held[0] is not None:
                write(*held[0])
                held[0] = None
            return prepare(checkpoint)

        task.write, task.prepare = late, prepared  # type: ignore[method-assign]


class LosesBatch(Sound):
    """Drops the last batch of each source, by ending one batch early."""

    def tamper(self, task: Any) -> None:
        """Keep one batch behind and forget it."""
        if not isinstance(task, Source):
            return
        poll = task.poll
        held: list[Any] = []

        def behind() -> Any:
            batch = poll()
            if not isinstance(batch, list):
                return batch
            held.append(batch)
            return held.pop(0) if len(held) > 1 else None

        task.poll = behind  # type: ignore[method-assign]


class TwoThreads(Sound):
    """Calls a compute from threads of its own without waiting for the call before."""

    def tamper(self, task: Any) -> None:
        """Process in the background, and wait for all at the end."""
        if not isinstance(task, Compute):
            return
        process, finish = task.process, task.finish
        threads: list[threading.Thread] = []

        def background(batch: Any, emit: Any, edge: str) -> None:
            threads.append(threading.Thread(target=process, args=(batch, emit, edge), daemon=True))
            threads[-1].start()

        def joined(emit: Any) -> None:
            for thread in threads:
                thread.join()
            finish(emit)

        task.process, task.finish = background, joined  # type: ignore[method-assign]


class Wrapped(Execution):
    """Passes everything on to a sound execution."""

    def __init__(self, sound: PlanExecution) -> None:
        self.sound = sound

    def start(self, step: Step, restore: Snapshot | None = None) -> None:
        """As the sound one."""
        self.sound.start(step, restore)

    def step(self, budget_s: float = 0.05) -> bool:
        """As the sound one."""
        return self.sound.step(budget_s)

    def run(self) -> Mapping[str, list[Any]]:
        """As the sound one."""
        return self.sound.run()

    def checkpoint(self, number: int) -> None:
        """As the sound one."""
        self.sound.checkpoint(number)

    def snapshot(self) -> Snapshot | None:
        """As the sound one."""
        return self.sound.snapshot()

    def drain(self) -> None:
        """As the sound one."""
        self.sound.drain()

    def cancel(self) -> None:
        """As the sound one."""
        self.sound.cancel()

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """As the sound one."""
        return self.sound.counters()

    def close(self) -> None:
        """As the sound one."""
        self.sound.close()


class IgnoresCancel(Sound):
    """Does nothing when it is cancelled."""

    def execution(self, plan: Plan) -> Execution:
        """An execution that cannot be cancelled."""

        class Uncancelled(Wrapped):
            def cancel(self) -> None:
                return

        return Uncancelled(PlanExecution(plan, self.context))


class IgnoresDrain(Sound):
    """Cancels where it should drain: what is in flight is lost."""

    def execution(self, plan: Plan) -> Execution:
        """An execution that drops what is in flight."""

        class Dropping(Wrapped):
            def drain(self) -> None:
                self.sound.cancel()

        return Dropping(PlanExecution(plan, self.context))


class Spins(Sound):
    """Never sleeps."""

    def execution(self, plan: Plan) -> Execution:
        """An execution that waits by counting the time."""

        class Spinning(PlanExecution):
            def _rest(self, limit_s: float) -> None:
                end = time.perf_counter() + limit_s
                while time.perf_counter() < end:
                    pass

        return Spinning(plan, self.context)


class StaleTasks(Sound):
    """Uses the tasks of the first run again."""

    def _tampered(self, vertex: VertexPlan) -> Callable[[int], Task]:
        made: dict[int, Task] = {}

        def make(index: int) -> Task:
            if index not in made:
                made[index] = vertex.make(index)
            return made[index]

        return make


MUTANTS = (
    LosesEnd,
    SkipsClose,
    ClosesTwice,
    CommitsTwice,
    NeverCommits,
    ForgetsAbort,
    Reorders,
    LosesBatch,
    TwoThreads,
    IgnoresCancel,
    IgnoresDrain,
    Spins,
    StaleTasks,
)
"""All of them."""
