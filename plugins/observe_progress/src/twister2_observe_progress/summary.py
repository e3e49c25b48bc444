"""The table at the end: what each vertex of the job's graphs did, over all workers and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2_observe_progress.text import amount, plain
from twister2_observe_progress.text import span as long_span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROWS = 20
"""Vertices that are shown, the busiest of all."""

_WIDEST = 60
_TITLES = ("vertex", "runs", "records", "bytes", "busy", "busiest worker", "waiting", "blocked")


def table(final: Mapping[int, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Lines for a terminal, none when no graph was run.

    :param final: by worker and vertex: ``runs``, ``records``, ``bytes``, ``busy_s``, ``waiting_s``, ``blocked_s``.
    """
    names = list(dict.fromkeys(name for counters in final.values() for name in counters))
    if not names:
        return []
    busy = {name: sum(_get(counters, name, "busy_s") for counters in final.values()) for name in names}
    shown = set(sorted(names, key=lambda name: -busy[name])[:ROWS])
    rows = [_TITLES, *(_row(final, name) for name in names if name in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    if len(names) > ROWS:
        lines.append(f"... and {len(names) - ROWS} vertices that were less busy")
    return lines


def span(seconds: float) -> str:
    """A time, also a short one: ``45 ms``, ``4.2 s``, ``3 min 05 s``."""
    if seconds < 0.0005:
        return "0"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else long_span(seconds)


def _row(final: Mapping[int, Mapping[str, Mapping[str, float]]], name: str) -> Sequence[str]:
    def total(field: str) -> float:
        return sum(_get(counters, name, field) for counters in final.values())

    most, worker = max((_get(counters, name, "busy_s"), -worker) for worker, counters in final.items())
    shown = plain(name)
    return (
        shown if len(shown) <= _WIDEST else f"{shown[: _WIDEST - 3]}...",
        amount(max(_get(counters, name, "runs") for counters in final.values())),
        amount(total("records")),
        f"{amount(total('bytes'))}B",
        span(total("busy_s")),
        f"{-worker} ({span(most)})",
        span(total("waiting_s")),
        span(total("blocked_s")),
    )


def _get(counters: Mapping[str, Mapping[str, float]], name: str, field: str) -> float:
    return float(counters.get(name, {}).get(field, 0.0))
