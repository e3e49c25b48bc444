"""A plan prepared on one worker: the execution that executors share.

One thread runs everything. A round gives every task a turn, then lets the operators progress, then the network; when
nothing moved, the thread sleeps in ``network.wait``. Operators are made once and reset for each further run; tasks are
made anew for each run.
"""

from __future__ import annotations

from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from twister2.graph.runtime.build import (
    Place,
    make_operators,
    make_runners,
    places_on,
    task_context,
    workers_by_name,
)
from twister2.graph.runtime.commit import commit_sinks
from twister2.graph.runtime.consumers import SinkRunner
from twister2.graph.runtime.sources import SourceRunner
from twister2.graph.runtime.tally import Counters, Reporter, edge_titles, tally
from twister2.spec.errors import GraphError, UsageError
from twister2.spec.executor import Execution, ExecutorContext, Snapshot
from twister2.spec.tasks import has_own

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twister2.graph.runtime.pool import Pool
    from twister2.graph.runtime.runner import TaskRunner
    from twister2.spec.network import Step
    from twister2.spec.ops import Operator
    from twister2.spec.plan import Plan

_LONGEST_SLEEP_S = 0.05
"""Bound on one sleep: room in the memory budget comes back without a message."""
_SHORTEST_SLEEP_S = 0.0005
_POOL_SLEEP_S = 0.002
_CLOSING_DEADLINE_S = 5.0


