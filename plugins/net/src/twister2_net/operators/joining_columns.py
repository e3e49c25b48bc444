"""Joining two Arrow tables in memory: rows by numbers for their keys, both sides gathered by pyarrow."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import OperatorError
from twister2_net.operators.joining_keys import common, filled
from twister2_net.operators.joining_parts import cut, in_threads
from twister2_net.schemas import names_of_right
from twister2_net.spilling.sorted_columns import codes, described, flat, unusable_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_net.spilling.sorted_columns import ArrowForm

_JOIN_TYPES = {"inner": "inner", "left": "left outer", "right": "right outer", "full": "full outer"}
LEFT_ALONE = ("semi", "anti")
"""Kinds whose result has nothing of the right: records of the left that have a partner, or have none."""
_WORTH = 1 << 14
"""Rows of both sides from which on pyarrow joins them."""
_TAKEN = 1 << 17
"""Rows that are gathered at once."""

_SAMPLE = 10_000
_FEW = 1 << 22
"""Rows of a join that may always be made at once."""
_MANY = 8.0
"""Rows of a join for each row of its sides, above which they are not made all at once."""


def joined(
    tables: Sequence[Any], forms: Sequence[ArrowForm], how: str, label: str, *, in_order: bool, rows: int
) -> Iterator[Any]:
    """The join of two tables, in parts of about ``rows`` rows. Rows of the left keep their order, those of the right
    without a partner follow; ``in_order``: all are sorted by key.

    :param tables: left and right; None for a side whose columns nobody knows.
    :raises OperatorError: the key columns of both sides cannot be compared.
    """
    import numpy
    import pyarrow

    if all(table is None for table in tables):
        return
    left, right = (_keys_alone(forms, tables, side) if table is None else table for side, table in enumerate(tables))
    if in_order:
        left, right = forms[0].sorted([left]), forms[1].sorted([right])
    else:
        left, right = left.combine_chunks(), right.combine_chunks()  # rows of columns in pieces are taken slowly
        if how not in LEFT_ALONE and left.num_rows + right.num_rows >= _WORTH:
            found = _by_pyarrow(left, right, forms, how, label, rows)
            if found is not None:
                yield from found
                return
    mine, theirs = _codes(left, right, forms, label)
    if how in LEFT_ALONE:
        yield left.filter(pyarrow.array(numpy.isin(mine, theirs, invert=how == "anti")))
        return
    order = numpy.argsort(theirs, kind="stable")
    sorted_keys = theirs[order]
    low, high = (numpy.searchsorted(sorted_keys, mine, side) for side in ("left", "right"))
    counts = high - low
    if how in ("left", "full"):
        counts = numpy.maximum(counts, 1)
    alone = numpy.flatnonzero(~numpy.isin(theirs, mine)) if how in ("right", "full") else theirs[:0]
    if in_order and len(alone):
        yield _in_order(left, right, forms, label, (mine, low, high, counts, order, alone))
        return
    ends = numpy.cumsum(counts)
    start = 0
    while start < len(mine):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(numpy.searchsorted(ends, before + rows, "right")))
        positions = _positions(slice(start, stop), low, high, counts, order)
        if len(positions[0]):
            yield _rows(left, right, *positions, forms, label)
        start = stop
    for start in range(0, len(alone), rows):
        some = alone[start : start + rows]
        yield _rows(left, right, numpy.full(len(some), -1), some, forms, label)


def _keys_alone(forms: Sequence[ArrowForm], tables: Sequence[Any], side: int) -> Any:
    """No rows of a side of which nothing is known but what its keys are called."""
    import pyarrow

    other = tables[1 - side]
    keys = forms[1 - side].columns(other)
    names = zip(forms[side].named or keys, keys, strict=False)
    return pyarrow.schema([other.schema.field(key).with_name(name) for name, key in names]).empty_table()


def _plain_keys(left: Any, right: Any, forms: Sequence[ArrowForm], label: str) -> tuple[list[Any], list[Any]]:
    """The key columns of both sides, as columns that pyarrow compares as joins do here: as they are where they have one
    type and nothing is missing, as one column of codes otherwise.
    """
    import pyarrow
    from pyarrow import compute, types

    names, others = forms[0].columns(left), forms[1].columns(right)
    sides = [[flat(table.column(name)) for name in some] for table, some in ((left, names), (right, others))]
    kinds = [[column.type for column in side] for side in sides]
    missing = any(
        column.null_count or (types.is_floating(column.type) and compute.any(compute.is_nan(column)).as_py())
        for side in sides
        for column in side
    )
    if kinds[0] == kinds[1] and not missing and all(map(_is_simple, kinds[0])):
        return sides[0], sides[1]
    mine, theirs = _codes(left, right, forms, label)
    return [pyarrow.array(mine)], [pyarrow.array(theirs)]


def _is_simple(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_integer(kind) or types.is_floating(kind) or types.is_string(kind) or types.is_large_string(kind)
        or types.is_binary(kind) or types.is_boolean(kind)
    )  # fmt: skip


def _by_pyarrow(
    left: Any, right: Any, forms: Sequence[ArrowForm], how: str, label: str, rows: int
) -> Iterator[Any] | None:
    """The join as tables, in no particular order; None where it has so many rows that they are better made one after
    the other.
    """
    plain = _plain_keys(left, right, forms, label)
    if _explodes(*plain):
        return None
    # text of more bytes than one column holds stays in several pieces, which are not gathered from
    pieces = max(column.num_chunks for side in (left, right) for column in side.columns)
    parts = cut(*plain) if pieces <= 1 else None
    if _joins_at_once(left, right, forms):
        if parts is None:
            return iter([_at_once(left, right, forms, how)])
        return in_threads(
            lambda part: _at_once(left.take(part[0]), right.take(part[1]), forms, how, threads=False), parts
        )
    found = iter([matched(*plain, how)]) if parts is None else in_threads(lambda part: _within(plain, part, how), parts)
    return (
        _rows(left, right, lefts[start : start + step], rights[start : start + step], forms, label)
        for step in [max(rows, _TAKEN)]
        for lefts, rights in found
        for start in range(0, len(lefts), step)
    )


def _within(keys: tuple[list[Any], list[Any]], part: tuple[Any, Any], how: str) -> tuple[Any, Any]:
    """As :func:`matched`, of some rows of each side."""
    import numpy

    left, right = ([column.take(rows) for column in side] for side, rows in zip(keys, part, strict=True))
    found = matched(left, right, how, threads=False)
    lefts, rights = (numpy.append(rows, -1)[here] for rows, here in zip(part, found, strict=True))
    return lefts, rights


def _joins_at_once(left: Any, right: Any, forms: Sequence[ArrowForm]) -> bool:
    """Whether pyarrow joins the tables as they are: by integers or text of one type, with columns that it can carry."""
    from pyarrow import types

    names, others = forms[0].columns(left), forms[1].columns(right)
    keys = [left.column(name) for name in names] + [right.column(name) for name in others]
    kinds = [[table.schema.field(name).type for name in some] for table, some in ((left, names), (right, others))]
    if kinds[0] != kinds[1] or any(
        column.null_count or not (types.is_integer(column.type) or types.is_string(column.type)) for column in keys
    ):
        return False
    return all(map(_is_flat, [*left.schema.types, *right.schema.types]))


def _at_once(left: Any, right: Any, forms: Sequence[ArrowForm], how: str, *, threads: bool = True) -> Any:
    """The join as pyarrow makes it."""
    names, others = forms[0].columns(left), forms[1].columns(right)
    # by number, because sides may have columns of one name
    mine = {name: f"l{number}" for number, name in enumerate(left.schema.names)}
    theirs = {name: f"r{number}" for number, name in enumerate(right.schema.names)}
    sides = [left.rename_columns(list(mine.values())), right.rename_columns(list(theirs.values()))]
    at = [[mine[name] for name in names], [theirs[name] for name in others]]
    if how == "right":  # keys are called as those of the side that is kept
        found = sides[1].join(sides[0], at[1], at[0], join_type="left outer", use_threads=threads)
        mine.update(zip(names, at[1], strict=True))
    else:
        found = sides[0].join(sides[1], at[0], at[1], join_type=_JOIN_TYPES[how], use_threads=threads)
    rest = names_of_right(left.schema.names, right.schema.names, others)
    found = found.select([*mine.values(), *(theirs[name] for name in rest)])
    return found.rename_columns([*mine, *rest.values()])


def _is_flat(kind: Any) -> bool:
    from pyarrow import types

    return _is_simple(kind) or bool(types.is_temporal(kind) or types.is_decimal128(kind))


def matched(left: Sequence[Any], right: Sequence[Any], how: str, *, threads: bool = True) -> tuple[Any, Any]:
    """Row numbers of both sides that belong together, in no particular order, -1 for none.

    :param left, right: key columns of equal types, without nulls.
    """
    import numpy
    import pyarrow

    tables = []
    for side, name in ((left, "left"), (right, "right")):
        columns: dict[str, Any] = {str(number): column for number, column in enumerate(side)}
        tables.append(pyarrow.table({**columns, name: numpy.arange(len(side[0]))}))
    keys = [str(number) for number in range(len(left))]
    found = tables[0].join(tables[1], keys, join_type=_JOIN_TYPES[how], use_threads=threads)
    lefts, rights = (found.column(name).fill_null(-1).to_numpy() for name in ("left", "right"))
    return lefts, rights


def _explodes(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether a join gives many more rows than its sides have, by what a sample of each has in common."""
    counts = len(left[0]), len(right[0])
    return counts[0] * counts[1] > _FEW and _sampled(left, right, counts) > _MANY


