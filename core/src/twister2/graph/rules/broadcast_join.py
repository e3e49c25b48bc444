"""Rule ``broadcast_join``: a small side of a join goes to all tasks, and the large one stays where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from twister2.graph.rules.rule import Rule
from twister2.graph.rules.ways import by_hash, is_indifferent, lies_for, sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan

_SIDES = ("left", "right")
_LEAVES_OPEN = {"how": None, "algorithm": "hash", "left_key": None, "right_key": None, "left_schema": None,
                "right_schema": None}  # fmt: skip
"""Options that say nothing of where records go; those with a value only when they have that."""


class BroadcastJoin(Rule):
    """Sets the option ``broadcast`` of operators that declare ``broadcasts``, where that sends less."""

    name: ClassVar[str] = "broadcast_join"
    explanation: ClassVar[str] = "a small side goes to all tasks of a join, so that the other is not sent at all"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Look at every edge of two inputs."""
        known, lying = sizes(plan, catalog), by_hash(plan, catalog)
        edges, lines = [], []
        for edge in plan.edges:
            side = self._side(plan, edge, catalog, known, lying)
            if side is None:
                edges.append(edge)
                continue
            small, large = (edge.sources[index] for index in (_SIDES.index(side), 1 - _SIDES.index(side)))
            edges.append(attrs.evolve(edge, options={**edge.options, "broadcast": side}))
            size = f"about {_shown(known[large])}" if large in known else "of unknown size"
            lines.append(
                f"{edge.target}: the {side} side, {small}, about {_shown(known[small])} of at most "
                f"{_shown(plan.broadcast_bytes)}, goes to all {plan.vertex(edge.target).parallelism} tasks; {large}, "
                f"{size}, stays where it is"
            )
        return (attrs.evolve(plan, edges=tuple(edges)), lines) if lines else (plan, [])

    @staticmethod
    def _side(
        plan: LogicalPlan,
        edge: LogicalEdge,
        catalog: Catalog,
        known: Mapping[str, int],
        lying: Mapping[str, tuple[str, ...]],
    ) -> str | None:
        """Which side goes to all tasks; None for neither."""
        info, target = catalog.info(edge.operator), plan.vertex(edge.target)
        if (
            info is None
            or not info.broadcasts
            or len(edge.sources) != len(_SIDES)
            or plan.mode != "batch"
            or target.parallelism == 1
            or not _is_open(edge)
            or not is_indifferent(plan, edge.target, catalog)
        ):
            return None
        how = edge.options.get("how", info.options["how"].default)
        found = []
        for side in info.broadcasts.get(how, ()):
            number = 1 - _SIDES.index(side)
            small, large = edge.sources[1 - number], edge.sources[number]
            tasks = plan.vertex(large).parallelism
            if (
                known.get(small, plan.broadcast_bytes + 1) <= plan.broadcast_bytes
                and (large not in known or known[small] * target.parallelism < known[small] + known[large])
                and tasks >= target.parallelism  # else some targets would have nothing to do
                and not lies_for(plan, edge, number, lying, catalog)  # it stays anyway: rule colocate
            ):
                found.append((known[small], side))
        return min(found)[1] if found else None


def _is_open(edge: LogicalEdge) -> bool:
    """Whether the program leaves it to the system where records go."""
    return all(
        name in _LEAVES_OPEN and (_LEAVES_OPEN[name] is None or value == _LEAVES_OPEN[name])
        for name, value in edge.options.items()
    )


def _shown(size: int) -> str:
    return f"{size:,} bytes" if size < 1 << 18 else f"{size / (1 << 20):,.1f} MiB"
