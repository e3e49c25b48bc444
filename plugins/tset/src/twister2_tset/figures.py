"""What the steps of a context's graphs did, over all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COUNTED = ("runs", "records", "bytes")
TIMED = ("busy_s", "waiting_s", "blocked_s")
OTHERS = "others"
"""What vertices are called that are not told apart any more, because there were too many."""


def over_workers(parts: Iterable[Mapping[str, Mapping[str, float]]], graph: str) -> dict[str, dict[str, float]]:
    """The sums by vertex of the graphs of one name.

    :param parts: of each worker what ``env.figures()`` gives there.
    """
    prefix = f"{graph}: " if graph else ""
    sums: dict[str, dict[str, float]] = {}
    for part in parts:
        for name, values in part.items():
            if not name.startswith(prefix) and name != OTHERS:
                continue
            total = sums.setdefault(
                name.removeprefix(prefix), {**dict.fromkeys(COUNTED, 0), **dict.fromkeys(TIMED, 0.0)}
            )
            total["runs"] = max(total["runs"], int(values.get("runs", 0)))  # every worker takes part in every run
            total["records"] += int(values.get("records", 0))
            total["bytes"] += int(values.get("bytes", 0))
            for field in TIMED:
                total[field] += values.get(field, 0.0)
    return sums