def _sampled(left: Sequence[Any], right: Sequence[Any], counts: tuple[int, int]) -> float:
    """Rows of a join for each row of its sides, about."""
    import numpy

    chance = numpy.random.default_rng(0)
    rows = []
    for side, count in ((left, counts[0]), (right, counts[1])):
        some = numpy.arange(count) if count <= _SAMPLE else chance.integers(0, count, _SAMPLE)
        keys = [column.take(some).to_pylist() for column in side]
        rows.append(Counter(zip(*keys, strict=True)))
    common = sum(count * rows[1][key] for key, count in rows[0].items() if key in rows[1])
    scale = counts[0] / min(counts[0], _SAMPLE) * counts[1] / min(counts[1], _SAMPLE)
    return common * scale / max(1, sum(counts))


def _positions(part: slice, low: Any, high: Any, counts: Any, order: Any) -> tuple[Any, Any]:
    """Rows of the left and of the right that belong together, for some rows of the left; -1 for none."""
    import numpy

    count = counts[part]
    lefts = numpy.repeat(numpy.arange(part.start, part.stop), count)
    within = numpy.arange(len(lefts)) - numpy.repeat(numpy.cumsum(count) - count, count)
    matched = numpy.repeat((high > low)[part], count)
    places = numpy.where(matched, numpy.repeat(low[part], count) + within, 0)
    rights = order[places] if len(order) else numpy.zeros(len(lefts), dtype=numpy.int64)
    return lefts, numpy.where(matched, rights, -1)


