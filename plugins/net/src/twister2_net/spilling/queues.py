"""What waits in an operator and may go to disk meanwhile: batches in line, and the values of one key."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twister2.spec.batch import is_arrow, n_bytes, n_records, records
from twister2.spec.errors import MemoryBudgetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twister2.spec.batch import Batch
    from twister2.spec.memory import MemoryService, Scratch, SpillFile

T = TypeVar("T")


def pieces(memory: MemoryService, batch: Any, most: int = 0) -> Iterator[Any]:
    """A batch in slices that each take but a small share of the memory budget; the batch itself where it does.

    :param most: bytes of a slice, about; a sixteenth of the budget when 0.
    """
    most = most or max(1 << 14, memory.use().budget // 16)
    size = n_bytes(batch)
    if not memory.use().limit or size <= most:
        yield batch
        return
    count = n_records(batch)
    rows = max(1, count * most // size)
    for start in range(0, count, rows):
        yield batch.slice(start, rows) if is_arrow(batch) else batch[start : start + rows]


class HeldBatches(Generic[T]):
    """First in, first out. Goes to disk when memory gets short.

    :param name: of the holder, for messages.
    """

    def __init__(self, memory: MemoryService, name: str) -> None:
        self._memory = memory
        self._name = name
        self._room = memory.reserve(name, revoke=self._revoke)
        self._scratch: Scratch | None = None
        self._files: deque[SpillFile] = deque()
        self._reading: Iterator[T] | None = None
        self._read = 0
        self._here: deque[tuple[T, int]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, value: T, size: int) -> None:
        """Hold a value of ``size`` bytes; on disk at once when there is no room for it at all."""
        try:
            self._room.grow(size)
        except MemoryBudgetError:
            self._revoke(0)
            self._write([value])
        else:
            self._here.append((value, size))
        self._count += 1

    def get(self) -> T:
        """The oldest value, which is held no longer.

        :raises IndexError: there is none.
        """
        if not self._count:
            raise IndexError("nothing is held")
        self._count -= 1
        while self._files:
            if self._reading is None:
                self._reading, self._read = iter(self._files[0]), 0
            for value in self._reading:
                self._read += 1
                return value
            self._reading = None
            self._files.popleft().close()
        value, size = self._here.popleft()
        self._room.resize(max(0, self._room.size - size))
        return value

    def peek(self) -> Iterator[T]:
        """All values, oldest first; they stay. Some may go to disk meanwhile, but none may be taken."""
        number, offset = 0, 0 if self._reading is None else self._read
        while True:
            if number < len(self._files):
                for value in islice(self._files[number], offset, None):
                    offset += 1
                    yield value
                number, offset = number + 1, 0
            elif offset < len(self._here):
                offset += 1
                yield self._here[offset - 1][0]
            else:
                return

    def drain(self) -> Iterator[T]:
        """All values, oldest first; afterwards the room is given back."""
        while self._count:
            yield self.get()
        self.close()

    def _revoke(self, wanted: int) -> int:
        if not self._here:
            return 0
        self._write(value for value, _ in self._here)
        self._here.clear()
        freed = self._room.size
        self._room.resize(0)
        return freed

    def _write(self, values: Iterable[T]) -> None:
        if self._scratch is None:
            self._scratch = self._memory.scratch(self._name)
        file = self._scratch.file()
        for value in values:
            file.append(value)
        self._files.append(file)

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._files.clear()
        self._reading = None
        self._here.clear()
        self._count = 0
        self._room.release()


class Records:
    """What a call has brought: batches that go to disk when memory gets short, read as often as wanted.

    Iterating gives records. The room is given back by :meth:`close`, and with the last reference.
    """

    def __init__(self, memory: MemoryService, name: str) -> None:
        self._held: HeldBatches[Batch] = HeldBatches(memory, name)
        self._name = name
        self._count = 0
        self._closed = False

    def add(self, batch: Batch) -> None:
        """Hold one more batch."""
        self._count += n_records(batch)
        self._held.put(batch, n_bytes(batch))

    def batches(self) -> Iterator[Batch]:
        """The batches in the order they came.

        :raises UsageError: there are some, and they were given back.
        """
        self._check_open()
        left = len(self._held)
        for batch in self._held.peek():  # in a generator, which is a reference as long as it is read
            yield batch
            left -= 1
            if left:
                self._check_open()

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches():
            yield from records(batch)

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._closed = True
        self._held.close()

    def _check_open(self) -> None:
        if self._closed and self._count:
            raise UsageError(
                f"the {self._name} is closed: its {self._count:,} records are given back",
                why="close() was called before they were read to the end",
                remedy="read them first; without close() they go with the last reference",
            )

    def __del__(self) -> None:
        self._held.close()

    def __repr__(self) -> str:
        return f"<{self._count} records>"


class Values(Generic[T]):
    """The values of one key that did not fit into memory: an iterable with a length, read from disk each time.

    It becomes a list when it is sent to another worker.
    """

    __slots__ = ("_count", "_file", "_tail")

    def __init__(self, file: SpillFile, tail: list[T], count: int) -> None:
        self._file = file
        self._tail = tail
        self._count = count

    def __iter__(self) -> Iterator[T]:
        for chunk in self._file:
            yield from chunk
        yield from self._tail

    def __len__(self) -> int:
        return self._count

    def chunks(self) -> Iterator[list[T]]:
        """The values in lists as they lie on disk."""
        yield from self._file
        if self._tail:
            yield self._tail

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __repr__(self) -> str:
        return f"<{self._count} values on disk>"


class Collecting(Generic[T]):
    """Collects values: a list while they take at most ``limit`` bytes, :class:`Values` beyond."""

    def __init__(self, scratch: Scratch, limit: int) -> None:
        self._scratch = scratch
        self._limit = limit
        self._here: list[T] = []
        self._size = 0
        self._count = 0
        self._file: SpillFile | None = None

    def add(self, values: Iterable[T]) -> None:
        """Append values."""
        part = values if isinstance(values, list) else list(values)
        self._here += part
        self._count += len(part)
        self._size += n_bytes(part)
        if self._size > self._limit:
            if self._file is None:
                self._file = self._scratch.file()
            self._file.append(self._here)
            self._here = []
            self._size = 0

    def done(self) -> list[T] | Values[T]:
        """Everything that was added."""
        return self._here if self._file is None else Values(self._file, self._here, self._count)

    def __len__(self) -> int:
        return self._count
