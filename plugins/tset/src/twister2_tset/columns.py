"""Steps on named columns, on Arrow batches without a loop per record: select, where, schemas."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.graph import walking
from twister2.spec.batch import Batch, is_array, is_arrow, records
from twister2.spec.errors import OperatorError, UsageError
from twister2.spec.names import did_you_mean
from twister2.spec.relations import OF_MISSING, RELATIONS, holds, satisfying
from twister2.spec.tasks import Compute, Emit, TaskContext
from twister2_tset.forms import SAME, SELECTED, TABLE
from twister2_tset.keys import Column
from twister2_tset.problems import kind_of, short

if TYPE_CHECKING:
    from collections.abc import Iterator

_ORDERING = ("==", "!=", "<", "<=", ">", ">=")
"""Relations that arrays know."""
_CUT = (float, Decimal, datetime, time, timedelta)
"""Values of which a type of whole numbers, dates or times may hold a part only; so do numpy's floats."""


class Select(Compute):
    """Only some columns, in the order given."""

    narrow: ClassVar[bool] = True
    gives: ClassVar[str] = SELECTED

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._of = [Column(name) for name in columns]

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Those of one batch: columns of columns, else dicts."""
        names = list(self._columns)
        if is_arrow(batch):
            check_columns(names, batch.schema.names, "select")
            emit(batch.select(names))
        elif is_array(batch) and batch.dtype.names:
            check_columns(names, batch.dtype.names, "select")
            emit(batch[names])
        else:
            of = self._of
            with walking(batch) as walk:
                found = [{column.name: column(record) for column in of} for record in walk]
            emit(found)


class Where(Compute):
    """The records whose value in a column stands in a relation to another."""

    narrow: ClassVar[bool] = True
    gives: ClassVar[str] = SAME

    def __init__(self, column: str, relation: str, value: Any) -> None:
        self._column = column
        self._relation = relation
        self._value = value

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Those of one batch."""
        if is_arrow(batch):
            check_columns([self._column], batch.schema.names, "where")
            emit(batch.filter(self._mask(batch.column(self._column))))
            return
        named = is_array(batch) and batch.dtype.names
        if named and self._relation in _ORDERING:
            check_columns([self._column], batch.dtype.names, "where")
            chosen = _chosen(batch[self._column], self._relation, self._value)
            if chosen is not None:
                emit(batch[chosen])
                return
        of, test = Column(self._column), holds(self._relation, self._value)
        try:
            with walking(batch) as walk:
                if named:  # the form of a set's batches must not depend on what it is compared with
                    found = batch[[n for n, row in enumerate(walk) if test(of(row))]]
                else:
                    found = [record for record in walk if test(of(record))]
        except TypeError as error:
            raise self._not_comparable("", error) from error
        emit(found)

    def _mask(self, column: Any) -> Any:
        try:
            return satisfying(column, self._relation, self._value)
        except TypeError as error:
            raise self._not_comparable(f" of type {column.type}", error) from error

    def _not_comparable(self, kind: str, error: TypeError) -> OperatorError:
        return OperatorError(
            f"where: column {self._column!r}{kind} cannot be compared with {short(self._value)}",
            why=str(error),
            remedy="compare it with a value of its type",
        )


def _chosen(column: Any, relation: str, value: Any) -> Any:
    """The mask of a column of an array; None where numpy cannot compare it with a value, or would round one of them."""
    import numpy

    kind = column.dtype.kind
    if kind == "O" or column.ndim > 1:
        return None  # some may be None
    if kind in "mM":
        there = ~numpy.isnat(column)
        chosen = numpy.zeros(len(column), bool)
        try:
            chosen[there] = RELATIONS[relation](column[there], value)
        except TypeError:
            return None
        return chosen
    whole = isinstance(value, int)
    if kind in "iuf" and isinstance(value, (int, float)) and not (whole and kind != "f"):
        if (whole or kind != "f") and not abs(value) < 1 << 53:
            return None
        value = numpy.float64(value)  # of one of Python numpy takes the precision of the column
    found = RELATIONS[relation](column, value)
    return found if is_array(found) else None


def check_where(relation: Any, value: Any) -> None:
    """See that a comparison is one.

    :raises UsageError: it is not.
    """
    if relation in OF_MISSING and value is None:
        return
    if relation not in RELATIONS:
        none = relation in OF_MISSING
        raise UsageError(
            f"where: {relation!r} takes no value" if none else f"where: there is no relation {short(relation)}",
            why=f"the relations are: {', '.join([*RELATIONS, *OF_MISSING])}",
            remedy=f'write where(column, "{relation}")' if none else "use one of these, or filter(function)",
            where="where",
        )
    if relation in ("in", "not in") and (isinstance(value, (str, bytes)) or not hasattr(type(value), "__contains__")):
        raise UsageError(
            f"where: {short(value)} is no collection",
            why=f"{relation!r} looks for the value of the column in a list or a set",
            remedy="give a list",
            where="where",
        )
    if value is None:
        raise UsageError(
            "where: the value is None",
            why="nothing satisfies a comparison with a missing value",
            remedy='use where(column, "is null") or where(column, "is not null")',
            where="where",
        )


