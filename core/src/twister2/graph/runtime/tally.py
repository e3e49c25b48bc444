"""Counters of a run: summed per vertex and edge, and reported a few times a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

import attrs

from twister2.spec.network import EdgeCounters
from twister2.spec.tasks import has_own

if TYPE_CHECKING:
    from twister2.graph.runtime.runner import TaskRunner
    from twister2.spec.ops import Operator
    from twister2.spec.plan import Plan

Counters: TypeAlias = Mapping[str, Mapping[str, float]]

_EVERY_S = 0.25
_FIELDS = tuple(field.name for field in attrs.fields(EdgeCounters))


def edge_titles(plan: Plan) -> list[tuple[int, str]]:
    """The edges by number, as counters name them."""
    return [(edge.number, f"edge {edge.number} {'+'.join(edge.sources)}->{edge.target}") for edge in plan.edges]


def tally(
    edges: Iterable[tuple[int, str]], runners: Iterable[TaskRunner], operators: Mapping[int, Operator]
) -> Counters:
    """Sums over the tasks of this worker. :param edges: of :func:`edge_titles`."""
    figures: dict[str, dict[str, float]] = {}
    for runner in runners:
        counters = runner.counters
        own: dict[str, float] = {
            "records": counters.records,
            "bytes": round(counters.bytes),
            "busy_s": counters.busy_s,
            "waiting_s": counters.waiting_s,
            "blocked_s": counters.blocked_s,
        }
        if not runner.calling and has_own(runner.task, "counters"):
            own |= runner.task.counters()
        total = figures.get(runner.title)
        if total is None:
            figures[runner.title] = own
            continue
        for name, value in own.items():
            total[name] = total.get(name, 0) + value
    for number, title in edges:
        operator = operators.get(number)
        if operator is not None:
            sent = operator.counters
            own = {"records": sent.records_sent, "bytes": sent.bytes_sent}
            for name in _FIELDS:
                own[name] = getattr(sent, name)
            figures[title] = own
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

    def finish(self, last: Counters) -> None:
        """The run has ended. :param last: what it did."""
        now = perf_counter()
        if now >= self._next - _EVERY_S * 0.8 or any(values.get("records_read") for values in last.values()):
            self._report(last)
            self._next = now + _EVERY_S