def _in_order(left: Any, right: Any, forms: Sequence[ArrowForm], label: str, parts: tuple[Any, ...]) -> Any:
    """All rows at once, sorted by key, when rows of the right without a partner lie in between."""
    import numpy

    mine, low, high, counts, order, alone = parts
    lefts, rights = _positions(slice(0, len(mine)), low, high, counts, order)
    lefts = numpy.concatenate([lefts, numpy.full(len(alone), -1)])
    return forms[0].sorted([_rows(left, right, lefts, numpy.concatenate([rights, alone]), forms, label)])


def _codes(left: Any, right: Any, forms: Sequence[ArrowForm], label: str) -> tuple[Any, Any]:
    import pyarrow

    names, others = forms[0].columns(left), forms[1].columns(right)
    if len(names) != len(others):
        raise OperatorError(
            f"{label} joins {len(names)} key columns to {len(others)}",
            why=f"the left has {', '.join(names)}, the right {', '.join(others)}",
            remedy="name as many columns in left_key as in right_key",
            where=label,
        )
    both: list[Any] = []
    for name, other in zip(names, others, strict=True):
        kinds = left.schema.field(name).type, right.schema.field(other).type
        try:
            both += common(left.column(name), right.column(other))
        except (pyarrow.ArrowTypeError, pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
            raise OperatorError(
                f"{label} cannot compare the keys {name} and {other}",
                why=f"{name} has the type {kinds[0]}, {other} {kinds[1]}",
                remedy="cast one of them first, so that both have one type of numbers, text, bytes or times",
                where=label,
            ) from error
    try:
        found = codes(both)
    except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise unusable_keys(label, "join", described(left, names), error) from error
    return found[: left.num_rows], found[left.num_rows :]


def _rows(left: Any, right: Any, lefts: Any, rights: Any, forms: Sequence[ArrowForm], label: str) -> Any:
    """Rows of both sides side by side. Key columns are those of the left, filled up from the right."""
    import pyarrow

    pick_left, pick_right = (pyarrow.array(rows, mask=rows < 0) for rows in (lefts, rights))
    has_left = pyarrow.array(lefts >= 0)
    keys = dict(zip(forms[0].columns(left), forms[1].columns(right), strict=True))
    columns = {}
    for name in left.schema.names:
        column = left.column(name).take(pick_left)
        if name in keys and (lefts < 0).any():
            column = filled(column, right.column(keys[name]).take(pick_right), has_left, name, label)
        columns[name] = column
    for name, new in names_of_right(left.schema.names, right.schema.names, list(keys.values())).items():
        columns[new] = right.column(name).take(pick_right)
    return pyarrow.table(columns)
