"""Counters of a run: summed per vertex and edge, and reported a few times a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from twister2.graph.runtime.runner import TaskRunner
    from twister2.spec.ops import Operator
    from twister2.spec.plan import Plan

Counters: TypeAlias = Mapping[str, Mapping[str, float]]

_EVERY_S = 0.25


def tally(plan: Plan, runners: Iterable[TaskRunner], operators: Mapping[int, Operator]) -> Counters:
    """Sums over the tasks of this worker."""
    figures: dict[str, dict[str, float]] = {}
    for runner in runners:
        counters = runner.counters
        own = {
            "records": counters.records,
            "bytes": round(counters.bytes),
            "busy_s": counters.busy_s,
            "waiting_s": counters.waiting_s,
            "blocked_s": counters.blocked_s,
        }
        if not runner.calling:
            own |= runner.task.counters()
        total = figures.setdefault(f"vertex {runner.place.vertex}", {})
        for name, value in own.items():
            total[name] = total.get(name, 0) + value
    for edge in plan.edges:
        operator = operators.get(edge.number)
        if operator is not None:
            sent = attrs.asdict(operator.counters)
            figures[f"edge {edge.number} {'+'.join(edge.sources)}->{edge.target}"] = {
                "records": sent["records_sent"],
                "bytes": sent["bytes_sent"],
                **sent,
            }
    return figures


class Reporter:
    """Passes counters on a few times a second, and once at the end of a run.

    Not when it just did, unless something was read from outside: observers show sums of that.
    """

    def __init__(self, report: Callable[[Counters], None]) -> None:
        self._report = report
        self._next = 0.0

    def offer(self, now: float, counters: Callable[[], Counters]) -> None:
        """Report when it is time. :param now: ``perf_counter()``."""
        if now >= self._next:
            if self._next:
                self._report(counters())
            self._next = now + _EVERY_S

    def finish(self, counters: Callable[[], Counters]) -> None:
        """The run has ended."""
        now, last = perf_counter(), counters()
        if now >= self._next - _EVERY_S * 0.8 or any(values.get("records_read") for values in last.values()):
            self._report(last)
            self._next = now + _EVERY_S
