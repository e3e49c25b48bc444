"""What the writers of tables share: rows are held until there are enough for a group of them."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from twister2_data_file.arrow_types import schema_text
from twister2_data_file.tables import TableMaker
from twister2_data_file.writing import Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.batch import Batch


class TableEncoder(Encoder):
    """Writes groups of ``group_rows`` rows with a writer of pyarrow, which is opened when the columns are known."""

    def __init__(self, names: Sequence[str] | None, types: Mapping[str, str], where: str, group_rows: int) -> None:
        self._maker = TableMaker(names, types, where)
        self._group_rows = group_rows
        self._writer: Any = None
        self._held: list[Any] = []
        self._n_held = 0

    def write(self, batch: Batch) -> None:
        """Take rows; write groups that are full."""
        table = self._maker.table(batch)
        self._held.append(table)
        self._n_held += table.num_rows
        if self._n_held >= self._group_rows:
            self._flush()

    def finish(self) -> None:
        """Write the last group, and what ends the file."""
        self._flush()
        self._opened().close()

    def schema(self) -> str:
        """The columns, as text."""
        return schema_text(self._maker.schema)

    def discard(self) -> None:
        """Close pyarrow's writer, which otherwise would write its end when it is collected."""
        if self._writer is not None:
            with contextlib.suppress(Exception):
                self._writer.close()

    @abstractmethod
    def _open(self, schema: Any) -> Any:
        """Pyarrow's writer for these columns."""

    @abstractmethod
    def _put(self, writer: Any, table: Any) -> None:
        """Write a group."""

    def _opened(self) -> Any:
        if self._writer is None:
            self._maker.freeze()
            self._writer = self._open(self._maker.schema)
        return self._writer

    def _flush(self) -> None:
        import pyarrow

        if self._held:
            table = pyarrow.concat_tables(self._maker.fitted(table) for table in self._held)
            self._held, self._n_held = [], 0
            self._put(self._opened(), table)
