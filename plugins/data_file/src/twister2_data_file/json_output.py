"""Writing JSON lines: one value per record."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, records
from twister2.spec.errors import DataFormatError
from twister2_data_file.writing import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twister2_data_file.options import JsonWriteOptions


class JsonEncoder(Encoder):
    """Objects for dicts and rows with named columns, arrays for tuples and lists without; no fixed fields."""

    def __init__(self, file: IO[bytes], options: JsonWriteOptions, where: str) -> None:
        self._file = file
        self._names = options.column_names
        self._where = where
        self._n_records = 0
        self._text = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_json
        ).encode

    def write(self, batch: Batch) -> None:
        """Append lines.

        :raises DataFormatError: a record that JSON cannot hold, such as NaN; names it.
        """
        lines: list[bytes] = []
        try:
            for record in self._values(batch):
                lines.append(self._text(record).encode("utf-8"))
        except (TypeError, ValueError, RecursionError) as error:
            raise DataFormatError(
                f"record {self._n_records + len(lines)} of a part of {self._where} cannot be written as JSON",
                why=str(error),
                remedy="map such values to numbers, text, lists and dicts first; Parquet and Arrow hold more types",
                where=self._where,
            ) from error
        self._n_records += len(lines)
        self._file.write(b"\n".join(lines) + b"\n")

    def finish(self) -> None:
        """JSON lines have no end."""

    def discard(self) -> None:
        """Nothing is held."""

    def _values(self, batch: Batch) -> Iterable[Any]:
        if is_arrow(batch):
            rows: list[Any] = self._renamed(batch).to_pylist()
            return rows
        if is_array(batch):
            rows = batch.tolist()
            names = self._names or batch.dtype.names
            return rows if names is None else (self._object(row, names) for row in rows)
        if self._names is None:
            return records(batch)
        names = self._names
        return (self._object(record, names) for record in records(batch))

    def _renamed(self, batch: Any) -> Any:
        if self._names is None or set(self._names) == set(batch.schema.names):
            return batch
        if len(self._names) != batch.num_columns:
            raise ValueError(f"it has {batch.num_columns} columns, but column_names gives {len(self._names)}")
        return batch.rename_columns(list(self._names))

    @staticmethod
    def _object(record: Any, names: Any) -> dict[str, Any]:
        if isinstance(record, Mapping):
            strange = next((name for name in record if name not in names), None)
            if strange is not None:
                raise ValueError(f"it has the key {strange!r}; column_names gives {list(names)}")
            return {name: record.get(name) for name in names}
        values = record if isinstance(record, (tuple, list)) else (record,)
        if len(values) != len(names):
            raise ValueError(f"it has {len(values)} values, but there are {len(names)} column_names")
        return dict(zip(names, values, strict=True))


def _as_json(value: Any) -> Any:
    """What :mod:`json` does not know: numbers and arrays of numpy, times, other mappings."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist") and not isinstance(plain := value.tolist(), bytes):
        return plain
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")
