"""What graphs did on this worker, summed over all their runs: told once, when the attempt ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST = 256
"""Vertices that are told apart; what others did is summed up as ``OTHERS``."""

OTHERS = "others"

SUMMED = ("records", "bytes", "busy_s", "waiting_s", "blocked_s", "records_read", "bytes_read")

_VERTEX = "vertex "


class Figures:
    """Sums by vertex. :ivar runs: of all graphs."""

    def __init__(self) -> None:
        self.runs = 0
        self._totals: dict[tuple[str, str], dict[str, float]] = {}

    def add(self, graph: str, counters: Mapping[str, Mapping[str, float]]) -> None:
        """Count a run in: an execution's counters, of which those of vertices are taken."""
        self.runs += 1
        totals = self._totals
        for name, values in counters.items():
            if not name.startswith(_VERTEX):
                continue
            total = totals.get((graph, name))
            if total is None:
                key = (graph, name) if len(totals) < MOST else ("", OTHERS)
                total = totals.setdefault(key, {"runs": 0.0})
            total["runs"] += 1
            for field in SUMMED:
                value = values.get(field)
                if value:
                    total[field] = total.get(field, 0.0) + value

    def merge(self, other: Figures) -> None:
        """Count in what others have summed."""
        self.runs += other.runs
        for (graph, name), values in other._totals.items():
            key = (graph, name) if len(self._totals) < MOST or (graph, name) in self._totals else ("", OTHERS)
            total = self._totals.setdefault(key, {})
            for field, value in values.items():
                total[field] = total.get(field, 0.0) + value

    def by_vertex(self) -> dict[str, dict[str, float]]:
        """As :meth:`totals`, of the runs of one graph: by the vertex's name alone."""
        return {name.removeprefix(_VERTEX): dict(total) for (_, name), total in self._totals.items()}

    def totals(self) -> dict[str, dict[str, float]]:
        """By ``"graph: vertex name"``: runs, and the sums of :data:`SUMMED` that are not zero."""
        return {
            ": ".join(part for part in (graph, name.removeprefix(_VERTEX)) if part): dict(total)
            for (graph, name), total in self._totals.items()
        }