class PlanExecution(Execution):
    """Runs a worker's share of a plan in the calling thread.

    :param pool: for tasks that declare to block or to release the GIL; None runs them here too.
    :param quantum: items a task may handle in one turn.
    """

    def __init__(self, plan: Plan, context: ExecutorContext, *, pool: Pool | None = None, quantum: int = 8) -> None:
        self.plan = plan
        self._context = context
        self._workers = workers_by_name(plan)
        self._sinks = [vertex.name for vertex in plan.vertices if vertex.kind == "sink"]
        self._committing = [vertex.name for vertex in plan.vertices if vertex.kind == "sink" and vertex.two_phase]
        self._places: list[Place] | None = None
        self._pool = pool
        self._quantum = quantum
        self._operators: dict[int, Operator] = {}
        self._runners: list[TaskRunner] = []
        self._ready: list[TaskRunner] = []
        """Between runs: the runners of the last one, for the next."""
        self._active: list[TaskRunner] = []
        self._running = False
        self._complete = False
        self._committed = False
        self._sleep_s = _SHORTEST_SLEEP_S
        self._checkpoint = 0
        self._asked: list[int] = []
        self._taken: dict[int, dict[str, bytes]] = {}
        self._reported: dict[int, set[str]] = {}
        self._snapshot: Snapshot | None = None
        self._titles = edge_titles(plan)
        self._figures: Counters = {}
        self._reporter = Reporter(context.report)

    # -- a run ---------------------------------------------------------------------------------------------------------

    def start(self, step: Step, restore: Snapshot | None = None) -> None:
        """Make and open tasks and operators for a run in ``step``."""
        if self._running:
            raise UsageError(
                f"plan {self.plan.name!r} is started while it runs",
                why="an execution does one run at a time",
                remedy="run it to its end, or cancel it, first",
            )
        self._running, self._complete, self._committed = True, False, False
        self._asked, self._snapshot = [], None
        self._taken.clear()
        self._reported.clear()
        self._checkpoint = restore.checkpoint if restore is not None else 0
        try:
            self._start_operators(step)
            if self._places is None:
                self._places = places_on(self.plan, self._context.worker_id)
            self._runners = make_runners(self._places, self._context, self._operators, step, self._pool, self._ready)
            self._ready = []
            self._open_tasks(step, self._places)
            if restore is not None:
                self._restore(restore)
        except BaseException:
            self.cancel()
            raise
        self._active = list(self._runners)

    def _start_operators(self, step: Step) -> None:
        if self._operators:
            for operator in self._operators.values():
                operator.reset(step)
        else:
            self._operators = make_operators(self.plan, self._context, step)

    def _open_tasks(self, step: Step, places: list[Place]) -> None:
        for runner, place in zip(self._runners, places, strict=True):
            runner.opened = True  # also when open raises: close follows, for what it did
            if has_own(runner.task, "open"):
                context = task_context(runner, place.vertex, self._workers, self._context, step, self._checkpoint)
                runner.guarded("open", runner.task.open, context)

    def _restore(self, snapshot: Snapshot) -> None:
        for runner in self._runners:
            state = snapshot.tasks.get(_key(runner))
            if state is not None:
                runner.guarded("restore", runner.task.restore, state)
        for number, operator in self._operators.items():
            held = snapshot.operators.get(f"edge/{number}")
            if held is not None:
                operator.restore(held)

    def step(self, budget_s: float = 0.05) -> bool:
        """Work for about ``budget_s`` seconds; whether the run is complete here."""
        self._need_run("step")
        end = perf_counter() + budget_s
        while not self._complete:
            worked = self._round()
            now = perf_counter()
            self._reporter.offer(now, self.counters)
            if now >= end:
                break
            if worked:
                self._sleep_s = _SHORTEST_SLEEP_S
            elif not self._complete:
                self._rest(end - now)
        return self._complete

    def _round(self) -> bool:
        worked = ended = False
        for runner in self._active:
            if runner.turn(self._quantum):
                worked = True
            if runner.snapshots:
                self._take_snapshots(runner)
            if runner.done:
                ended = True
        if ended:
            self._active = [runner for runner in self._active if not runner.done]
            if self._asked:
                self._check_snapshots()
        for operator in self._operators.values():
            if operator.progress():
                worked = True
        if not self._active and all([operator.is_complete for operator in self._operators.values()]):
            self._complete = True
            return True
        return self._context.network.progress() or worked

    def _rest(self, limit_s: float) -> None:
        limit_s = min(limit_s, _LONGEST_SLEEP_S)
        due = [runner.due_ns for runner in self._active if runner.due_ns is not None]
        if due:
            limit_s = max(0.0, min(limit_s, (min(due) - time_ns()) * 1e-9))
        if self._pool is not None and any(runner.calling for runner in self._active):
            self._pool.wait(min(limit_s, _POOL_SLEEP_S))
        elif any(runner.quiet for runner in self._active):
            self._context.network.wait(min(limit_s, self._sleep_s))
            self._sleep_s = min(self._sleep_s * 2, 0.01)
        else:
            self._context.network.idle(limit_s)

    def run(self) -> Mapping[str, list[Any]]:
        """Run to the end, commit the sinks, close the tasks; the outputs kept on this worker."""
        self._need_run("run")
        try:
            while not self.step(0.2):
                pass
            sinks = [runner for runner in self._runners if isinstance(runner, SinkRunner)]
            if self._committing:
                context, checkpoint = self._context, self._checkpoint + 1
                commit_sinks(self.plan.name, self._committing, sinks, context.network, context.worker_id, checkpoint)
            self._committed = True
            outputs: dict[str, list[Any]] = {name: [] for name in self._sinks}
            for sink in sinks:
                outputs[sink.place.vertex].append(sink.guarded("output", sink.task.output))
            self._close_tasks(perf_counter() + _CLOSING_DEADLINE_S)
        except BaseException:
            self.cancel()
            raise
        self._end_run()
        self._reporter.finish(self._figures)
        return outputs

    def _end_run(self) -> None:
        """Keep the figures of the run, and let go of its tasks and what they hold."""
        self._figures = self.counters()
        for runner in self._runners:
            runner.release()
        self._ready = self._runners if self._operators else []
        self._runners, self._active = [], []
        self._running = False

    def _need_run(self, what: str) -> None:
        if not self._running:
            raise UsageError(
                f"{what}() of plan {self.plan.name!r} without a run",
                why="start() begins a run; it ends with run(), cancel() or an error",
                remedy="call start(step) first",
            )

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def checkpoint(self, number: int) -> None:
        """Send BARRIER ``number`` from all local sources that have not ended."""
        self._need_run("checkpoint")
        self._asked.append(number)
        self._taken[number], self._reported[number] = {}, set()
        for runner in self._active:
            if isinstance(runner, SourceRunner):
                runner.checkpoint(number)
        self._check_snapshots()

    def _take_snapshots(self, runner: TaskRunner) -> None:
        for number, state in runner.snapshots.items():
            if number not in self._taken:
                # A barrier from elsewhere may come before this worker is asked for the checkpoint.
                self._asked.append(number)
                self._taken[number], self._reported[number] = {}, set()
            self._reported[number].add(_key(runner))
            if state is not None:
                self._taken[number][_key(runner)] = state
        runner.snapshots.clear()
        self._check_snapshots()

    def _check_snapshots(self) -> None:
        """Close every checkpoint that all local tasks have reported; a task that has ended reports its last state."""
        for number in list(self._asked):
            for runner in self._runners:
                key = _key(runner)
                if runner.done and key not in self._reported[number]:
                    state = runner.guarded("snapshot", runner.task.snapshot)
                    self._reported[number].add(key)
                    if state is not None:
                        self._taken[number][key] = state
            if len(self._reported[number]) == len(self._runners):
                held = {f"edge/{n}": operator.snapshot() for n, operator in self._operators.items()}
                states = {name: state for name, state in held.items() if state is not None}
                self._asked.remove(number)
                del self._reported[number]
                self._snapshot = Snapshot(number, self._taken.pop(number), states)

    def snapshot(self) -> Snapshot | None:
        """The last complete checkpoint of this run."""
        return self._snapshot

    # -- ends ----------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Stop the sources; what is in flight still arrives."""
        self._need_run("drain")
        for runner in self._active:
            if isinstance(runner, SourceRunner):
                runner.drain()

    def cancel(self) -> None:
        """Stop now: abort sinks that have not committed, close tasks and operators."""
        end = perf_counter() + _CLOSING_DEADLINE_S
        if self._running and not self._committed:
            for runner in self._runners:
                if isinstance(runner, SinkRunner) and runner.opened and self._is_free(runner, end):
                    self._quietly(runner, "abort", runner.task.abort)
        self._close_tasks(end, quietly=True)
        self._close_operators()
        if self._running:
            self._end_run()

    def close(self) -> None:
        """Close tasks and operators for good."""
        self.cancel()

    def _is_free(self, runner: TaskRunner, end: float) -> bool:
        """Whether no other thread is in the task any more; waits for it until ``end``."""
        while not runner.settle() and perf_counter() < end:
            if self._pool is not None:
                self._pool.wait(0.01)
        return not runner.calling

    def _close_tasks(self, end: float, *, quietly: bool = False) -> None:
        for runner in reversed(self._runners):
            if not runner.opened:
                continue
            runner.opened = False
            if runner.calling and not self._is_free(runner, end):
                self._context.log.warning(
                    "%s task %d is still in a call after %g s; it is not closed",
                    runner.place.vertex,
                    runner.place.index,
                    _CLOSING_DEADLINE_S,
                )
            elif not has_own(runner.task, "close"):
                continue
            elif quietly:
                self._quietly(runner, "close", runner.task.close)
            else:
                runner.guarded("close", runner.task.close)

    def _quietly(self, runner: TaskRunner, doing: str, function: Any) -> None:
        """Call a method while another error is under way: what it raises is logged, so that the first cause stays."""
        try:
            function()
        except Exception as error:
            self._context.log.warning("%s: %s() raised %r", runner.place, doing, error)

    def _close_operators(self) -> None:
        operators, self._operators = self._operators, {}
        self._ready = []
        for operator in operators.values():
            try:
                operator.close()
            except Exception as error:
                self._context.log.warning("an operator's close() raised %r", error)

    # -- figures -------------------------------------------------------------------------------------------------------

    def counters(self) -> Counters:
        """Counters per vertex and edge of this run (of the last one, between runs)."""
        return tally(self._titles, self._runners, self._operators) if self._running else self._figures


def _key(runner: TaskRunner) -> str:
    return f"{runner.place.vertex}/{runner.place.index}"


def check_mode(plan: Plan, modes: Collection[str], executor: str) -> None:
    """Refuse a plan of a mode that an executor does not do.

    :raises GraphError: names plan, mode and executor.
    """
    if plan.mode not in modes:
        raise GraphError(
            f"executor {executor!r} does not run graphs of mode {plan.mode!r}",
            why=f"it declares the modes {', '.join(sorted(modes))}",
            remedy="build the graph in one of these modes, or choose another executor with job.exec",
            where=f"graph {plan.name!r}",
        )
