"""Records as a table of text, for people who look at some of them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

from twister2_tset.problems import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDEST = 40
"""Characters of one value."""


def table_of(found: Sequence[Any], *, more: bool) -> str:
    """A line for each record: rows by their columns, tuples by their parts, anything else as it is.

    :param more: say that there are others.
    """
    rows = [_row(record) for record in found]
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(row[name]) if name in row else "" for name in names] for row in rows]
    headed = any(isinstance(name, str) for name in names)
    lines = [[str(name) for name in names], *cells] if headed else cells
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(isinstance(row.get(name), (Number, type(None))) for row in rows) for name in names]
    table = [_line(line, widths, right) for line in lines]
    if headed:
        table.insert(1, "  ".join("-" * width for width in widths))
    end = ["(and more)"] if more else [] if found else ["(no records)"]
    return "\n".join([*table, *end])


def _row(record: Any) -> Mapping[Any, Any]:
    """The values of a record by the names of its columns, else by their numbers."""
    if isinstance(record, Mapping):
        return record
    names = getattr(getattr(record, "dtype", None), "names", None)
    if names:
        return dict(zip(names, record.tolist(), strict=True))
    if isinstance(record, tuple):
        return dict(zip(getattr(record, "_fields", range(len(record))), record, strict=True))
    return {0: record}


def _text(value: Any) -> str:
    plain = isinstance(value, str) and value.isprintable() and len(value) <= _WIDEST
    return str(value) if plain or isinstance(value, Number) else short(value, _WIDEST)


def _line(cells: Iterable[str], widths: Iterable[int], right: Iterable[bool]) -> str:
    placed = zip(cells, widths, right, strict=True)
    return "  ".join(cell.rjust(width) if back else cell.ljust(width) for cell, width, back in placed).rstrip()
