"""What was measured, put together from the results of all workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from twister2.spec.errors import NetworkError

Row = Mapping[str, Any]

COLUMNS = (
    *("operation", "size", "between", "transport", "purpose", "min_s", "median_s", "p99_s", "max_s"),
    *("fastest_rank_s", "slowest_rank_s", "calls", "window", "bytes_per_s", "messages_per_s", "skipped"),
)
"""Of the CSV file; sizes in bytes, times in seconds."""


@attrs.frozen
class Results:
    """Rows as the program of the workers makes them.

    :ivar profile: what was asked for. :ivar facts: of each worker: host, cpu, routes, versions...
    :ivar sweep: between two workers by size. :ivar pairs: between all pairs at one size. :ivar collectives: by size.
    """

    profile: str
    facts: Sequence[Mapping[str, Any]]
    sweep: Sequence[Row]
    pairs: Sequence[Row]
    collectives: Sequence[Row]

    @classmethod
    def of(cls, profile: str, workers: Sequence[Mapping[str, Any]]) -> Results:
        """From what every worker returned."""
        rows = [row for worker in workers for row in worker["rows"]]
        purposes = {kind: [row for row in rows if row.get("purpose") == kind] for kind in ("sweep", "pairs", None)}
        facts = [worker["facts"] for worker in workers]
        return cls(profile, facts, purposes["sweep"], purposes["pairs"], purposes[None])

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [*self.sweep, *self.pairs, *self.collectives]

    @property
    def routes(self) -> dict[tuple[str, bool], list[str]]:
        """Pairs of workers (``"0-1"``) by transport, and by whether they are on one host."""
        found: dict[tuple[str, bool], list[str]] = {}
        for one, facts in enumerate(self.facts):
            for other, transport in sorted(facts["routes"].items()):
                if one < other:
                    same = facts["host"] == self.facts[other]["host"]
                    found.setdefault((transport, same), []).append(f"{one}-{other}")
        return found

    def check(self) -> None:
        """Every answer was right.

        :raises NetworkError: one was not; names what.
        """
        wrong = [f"{row['operation']} of {row['size']} bytes" for row in self.rows if not row.get("right", True)]
        if wrong:
            raise NetworkError(
                f"communication gave wrong answers: {', '.join(wrong)}",
                why="what arrived is not what was sent, or its combination is not that of numpy",
                remedy="measure with another transport (--transport tcp) to see which one is at fault, and report it",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "profile": self.profile,
            "workers": [
                {**facts, "routes": {str(to): name for to, name in facts["routes"].items()}} for facts in self.facts
            ],
            "rows": [dict(row) for row in self.rows],
        }
