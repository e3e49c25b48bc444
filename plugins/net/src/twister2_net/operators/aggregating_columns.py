"""Aggregates of columns by key, made by pyarrow: partial ones on each worker, merged where they meet.

A partial table has the key columns ``k0, k1...`` and, for each aggregate by its number, what its result is made from:
``s`` sums, ``n`` counts, ``lo`` and ``hi`` extremes, and for variances ``n``, means ``m`` and sums of squares ``q``,
which are combined as T. F. Chan, G. H. Golub and R. J. LeVeque do (1979). Sums of integers are exact: where 64 bits may
not hold one, it is made in decimals and called ``x``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import OperatorError
from twister2.spec.names import did_you_mean
from twister2_net.operators.aggregating_dense import Asked, grouped
from twister2_net.problems import different_columns
from twister2_net.spilling.sorted_columns import codes, flat

if TYPE_CHECKING:
    from collections.abc import Sequence

_META = b"twister2.aggregate"
_LARGEST = 1 << 62
_SPREAD = ("variance", "std")


@attrs.frozen
class Out:
    """One aggregate. :ivar name: of the result. :ivar column: it is made of; None: of the rows (count)."""

    name: str
    column: str | None
    function: str


@attrs.frozen
class ColumnPlan:
    """What is made of columns.

    :ivar keys: names of key columns. :ivar ddof: of variances. :ivar kinds: dtypes of the columns of structured arrays,
        which the result is then too; empty for Arrow batches. :ivar label: for messages.
    """

    keys: tuple[str, ...]
    outs: tuple[Out, ...]
    ddof: int
    kinds: Mapping[str, str]
    label: str

    def described(self) -> dict[bytes, bytes]:
        """The plan as metadata of partial tables: a target may have no source beside it."""
        outs = [[out.name, out.column, out.function] for out in self.outs]
        return {_META: json.dumps([self.keys, outs, self.ddof, dict(self.kinds)]).encode()}

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes], label: str) -> ColumnPlan:
        """The plan that was described."""
        keys, outs, ddof, kinds = json.loads(metadata[_META])
        return cls(tuple(keys), tuple(Out(*out) for out in outs), ddof, kinds, label)

    @property
    def key_names(self) -> list[str]:
        """Names of the key columns in partial tables."""
        return [f"k{number}" for number in range(len(self.keys))]

    # -- partial tables --------------------------------------------------------------------------------------------

    def projected(self, batch: Any) -> Any:
        """The columns of an Arrow batch that are looked at: keys, and ``v`` with the number of the aggregate.

        :raises OperatorError: one is not there.
        """
        import pyarrow

        used = [*self.keys, *(out.column for out in self.outs if out.column is not None)]
        unknown = [name for name in dict.fromkeys(used) if name not in batch.schema.names]
        if unknown:
            raise OperatorError(
                f"{self.label} has no column {', '.join(map(repr, unknown))}",
                why=f"the batch has the columns {', '.join(batch.schema.names)}"
                f"{did_you_mean(unknown[0], batch.schema.names)}",
                remedy="name columns that all batches have",
                where=self.label,
            )
        columns = {f"k{number}": _key(batch.column(name)) for number, name in enumerate(self.keys)}
        for number, out in enumerate(self.outs):
            if out.column is not None:
                columns[f"v{number}"] = self._value(batch.column(out.column), out)
        return pyarrow.table(columns)

    def _value(self, column: Any, out: Out) -> Any:
        from pyarrow import types

        found = _value(column, out.function)
        kind = found.type
        text = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)
        if text and out.function not in ("count", "min", "max"):
            raise OperatorError(
                f"{self.label} cannot make the {out.function} of the column {out.column!r}",
                why=f"its type is {kind}, and {out.function} is of numbers",
                remedy="name a column of numbers, or make numbers of it first",
                where=self.label,
            )
        return found

    def partial(self, tables: Sequence[Any]) -> Any:
        """Projected tables, combined by key."""
        import pyarrow
        from pyarrow import compute

        whole = self._joined(tables)
        dense = self._densely(whole, self._first_asked())
        if dense is not None:
            return dense
        asked: list[Any] = []
        names: dict[str, str] = {}
        for number, out in enumerate(self.outs):
            value = f"v{number}"
            if out.column is None:
                if "count_all" not in names.values():
                    asked.append(([], "count_all"))
                names[f"n{number}"] = "count_all"
                continue
            if out.function in ("sum", "mean"):
                whole, exact = _exact(whole, value)
                asked.append((value, "sum", compute.ScalarAggregateOptions(min_count=0)))
                names[f"{'x' if exact else 's'}{number}"] = f"{value}_sum"
            if out.function in ("count", "mean", *_SPREAD):
                asked.append((value, "count"))
                names[f"n{number}"] = f"{value}_count"
            if out.function in ("min", "max"):
                asked.append((value, out.function))
                names[f"{'lo' if out.function == 'min' else 'hi'}{number}"] = f"{value}_{out.function}"
            if out.function in _SPREAD:
                asked += [(value, "mean"), (value, "variance", compute.VarianceOptions(ddof=0))]
                names[f"m{number}"], names[f"q{number}"] = f"{value}_mean", f"{value}_variance"
        found = self._grouped(whole, asked)
        columns = {name: found.column(name) for name in self.key_names}
        for name, made in names.items():
            column = found.column(made)
            if name[0] in "mq":
                column = column.fill_null(0.0)
            if name[0] == "q":
                column = compute.multiply(column, found.column(names[f"n{name[1:]}"]).cast(pyarrow.float64()))
            columns[name] = column
        return pyarrow.table(columns)

    def merged(self, tables: Sequence[Any]) -> Any:
        """Partial tables as one, each key once."""
        import pyarrow
        from pyarrow import compute

        whole = self._joined(_same_sums(tables))
        again = [
            (name, name, {"lo": "min", "hi": "max"}.get(name.rstrip("0123456789"), "sum"))
            for name in whole.schema.names
            if name[0] != "k"
        ]
        dense = None if any(name[0] in "mqx" for name, _, _ in again) else self._densely(whole, again)
        if dense is not None:
            return dense
        asked: list[Any] = []
        names: dict[str, str] = {}
        spread = [number for number, out in enumerate(self.outs) if out.function in _SPREAD]
        for name in whole.schema.names:
            if name[0] in "kmq":
                continue
            exact = False
            if name[0] == "s":
                whole, exact = _exact(whole, name)
            function = {"lo": "min", "hi": "max"}.get(name.rstrip("0123456789"), "sum")
            options = [compute.ScalarAggregateOptions(min_count=0)] if function == "sum" else []
            asked.append((name, function, *options))
            names[f"x{name[1:]}" if exact else name] = f"{name}_{function}"
        extra: dict[str, Any] = {}
        if spread:
            import numpy

            rows = codes([whole.column(name) for name in self.key_names])
            whole = whole.append_column("row", pyarrow.array(rows))
            asked.append(("row", "min"))
            for number in spread:
                n, m, q = (whole.column(f"{part}{number}").to_numpy() for part in "nmq")
                total = numpy.bincount(rows, weights=n)
                mean = numpy.bincount(rows, weights=n * m) / numpy.maximum(total, 1)
                away = m - mean[rows]
                extra[f"m{number}"] = mean
                extra[f"q{number}"] = numpy.bincount(rows, weights=q + n * away * away)
        found = self._grouped(whole, asked)
        columns = {name: found.column(name) for name in self.key_names}
        columns.update({name: found.column(made) for name, made in names.items()})
        if spread:
            place = found.column("row_min").to_numpy()
            columns.update({name: pyarrow.array(values[place]) for name, values in extra.items()})
        return pyarrow.table(columns)

    def _first_asked(self) -> list[Asked] | None:
        """What partial tables are made of, where it is sums, counts and extremes only."""
        asked: list[Asked] = []
        for number, out in enumerate(self.outs):
            value = None if out.column is None else f"v{number}"
            if out.function in _SPREAD:
                return None
            if out.function in ("sum", "mean"):
                asked.append((f"s{number}", value, "sum"))
            if out.function in ("count", "mean"):
                asked.append((f"n{number}", value, "count"))
            if out.function in ("min", "max"):
                asked.append((f"{'lo' if out.function == 'min' else 'hi'}{number}", value, out.function))
        return asked

    def _densely(self, table: Any, asked: list[Asked] | None) -> Any:
        return grouped(table, asked) if asked is not None and len(self.keys) == 1 else None

    def _joined(self, tables: Sequence[Any]) -> Any:
        import pyarrow

        try:
            return pyarrow.concat_tables(tables, promote_options="permissive")
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise different_columns(
                self.label, (", ".join(map(str, table.schema.types)) for table in tables)
            ) from error

    def _grouped(self, table: Any, asked: list[Any]) -> Any:
        import pyarrow

        try:
            return table.group_by(self.key_names).aggregate(asked)
        except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            called = dict(zip(self.key_names, self.keys, strict=True))
            called |= {f"v{number}": out.column or "" for number, out in enumerate(self.outs)}
            kinds = ", ".join(
                f"{called[name]!r} of type {kind}"
                for name, kind in zip(table.schema.names, table.schema.types, strict=True)
                if name in called
            )
            raise OperatorError(
                f"{self.label} cannot combine the columns {kinds}",
                why=str(error),
                remedy="cast them to types that can be grouped by and combined, or aggregate records by functions",
                where=self.label,
            ) from error

    # -- results ---------------------------------------------------------------------------------------------------

    def finished(self, table: Any) -> Any:
        """The results of a merged table: key columns and aggregates, by their names."""
        import pyarrow

        columns = {name: table.column(f"k{number}") for number, name in enumerate(self.keys)}
        for number, out in enumerate(self.outs):
            columns[out.name] = self._result(table, number, out)
        return pyarrow.table(columns)

    def delivered(self, table: Any) -> Any:
        """Results in the form of what was aggregated."""
        if not self.kinds:
            return table
        import numpy

        made = {out.name: out for out in self.outs}
        columns = {}
        for name in table.schema.names:
            out = made.get(name)
            column = table.column(name).to_numpy()
            like = self.kinds.get(name) if out is None else self.kinds.get(out.column or "")
            if like is not None and (out is None or out.function in ("min", "max")):
                column = numpy.asarray(column.tolist() if column.dtype == object else column, like)
            columns[name] = column
        found = numpy.empty(table.num_rows, [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            found[name] = column
        return found

    def _result(self, table: Any, number: int, out: Out) -> Any:
        import pyarrow
        from pyarrow import compute

        if out.function == "count":
            return table.column(f"n{number}")
        if out.function in ("min", "max"):
            return table.column(f"{'lo' if out.function == 'min' else 'hi'}{number}")
        if out.function == "sum":
            whole = f"x{number}" in table.schema.names
            return self._sum(_sums(table, number), out, whole=whole)
        count = table.column(f"n{number}").cast(pyarrow.float64())
        none = pyarrow.scalar(None, pyarrow.float64())
        if out.function == "mean":
            total = _sums(table, number).cast(pyarrow.float64())
            return compute.if_else(compute.greater(count, 0), compute.divide(total, count), none)
        enough = compute.greater(count, float(self.ddof))
        divisor = compute.if_else(enough, compute.subtract(count, float(self.ddof)), 1.0)
        spread = compute.divide(table.column(f"q{number}"), divisor)
        return compute.if_else(enough, compute.sqrt(spread) if out.function == "std" else spread, none)

    def _sum(self, column: Any, out: Out, *, whole: bool) -> Any:
        """Sums; those of integers have 64 bits and a sign."""
        import pyarrow

        if not whole and not pyarrow.types.is_unsigned_integer(column.type):
            return column
        try:
            return column.cast(pyarrow.int64())
        except pyarrow.ArrowInvalid as error:
            raise OperatorError(
                f"{self.label}: a sum of {out.column} does not fit 64 bits",
                why=str(error),
                remedy="cast the column to float64, or to decimal128 for an exact sum",
                where=self.label,
            ) from error


_DECIMALS = 38


def _sums(table: Any, number: int) -> Any:
    return table.column(f"x{number}" if f"x{number}" in table.schema.names else f"s{number}")


def _key(column: Any) -> Any:
    """A key column that can be grouped by: dictionaries decoded, one zero, one NaN."""
    from pyarrow import compute, types

    column = flat(column)
    if types.is_floating(column.type):
        nan = compute.is_nan(column)
        if compute.any(nan).as_py():
            import pyarrow

            column = compute.if_else(nan, pyarrow.scalar(float("nan"), column.type), column)
    return column


def _value(column: Any, function: str) -> Any:
    """A value column, as an aggregate takes it."""
    import pyarrow
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if function in _SPREAD and not types.is_floating(column.type):
        whole = types.is_integer(column.type) or types.is_boolean(column.type)
        return column.cast(pyarrow.float64(), safe=False) if whole else column
    if function in ("min", "max") and types.is_floating(column.type):
        nan = compute.is_nan(column)
        if compute.any(nan).as_py():
            return compute.if_else(nan, pyarrow.scalar(None, column.type), column)
    return column


def _exact(table: Any, name: str) -> tuple[Any, bool]:
    """A table whose column of integers is made decimals if 64 bits may not hold its sum; and whether it was."""
    from pyarrow import compute, types

    column = table.column(name)
    if not types.is_integer(column.type) or not len(column):
        return table, False
    span = compute.min_max(column).as_py()
    most = max(abs(span["min"] or 0), abs(span["max"] or 0))
    if most * len(column) < _LARGEST:
        return table, False
    return table.set_column(table.schema.get_field_index(name), name, _decimals(column)), True


def _decimals(column: Any) -> Any:
    """Integers as decimals of many digits."""
    import pyarrow

    return column.cast(pyarrow.decimal128(20, 0)).cast(pyarrow.decimal128(_DECIMALS, 0))


def _same_sums(tables: Sequence[Any]) -> list[Any]:
    """Partial tables whose sums are decimals in all of them if they are in one."""
    import pyarrow

    exact = {name for table in tables for name in table.schema.names if name[0] == "x"}
    found = []
    for table in tables:
        columns = {name: table.column(name) for name in table.schema.names}
        for name in exact - set(columns):
            columns[name] = _decimals(columns.pop(f"s{name[1:]}"))
        found.append(pyarrow.table(columns) if exact else table)
    return found