def check_columns(wanted: list[str], names: Any, step: str, where: str = "") -> None:
    """See that columns are there.

    :param where: of a step that is being made, the user's line.
    :raises OperatorError: one is missing; UsageError where the step is being made.
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        near = did_you_mean(missing[0], [name for name in names if isinstance(name, str)])
        raise (UsageError if where else OperatorError)(
            f"{step}: there is no column {missing[0]!r}{near}",
            why=f"the columns are: {', '.join(map(str, names))}",
            remedy="name one of them",
            where=where,
        )


def same(schema: Any) -> Any:
    """The schema of what comes, of steps that hand on records as they are."""
    return schema


def selected(schema: Any, columns: tuple[str, ...]) -> Any:
    """The schema of some columns; None when it is not known, or the step that selects them finds one missing."""
    if schema is None or any(schema.get_field_index(name) < 0 for name in columns):
        return None
    import pyarrow

    return pyarrow.schema([schema.field(name) for name in columns])


class WithSchema(Compute):
    """Records as Arrow batches of exactly the columns of a schema."""

    narrow: ClassVar[bool] = True
    gives: ClassVar[str] = TABLE

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._vertex = ""

    def open(self, context: TaskContext) -> None:
        """Note the name, for errors."""
        self._vertex = context.vertex

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Convert a batch."""
        import pyarrow

        try:
            emit(self._table(batch))
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise OperatorError(
                f"with_schema: a record does not fit the schema: {error}",
                why=f"the schema is {', '.join(f'{field.name}: {field.type}' for field in self._schema)}",
                remedy="map the records to values of these types, or give other types",
                where=self._vertex,
            ) from error

    def _table(self, batch: Batch) -> Any:
        import pyarrow

        schema = self._schema
        names = schema.names
        if is_arrow(batch):
            check_columns(names, batch.schema.names, "with_schema")
            columns = [batch.column(name) for name in names]
        elif is_array(batch) and batch.dtype.names:
            check_columns(names, batch.dtype.names, "with_schema")
            columns = [pyarrow.array(batch[name]) for name in names]
        elif is_array(batch) and batch.ndim == 1 and len(names) == 1:
            columns = [pyarrow.array(batch)]
        else:
            return pyarrow.RecordBatch.from_arrays(
                [exactly(values, field.type) for values, field in zip(self._values(batch), schema, strict=True)],
                schema=schema,
            )
        cast = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
        if is_arrow(batch) and not hasattr(batch, "to_struct_array"):
            cast = [column.combine_chunks() for column in cast]
        return pyarrow.RecordBatch.from_arrays(cast, schema=schema)

    def _values(self, batch: Batch) -> Iterator[list[Any]]:
        names = self._schema.names
        rows = list(batch.tolist() if is_array(batch) else records(batch))
        if all(isinstance(row, Mapping) for row in rows):
            for name in names:
                column = Column(name)
                yield [column(row) for row in rows]
            return
        single = len(names) == 1
        wide = [row if isinstance(row, (tuple, list)) else (row,) if single else None for row in rows]
        for place, (row, record) in enumerate(zip(wide, rows, strict=True)):
            if row is None or len(row) != len(names):
                raise OperatorError(
                    f"with_schema: record {place + 1} of a batch, {short(record)}, has not {len(names)} columns",
                    why=f"the schema is {', '.join(names)}",
                    remedy="give tuples or dicts with these columns",
                    where=self._vertex,
                )
        yield from (list(column) for column in zip(*wide, strict=True))


def exactly(values: list[Any], kind: Any) -> Any:
    """An Arrow array of Python values. pyarrow alone cuts fractions, times of days and zones to what a type holds.

    :raises ValueError: the type does not hold one of them.
    """
    import numpy
    import pyarrow

    made = pyarrow.array(values, kind)
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_temporal(kind)):
        return made
    at = [place for place, value in enumerate(values) if isinstance(value, (*_CUT, numpy.floating))]
    for place, held in zip(at, made.take(pyarrow.array(at, pyarrow.int64())).to_pylist(), strict=True):
        given = values[place]
        if isinstance(given, datetime) and type(held) is date:
            held = datetime.combine(held, time.min)
        elif isinstance(given, datetime) and given.tzinfo is None and held.tzinfo is not None:
            held = held.astimezone(UTC).replace(tzinfo=None)  # what has no zone is taken for UTC
        if held != given:
            raise ValueError(f"{short(given)} would become {short(held)}")
    return made


def schema_of(given: Any) -> Any:
    """A pyarrow schema, from one or from names with types: Python's (``int``), Arrow's, or their names (``"int32"``).

    :raises UsageError: it is neither.
    """
    import pyarrow

    if isinstance(given, pyarrow.Schema):
        return given
    types: dict[Any, Any] = {
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        str: pyarrow.string(),
        bytes: pyarrow.binary(),
        bool: pyarrow.bool_(),
        date: pyarrow.date32(),
        datetime: pyarrow.timestamp("us"),
        Decimal: pyarrow.decimal128(38, 9),
    }
    if isinstance(given, Mapping) and given and all(isinstance(name, str) for name in given):
        fields = []
        for name, kind in given.items():
            try:
                found = kind if isinstance(kind, pyarrow.DataType) else types.get(kind) or pyarrow.type_for_alias(kind)
            except (ValueError, TypeError):
                raise UsageError(
                    f"with_schema: {short(kind)}, of column {name!r}, is no type",
                    why="types are int, float, str, bytes, bool, date, datetime, Decimal, pyarrow's or their names",
                    remedy='give one of these, e.g. {"n": int, "small": "int32"}',
                    where="with_schema",
                ) from None
            fields.append(pyarrow.field(name, found))
        return pyarrow.schema(fields)
    raise UsageError(
        f"with_schema: {short(given)}, {kind_of(given)}, is no schema",
        why="it is a pyarrow.Schema, or a dict of column names and types",
        remedy='give e.g. {"name": str, "n": int}',
        where="with_schema",
    )
