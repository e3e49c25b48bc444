"""Sorted runs on disk, merged in blocks.

A *run* is a file of blocks, sorted by *rank*. Merging reads one block of each run and finds the lowest of their last
ranks, the *bound*. Everything below the bound is in these blocks: it is handed out at once, as slices. What has the
rank of the bound itself may go on in later blocks: it is handed out as a sequence of slices, run after run. So the
price per record is that of a slice and of one sort in C, and memory holds a block per run, however many records are
equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from twister2.spec.batch import n_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twister2.spec.memory import MemoryService, SpillFile

FAN_IN = 16
"""Runs of a side merged at once, if their blocks take at most a quarter of the memory budget; with more, some are
merged to longer ones first.
"""
_COPIES = 4
"""What a block takes in memory while it is merged: as read, as a value, sorted with others, and in groups."""


class Form(ABC):
    """What a block is, and how its records are ranked."""

    @abstractmethod
    def rank(self, block: Any, index: int) -> Any:
        """The rank of a record: anything that can be compared with the ranks of all others."""

    @abstractmethod
    def cut(self, block: Any, start: int, stop: int) -> Any:
        """Some of the records, in a block of their own."""

    @abstractmethod
    def whole(self, parts: Sequence[Any]) -> Any:
        """Sorted blocks as one sorted block; records of equal rank in the order of the blocks."""


class Entries(Form):
    """Lists of tuples that begin with their rank."""

    def rank(self, block: Any, index: int) -> Any:
        return block[index][0]

    def cut(self, block: Any, start: int, stop: int) -> Any:
        return block[start:stop]

    def whole(self, parts: Sequence[Any]) -> Any:
        if len(parts) == 1:
            return parts[0]
        entries = [entry for part in parts for entry in part]
        entries.sort(key=_first)  # finds the parts, which are sorted, and merges them
        return entries


def _first(entry: tuple[Any, ...]) -> Any:
    return entry[0]


class Window(NamedTuple):
    """Some records of several runs, by number of the run.

    :ivar below: whether these are all records of their ranks, in memory; otherwise all have one rank, and the parts are
        read as they are asked for, which must be before the next window.
    """

    below: bool
    parts: Iterable[tuple[int, Any]]


class _Cursor:
    """Where reading of one run is."""

    __slots__ = ("at", "block", "end", "form", "last", "rest")

    def __init__(self, blocks: Iterable[Any], form: Form) -> None:
        self.rest = iter(blocks)
        self.form = form
        self.next()

    def next(self) -> None:
        """Read the next block; ``block`` is None when there is none."""
        self.at = 0
        for block in self.rest:
            if n_records(block):
                self.block, self.end = block, n_records(block)
                self.last = self.form.rank(block, self.end - 1)
                return
        self.block, self.end = None, 0

    def take(self, bound: Any, *, equal: bool) -> Any:
        """What is left of the block below a rank, or also what has that rank; None when nothing is."""
        form, block = self.form, self.block
        search = bisect_right if equal else bisect_left
        stop = search(range(self.end), bound, self.at, self.end, key=lambda index: form.rank(block, index))
        if stop == self.at:
            return None
        start, self.at = self.at, stop
        part = block if stop - start == self.end else form.cut(block, start, stop)
        if stop == self.end:
            self.next()
        return part


def windows(runs: Sequence[tuple[Iterable[Any], Form]]) -> Iterator[Window]:
    """All records of sorted runs, in windows of ascending rank."""
    cursors = [_Cursor(blocks, form) for blocks, form in runs]
    while True:
        live = [(number, cursor) for number, cursor in enumerate(cursors) if cursor.block is not None]
        if not live:
            return
        bound = min(cursor.last for _, cursor in live)
        parts = [(number, part) for number, cursor in live if (part := cursor.take(bound, equal=False)) is not None]
        if parts:
            yield Window(True, parts)
        equal = _equal(live, bound)
        yield Window(False, equal)
        for _ in equal:
            pass  # what nobody asked for


def _equal(live: Sequence[tuple[int, _Cursor]], bound: Any) -> Iterator[tuple[int, Any]]:
    for number, cursor in live:
        while cursor.block is not None and (part := cursor.take(bound, equal=True)) is not None:
            yield number, part


class Runs:
    """The runs of one holder.

    :param name: of the holder, for messages. :param forms: of the blocks of each side.
    """

    def __init__(self, memory: MemoryService, name: str, forms: Sequence[Form]) -> None:
        self._forms = forms
        self.scratch = memory.scratch(name)
        self._room = memory.reserve(f"{name}: merging")
        self._files: list[tuple[int, SpillFile]] = []
        use = memory.use()
        self._fan_in = FAN_IN
        if use.limit:
            self._fan_in = max(2, min(FAN_IN, use.budget // (4 * _COPIES * len(forms) * self.scratch.block_bytes)))

    def __len__(self) -> int:
        return len(self._files)

    def write(self, blocks: Iterable[Any], side: int = 0) -> None:
        """Make a run of sorted blocks. Runs of all sides are merged together; the ranks of sides can be compared."""
        file = self.scratch.file()
        for block in blocks:
            file.append(block)
        self._files.append((side, file))

    def blocks(self) -> Iterator[tuple[int, Any]]:
        """All blocks of all runs with their side, run after run, unmerged."""
        for side, file in self._files:
            for block in file:
                yield side, block

    def windows(self) -> Iterator[Window]:
        """All records in windows of ascending rank; the number of a part is its side."""
        for side in {side for side, _ in self._files}:
            self._reduce(side)
        files = list(self._files)
        self._room.resize(_COPIES * len(files) * self.scratch.block_bytes)
        for window in windows([(file, self._forms[side]) for side, file in files]):
            yield Window(window.below, ((files[number][0], part) for number, part in window.parts))
        self._room.resize(0)

    def _reduce(self, side: int) -> None:
        """Merge runs of a side, neighbours only so that equal records keep their order, until they are few."""
        mine = [file for one, file in self._files if one == side]
        others = [pair for pair in self._files if pair[0] != side]
        while len(mine) > self._fan_in:
            longer = []
            for start in range(0, len(mine), self._fan_in):
                some = mine[start : start + self._fan_in]
                longer.append(some[0] if len(some) == 1 else self._merged(some, self._forms[side]))
            mine = longer
        self._files = others + [(side, file) for file in mine]

    def _merged(self, files: list[SpillFile], form: Form) -> SpillFile:
        self._room.resize(_COPIES * len(files) * self.scratch.block_bytes)
        merged = self.scratch.file()
        rows = 0
        pending: list[Any] = []
        for window in windows([(file, form) for file in files]):
            if window.below:
                parts = [part for _, part in window.parts]
                rows = max(rows, *map(n_records, parts))
                pending.append(form.whole(parts))
            else:
                pending += (part for _, part in window.parts)
            if sum(map(n_records, pending)) >= rows:
                _append(merged, form, form.whole(pending), rows)
                pending = []
        if pending:
            merged.append(form.whole(pending))
        for file in files:
            file.close()
        self._room.resize(0)
        return merged

    def close(self) -> None:
        """Forget all runs. Values that were handed out from disk live on. Idempotent."""
        self._files.clear()
        self._room.release()


def _append(file: SpillFile, form: Form, block: Any, rows: int) -> None:
    """Write a block in pieces of so many records."""
    count = n_records(block)
    for start in range(0, count, max(1, rows)):
        file.append(form.cut(block, start, min(count, start + max(1, rows))))
