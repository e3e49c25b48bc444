"""Tables of groups that may be larger than memory: values by key, of one or two sides, or one combined value by key.

A table is a dict while there is room. When memory gets short, its entries are written as a run, sorted by the rank of
their keys, and the dict begins anew. In the end runs are merged in blocks, so that the parts of a group meet. The rank
is the stable hash, which cuts any table evenly however keys are distributed, or the user's order of keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import MemoryBudgetError
from twister2_net.problems import no_hash, no_pair, user_error
from twister2_net.spilling.key_order import WITHOUT_NAN, canonical_pairs, restored
from twister2_net.spilling.queues import Collecting, HeldBatches
from twister2_net.spilling.runs import Entries, Runs
from twister2_net.spilling.table_size import Pace, table_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from twister2.spec.memory import MemoryService, Scratch
    from twister2_net.spilling.key_order import Pairs, Ranking

Group = tuple[Any, tuple[Any, ...]]
"""A key, and its values of each side: a list, or :class:`~twister2_net.spilling.queues.Values`."""

_PER_KEY = 200
"""Bytes that a new key costs beside what the pairs cost: a place in the dict, and a list."""
_KEYS_AT_ONCE = 1024
_rank_of = itemgetter(0)


class SpillingTable(ABC):
    """Base: dicts, one per side, that become runs when memory gets short."""

    def __init__(self, memory: MemoryService, name: str, ranking: Ranking, sides: int = 1) -> None:
        self._memory = memory
        self._name = name
        self.ranking = ranking
        self.tables: list[dict[Any, Any]] = [{} for _ in range(sides)]
        self._records = 0
        self._runs: Runs | None = None
        self._emptied = False
        self.record_bytes = 1
        """Bytes of a record, about."""
        self._room = memory.reserve(name, revoke=self._revoke)

    def __bool__(self) -> bool:
        return any(self.tables) or self._runs is not None

    @abstractmethod
    def entries(self, table: dict[Any, Any], side: int, rows: int) -> Iterator[list[tuple[Any, ...]]]:
        """The table as sorted blocks of entries ``(rank, key, side, value)``, about ``rows`` records in each. The
        table is emptied on the way.
        """

    def ranked(self, table: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
        """Rank and key of all keys, in order of rank."""
        keys = list(table)
        ranks, positions = self.ranking.ranked(keys)
        return zip(map(ranks.__getitem__, positions), map(keys.__getitem__, positions), strict=True)

    def _revoke(self, wanted: int) -> int:
        if self._emptied or not any(self.tables):
            return 0
        if self._runs is None:
            self._runs = Runs(self._memory, self._name, [Entries()] * len(self.tables))
        rows = max(1, self._runs.scratch.block_bytes * max(1, self._records) // max(1, self._room.size))
        tables, self.tables = self.tables, [{} for _ in self.tables]
        for side, table in enumerate(tables):
            if table:
                self._runs.write(self.entries(table, side, rows), side)
        freed = self._room.size
        self._room.resize(0)
        self._records = 0
        return freed

    def merged(self) -> Runs | None:
        """The runs, with what was in memory among them; None when nothing was ever spilled."""
        if self._runs is not None:
            self._revoke(0)
        return self._runs

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self.tables = [{} for _ in self.tables]
        self._room.release()
        if self._runs is not None:
            self._runs.close()
            self._runs = None


class GroupTable(SpillingTable):
    """The values of each key, by side, in the order they were added.

    :param sides: 1; one for each input of a join or co_group.
    """

    def add(self, side: int, pairs: Pairs, size: int, task: int) -> None:
        """Take in pairs of ``size`` bytes.

        :raises KeyHashError: a key cannot be hashed.
        """
        self._room.grow(size)
        table = self.tables[side]
        before = len(table)
        get = table.get
        try:
            pairs = canonical_pairs(pairs)
            for key, value in pairs:
                values = get(key)
                if values is None:
                    table[key] = [value]
                else:
                    values.append(value)
        except Exception as error:
            raise self._blamed(pairs, task, error) from error
        self._records += len(pairs)
        self.record_bytes = max(1, size // max(1, len(pairs)))
        self._room.grow(_PER_KEY * (len(table) - before))

    def _blamed(self, pairs: Sequence[Any], task: int, error: Exception) -> Exception:
        for pair in pairs:
            if len(pair) != 2:
                return no_pair(self._name, task, pair)
            key = pair[0]
            try:
                hash(key)
            except TypeError as unhashable:
                return no_hash(self._name, task, key, unhashable)
        return user_error(error, "key", self._name, task, pairs[:1])

    def entries(self, table: dict[Any, Any], side: int, rows: int) -> Iterator[list[tuple[Any, ...]]]:
        block: list[tuple[Any, ...]] = []
        count = 0
        pop = table.pop
        for rank, key in self.ranked(table):
            values = pop(key)
            number = len(values)
            if number > rows:
                for start in range(0, number, rows):
                    yield [*block, (rank, key, side, values[start : start + rows])]
                    block = []
                count = 0
                continue
            block.append((rank, key, side, values))
            count += number
            if count >= rows:
                yield block
                block, count = [], 0
        if block:
            yield block

    def groups(self) -> Iterator[Group]:
        """All groups, in order of rank if the table was spilled or the rank is an order. Afterwards it is empty."""
        runs = self.merged()
        if runs is None:
            yield from self._here()
            return
        limit = 4 * runs.scratch.block_bytes
        for window in self.ranking.windows(runs):
            parts = (entry for _, part in window.parts for entry in part)
            yield from self._below(parts) if window.below else self._equal(parts, runs.scratch, limit)
        self.close()

    def _below(self, parts: Iterable[Any]) -> Iterator[Group]:
        """The groups of a window that is complete."""
        found: dict[Any, list[list[Any]]] = {}
        get = found.get
        sides = len(self.tables)
        for _, key, side, values in sorted(parts, key=_rank_of):
            group = get(key)
            if group is None:
                group = found[key] = [[] for _ in range(sides)]
            group[side] += values
        for key, group in found.items():
            yield restored(key), tuple(group)

    def _equal(self, parts: Iterable[Any], scratch: Scratch, limit: int) -> Iterator[Group]:
        """The groups of one rank (nearly always one), however long."""
        found: dict[Any, list[Collecting[Any]]] = {}
        for _, key, side, values in parts:
            group = found.get(key)
            if group is None:
                group = found[key] = [Collecting(scratch, limit) for _ in self.tables]
            group[side].add(values)
        for key, group in found.items():
            yield restored(key), tuple(one.done() for one in group)

    def _here(self) -> Iterator[Group]:
        """The groups of a table that was never spilled. They can still go to disk while they wait to be read."""
        self._emptied = True
        keys = list(self.tables[0])
        if len(self.tables) > 1:
            keys = list(dict.fromkeys(key for table in self.tables for key in table))
        if self.ranking.is_order:
            _, positions = self.ranking.ranked(keys)
            keys = [keys[position] for position in positions]
        share = self._room.size / max(1, len(keys))
        held: HeldBatches[list[Group]] = HeldBatches(self._memory, f"{self._name}: results")
        walk = iter(keys)
        none: list[Any] = []
        try:
            while some := list(islice(walk, _KEYS_AT_ONCE)):
                size = int(share * len(some))
                self._room.resize(max(0, self._room.size - size))
                held.put([(key, tuple(table.pop(key, none) for table in self.tables)) for key in some], size)
            self.close()
            for groups in held.drain():
                for key, sides in groups:
                    yield restored(key), sides
        finally:
            held.close()

    def add_back(self, state: list[tuple[int, Pairs]]) -> None:
        """Take in what :meth:`state` gave."""
        for side, groups in state:
            for key, values in groups:
                self.add(side, [(key, value) for value in values], 0, -1)

    def state(self) -> list[tuple[int, Pairs]] | None:
        """Everything held, in memory, to be pickled: pairs of key and values by side. None when nothing is."""
        state: list[tuple[int, Pairs]] = [
            (side, list(table.items())) for side, table in enumerate(self.tables) if table
        ]
        if self._runs is not None:
            runs: list[tuple[int, Pairs]] = [
                (side, [(key, values) for _, key, _, values in block]) for side, block in self._runs.blocks()
            ]
            state = [*runs, *state]
        return state or None


class FoldTable(SpillingTable):
    """One combined value for each key.

    :param combine: ``combine(key, left, right)`` gives the two values as one.
    """

    def __init__(
        self, memory: MemoryService, name: str, ranking: Ranking, combine: Callable[[Any, Any, Any], Any]
    ) -> None:
        super().__init__(memory, name, ranking)
        self._combine = combine
        self._pace = Pace(memory.use().budget)

    @property
    def table(self) -> dict[Any, Any]:
        """What is in memory now; add to it and call :meth:`grown`."""
        return self.tables[0]

    def grown(self, merged: int) -> None:
        """So many pairs were merged: count the table again if they are many; it may be spilled by that."""
        if not self._pace.due(merged):
            return
        self._records = len(self.table)
        size = table_bytes(self.table)
        self._pace.seen(size, self._records)
        self.record_bytes = max(1, size // max(1, self._records))
        try:
            self._room.resize(size)
        except MemoryBudgetError:
            self._revoke(0)
        if not self.table:
            self._room.resize(0)

    def entries(self, table: dict[Any, Any], side: int, rows: int) -> Iterator[list[tuple[Any, ...]]]:
        walk = self.ranked(table)
        while some := list(islice(walk, rows)):
            yield [(rank, key, side, table.pop(key)) for rank, key in some]

    def results(self) -> Iterator[tuple[Any, Any]]:
        """All keys with their values. Afterwards it is empty."""
        runs = self.merged()
        if runs is None:
            self._emptied = True
            if WITHOUT_NAN.issuperset(map(type, self.table)):
                yield from self.table.items()
            else:
                for key, value in self.table.items():
                    yield restored(key), value
            self.close()
            return
        for window in self.ranking.windows(runs):
            found: dict[Any, Any] = {}
            for _, key, _, value in (entry for _, part in window.parts for entry in part):
                found[key] = self._combine(key, found[key], value) if key in found else value
            for key, value in found.items():
                yield restored(key), value
        self.close()

    def state(self) -> list[list[tuple[Any, Any]]] | None:
        """Everything held, in memory, to be pickled; None when nothing is."""
        state = [list(self.table.items())] if self.table else []
        if self._runs is not None:
            state = [[(key, value) for _, key, _, value in block] for _, block in self._runs.blocks()] + state
        return state or None

    def add_back(self, state: list[list[tuple[Any, Any]]]) -> None:
        """Take in what :meth:`state` gave."""
        for pairs in state:
            table = self.table
            for key, value in pairs:
                table[key] = self._combine(key, table[key], value) if key in table else value
            self.grown(len(pairs))


BATCH_BYTES = 1 << 20
"""Bytes of a batch of results, about."""


def sliced(records: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """Records in batches."""
    walk = iter(records)
    while batch := list(islice(walk, count)):
        yield batch


def sliced_by_weight(records: Iterable[Any], count: int, weigh: Callable[[Any], int], most: int) -> Iterator[list[Any]]:
    """Records in batches of at most ``count``; a batch ends once its records weigh ``most``."""
    batch: list[Any] = []
    weight = 0
    for record in records:
        batch.append(record)
        weight += weigh(record)
        if weight >= most or len(batch) >= count:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch
