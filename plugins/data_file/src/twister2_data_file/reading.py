"""What the readers of all formats share: walking the splits, positions, counters."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.data import Reader, Split
from twister2.spec.tasks import END, EndOfData
from twister2.spec.uris import without_secrets

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


@attrs.frozen
class Piece:
    """Something read from a split.

    :ivar data: a batch, or what the reader makes one of. :ivar n_records, n_bytes: its size.
    :ivar mark: where reading the split goes on after it (JSON types).
    """

    data: Any
    n_records: int
    n_bytes: int
    mark: Any


class SplitReader(Reader):
    """Reads splits one after another by a generator per split, made by :meth:`read_split`."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self._splits = tuple(splits)
        self._index = 0
        self._mark: Any = None
        self._current: Generator[Piece | None, None, None] | None = None
        self._records = 0
        self._bytes = 0
        self._skipped: list[str] = []

    @abstractmethod
    def read_split(self, split: Split, mark: Any) -> Generator[Piece | None, None, None]:
        """Pieces of a split from ``mark`` on (None: from its beginning); None in between gives the caller a breath.

        Runs to the first piece at the first ``next``, and closes what it opened when it ends or is closed.
        """

    def poll(self) -> Any | EndOfData | None:
        """See :meth:`Reader.poll`."""
        piece = self.advance()
        return piece.data if isinstance(piece, Piece) else piece

    def advance(self) -> Piece | EndOfData | None:
        """The next piece over all splits; counted, and covered by the position from now on."""
        while self._index < len(self._splits):
            if self._current is None:
                self._current = self.read_split(self._splits[self._index], self._mark)
            for piece in self._current:
                if piece is not None:
                    self._mark = piece.mark
                    self._records += piece.n_records
                    self._bytes += piece.n_bytes
                return piece
            self._current, self._mark = None, None
            self._index += 1
        return END

    def skip_file(self, reason: str) -> None:
        """Note that a file was left out."""
        self._skipped.append(without_secrets(reason))

    def position(self) -> dict[str, Any]:
        """Split, place in it, and the files left out so far."""
        return {"split": self._index, "mark": self._mark, "skipped": list(self._skipped)}

    def restore(self, position: Any) -> None:
        """Go on from a position of a reader over the same splits."""
        if not 0 <= int(position["split"]) <= len(self._splits):
            raise ValueError(f"position {position!r} belongs to other splits; there are {len(self._splits)} here")
        self.close()
        self._index, self._mark = int(position["split"]), position["mark"]
        self._skipped = list(position["skipped"])

    def counters(self) -> Mapping[str, float]:
        """``bytes`` of decoded input, ``records``, ``skipped_files``."""
        return {"bytes": self._bytes, "records": self._records, "skipped_files": len(self._skipped)}

    def skipped(self) -> Sequence[str]:
        """Files left out, with the reason."""
        return tuple(self._skipped)

    def close(self) -> None:
        """Close the open file."""
        if self._current is not None:
            self._current.close()
            self._current = None
