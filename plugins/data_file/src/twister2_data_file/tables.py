"""From batches of any form to Arrow tables of one schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twister2.spec.batch import Batch, is_array, is_arrow
from twister2.spec.errors import DataFormatError
from twister2_data_file.arrow_types import common_type, types_named


class TableMaker:
    """Makes Arrow tables; the first batch (or the options) gives the schema, later ones are cast to it.

    A column whose type is not named by the options may widen with a later batch: nothing but None becomes any type, and
    integers become floating point (see :func:`common_type`), until :meth:`freeze`.

    Records are tuples or lists (one value per column), dicts (columns by name), scalars (one column), rows of an array,
    or come as Arrow batches.

    :param names: of the columns; without them those of the first batch, or ``c0``, ``c1``...
    :param types: Arrow type names by column.
    :param where: for error texts, the output's path.
    """

    def __init__(self, names: Sequence[str] | None, types: Mapping[str, str], where: str) -> None:
        self._names = tuple(names) if names is not None else None
        self._types = types_named(types)
        self._where = where
        self._schema: Any = None
        self._frozen = False

    @property
    def schema(self) -> Any:
        """The Arrow schema; before the first batch what is known of it from the options."""
        import pyarrow

        if self._schema is not None:
            return self._schema
        names = self._names or tuple(self._types)
        return pyarrow.schema([(name, self._types.get(name, pyarrow.null())) for name in names])

    def freeze(self) -> None:
        """The schema was written: it stays as it is from now on."""
        self._frozen = True

    def fitted(self, table: Any) -> Any:
        """An earlier table with the types of now.

        :raises DataFormatError: a value does not fit: an integer that is not exact as floating point.
        """
        import pyarrow

        try:
            return table if table.schema.equals(self.schema) else table.cast(self.schema)
        except pyarrow.ArrowException as error:
            raise self._unfit(str(error)) from error

    def table(self, batch: Batch) -> Any:
        """One batch as an Arrow table.

        :raises DataFormatError: other columns than before, or values that do not fit a column's type.
        """
        import pyarrow

        try:
            columns = self._columns(batch)
            if self._schema is None:
                self._names = tuple(columns)
                self._check_types()
                arrays = {name: self._array(values, self._types.get(name)) for name, values in columns.items()}
                self._schema = pyarrow.schema([(name, array.type) for name, array in arrays.items()])
            else:
                arrays = {name: self._later(name, values) for name, values in columns.items()}
            return pyarrow.table(arrays, schema=self._schema)
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise self._unfit(str(error)) from error

    def _later(self, name: str, values: Any) -> Any:
        """Values of a column that is known; its type widens when it has to and may."""
        import pyarrow

        known = self._schema.field(name).type
        if name in self._types:
            return self._array(values, known)
        made = self._array(values, None)
        if made.type.equals(known):
            return made
        wider = common_type(known, made.type)
        if wider is None:
            return _same(values, made, known)
        if self._frozen or wider.equals(known):
            return made.cast(known)
        self._schema = self._schema.set(self._schema.get_field_index(name), pyarrow.field(name, wider))
        return made.cast(wider)

    @staticmethod
    def _array(values: Any, wanted: Any) -> Any:
        import pyarrow
        from pyarrow import types

        made = values
        if not isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray)):
            if wanted is None or not types.is_integer(wanted):
                return pyarrow.array(values, type=wanted)
            # pyarrow would cut the fractions off
            made = pyarrow.array(values)
            if not (types.is_integer(made.type) or types.is_floating(made.type)):
                return pyarrow.array(values, type=wanted)
        return made if wanted is None or made.type.equals(wanted) else made.cast(wanted)

    def _check_types(self) -> None:
        unknown = [name for name in self._types if name not in (self._names or ())]
        if unknown:
            raise self._unfit(f"column_types names {unknown[0]!r}, but the columns are {list(self._names or ())}")

    def _columns(self, batch: Batch) -> dict[str, Any]:
        """The batch's values by column."""
        if is_arrow(batch):
            return self._renamed(batch.schema.names, [batch.column(index) for index in range(batch.num_columns)])
        if is_array(batch):
            return self._columns_of_array(batch)
        first = next(iter(batch))
        if isinstance(first, Mapping):
            return self._columns_of_mappings(batch, first)
        if isinstance(first, (tuple, list)):
            if any(len(record) != len(first) for record in batch):
                raise self._unfit(f"the first record has {len(first)} values, another one a different number")
            return self._renamed(None, [list(column) for column in zip(*batch, strict=True)])
        return self._renamed(None, [list(batch)])

    def _columns_of_array(self, batch: Any) -> dict[str, Any]:
        if batch.dtype.names:
            return self._renamed(batch.dtype.names, [batch[name] for name in batch.dtype.names])
        if batch.ndim > 2:
            raise self._unfit(f"an array of shape {batch.shape} has no columns; 1 or 2 axes can be written")
        return self._renamed(None, [batch] if batch.ndim == 1 else [batch[:, index] for index in range(batch.shape[1])])

    def _columns_of_mappings(self, batch: Batch, first: Mapping[str, Any]) -> dict[str, Any]:
        names = self._names or tuple(first)
        known = set(names)
        strange = next((name for record in batch for name in record if name not in known), None)
        if strange is not None:
            raise self._unfit(f"a record has the key {strange!r}; the columns are {list(names)}")
        return {name: [record.get(name) for record in batch] for name in names}

    def _renamed(self, own: Sequence[str] | None, columns: Sequence[Any]) -> dict[str, Any]:
        if own is not None and self._schema is not None and set(own) == set(self._schema.names):
            by_name = dict(zip(own, columns, strict=True))
            return {name: by_name[name] for name in self._schema.names}
        names = self._names or own or tuple(f"c{number}" for number in range(len(columns)))
        if len(names) != len(columns):
            raise self._unfit(f"a record has {len(columns)} values, but there are {len(names)} columns: {list(names)}")
        return dict(zip(names, columns, strict=True))

    def _unfit(self, why: str) -> DataFormatError:
        return DataFormatError(
            f"records do not fit the columns of {self._where}",
            why=why,
            remedy="write records of one form; column_names and column_types say which",
            where=self._where,
        )


def _same(values: Any, inferred: Any, wanted: Any) -> Any:
    """The values with a type that is neither theirs nor wider, if they are still the same then.

    :raises pyarrow.ArrowException: they are not, such as times as dates.
    """
    import pyarrow

    made = values.cast(wanted) if values is inferred else pyarrow.array(values, type=wanted)
    if not made.cast(inferred.type).equals(inferred):
        raise pyarrow.ArrowInvalid(f"values of type {inferred.type} are not the same as {wanted}")
    return made
