"""join: the records of two inputs that have equal keys, side by side, at the target of the key.

With the option ``broadcast`` one side goes to all targets, and records lie where the other side had them.

Everything between two marks is held: pairs in a table of groups of two sides, Arrow batches as columns. Both go to disk
when memory gets short. NaN equals NaN and None equals None here, as in all keyed operators.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_arrow, n_records
from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short
from twister2_net.exchange.lanes import DATA
from twister2_net.operators.joining_columns import LEFT_ALONE, joined
from twister2_net.operators.keyed_gathering import batches_of
from twister2_net.operators.keyed_holding import Held, HeldPairs, HoldingOperator, pairs_of
from twister2_net.problems import wrong_option
from twister2_net.selectors.record_keys import record_key
from twister2_net.spilling.named_columns import NamedForm, without_rows
from twister2_net.spilling.queues import Collecting, Values
from twister2_net.spilling.sorted_columns import SortedColumns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twister2_net.selectors.record_keys import RecordKey
    from twister2_net.spilling.tables import Group

HOW = ("inner", "left", "right", "full", "semi", "anti")
ALGORITHMS = ("hash", "sort")
_SIDES = ("left", "right")


class Join(HoldingOperator):
    """Pairs ``(key, (left, right))``, with None for a side that has no such key; rows of both sides for Arrow. Of the
    kinds semi and anti, what the left gave.
    """

    def prepare(self) -> None:
        for name, known in (("how", HOW), ("algorithm", ALGORITHMS)):
            if self.options[name] not in known:
                raise wrong_option(
                    self.label, name, f"it knows no {short(self.options[name])}", f"give one of {', '.join(known)}"
                )
        if len(self.context.inputs) != 2:
            raise OperatorError(
                f"{self.label} has {len(self.context.inputs) or 1} inputs",
                why="a join has two: left and right",
                remedy="connect two edges, or say how many sources each input has",
                where=self.label,
            )
        for name in (f"{side}_schema" for side in _SIDES):
            schema = self.options[name]
            if schema is not None and not hasattr(schema, "empty_table"):
                why = f"{short(schema)} is no schema of pyarrow's"
                raise wrong_option(self.label, name, why, "give pyarrow.schema({'column': type, ...})")
        self.how = self.options["how"]
        side = self.options["broadcast"]
        if side is not None and side not in self.info.broadcasts[self.how]:
            raise wrong_option(
                self.label,
                "broadcast",
                f"the side {short(side)} of the kind {self.how!r} cannot go to all targets",
                f"give {' or '.join((*self.info.broadcasts[self.how], 'None'))}",
            )
        if side is not None and (self.options["partitioner"] != "hash" or self.options["in_place"]):
            raise wrong_option(
                self.label,
                "broadcast",
                "no record goes where a partitioner, or in_place, says when one side goes to all targets",
                "give one of the two",
            )
        if self.options["algorithm"] == "sort":
            self.options["order"] = self.options["order"] or True
        self.options["ordered"] = False
        super().prepare()
        if self.samples:
            raise wrong_option(
                self.label, "bounds", "the records of a join are not sampled", "give bounds, or another partitioner"
            )

    def keys_of_inputs(self) -> Sequence[RecordKey]:
        left, right = keys = [
            record_key(self.options.get(name), self.label, name) for name in ("left_key", "right_key")
        ]
        if left.columns and right.columns and len(left.columns) != len(right.columns):
            raise wrong_option(
                self.label,
                "right_key",
                f"it names {len(right.columns)} columns, and left_key {len(left.columns)}",
                "name as many columns in left_key as in right_key",
            )
        # rows that a function must see are joined as pairs, with which columns of the other side do not fit
        self.keeps_columns = all(key.function is None or key.columns for key in keys)
        return keys

    # -- sending side ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        self._schemas: dict[int, Batch] = {}

    def all_to(self, source: int) -> Sequence[int] | None:
        broadcast = self.options["broadcast"]
        if broadcast is None:
            return super().all_to(source)
        side = self.context.input_of(source)
        if _SIDES[side] == broadcast:
            return range(self.n_targets)
        return ((source - sum(self.context.inputs[:side])) % self.n_targets,)

    def place(self, source: int, batch: Batch) -> None:
        if is_arrow(batch):
            self._note(source, batch)
        super().place(source, batch)

    def _note(self, source: int, batch: Any) -> None:
        """Remember the columns of all batches of a source; not all need have the same."""
        known = self._schemas.get(source)
        if known is None:
            self._schemas[source] = without_rows(batch)
        elif known.schema != batch.schema:
            self._schemas[source] = without_rows(NamedForm((), self.label).joined([known, without_rows(batch)]))

    def flush(self, source: int) -> None:
        super().flush(source)
        # Targets without rows of a side must know its columns all the same.
        if source in self._schemas:
            for target in range(self.n_targets):
                self.push(source, target, DATA, self._schemas[source])

    # -- receiving side --------------------------------------------------------------------------------------------

    def make(self, target: int, batch: Batch) -> Held:
        if is_arrow(batch):
            if callable(self.options["order"]):
                raise wrong_option(
                    self.label,
                    "order",
                    "Arrow batches are sorted by the values of their key columns",
                    "give order=True, or send pairs",
                )
            return _HeldTables(self, target)
        return HeldPairs(self, target, 2)

    def pairs(self, side: int, batch: Batch) -> list[tuple[Any, Any]]:
        return pairs_of(batch, self.label)

    def delivered(self, groups: Iterator[Group]) -> Iterator[Any]:
        if self.how in LEFT_ALONE:
            for key, (lefts, rights) in groups:
                if bool(rights) == (self.how == "semi"):
                    for left in lefts:
                        yield key, left
            return
        keep_left, keep_right = self.how in ("left", "full"), self.how in ("right", "full")
        for key, (lefts, rights) in groups:
            if lefts and rights:
                for pair in _product(lefts, rights):
                    yield key, pair
            elif lefts and keep_left:
                for left in lefts:
                    yield key, (left, None)
            elif rights and keep_right:
                for right in rights:
                    yield key, (None, right)


def _product(lefts: Any, rights: Any) -> Iterator[tuple[Any, Any]]:
    """All pairs of a value of the left and one of the right; what lies on disk is read once per block of the other."""
    if isinstance(rights, Values):
        for some in lefts.chunks() if isinstance(lefts, Values) else [lefts]:
            for right in rights:
                for left in some:
                    yield left, right
        return
    for left in lefts:
        for right in rights:
            yield left, right


class _HeldTables(Held):
    """Arrow batches of two sides."""

    def __init__(self, owner: Join, task: int) -> None:
        self._owner = owner
        self._forms = [NamedForm(key.columns, owner.label) for key in owner.record_keys]
        self._columns = SortedColumns(owner.context.memory, owner.holder(task), self._forms)
        self._schemas: list[list[Any]] = [[], []]
        self._rows = owner.config.batch_records

    def add(self, side: int, batch: Batch) -> None:
        self._forms[side].columns(batch)
        if n_records(batch):
            self._columns.add(side, batch)
        elif not any(known.schema == batch.schema for known in self._schemas[side]):
            self._schemas[side].append(batch)

    def emit(self) -> Iterator[Batch]:
        windows = self._columns.windows()
        if windows is None:
            yield from self._joined([self._columns.here(0), self._columns.here(1)])
            return
        for window in windows:
            if window.below:
                sides: list[list[Any]] = [[], []]
                for side, part in window.parts:
                    sides[side].append(part)
                yield from self._joined(sides)
            else:
                yield from self._equal(window.parts)

    def _equal(self, parts: Iterable[tuple[int, Any]]) -> Iterator[Batch]:
        """Rows of one key, however many: every block of the left with every block of the right."""
        scratch = self._columns.scratch
        found: list[Collecting[Any]] = [Collecting(scratch, 4 * scratch.block_bytes) for _ in _SIDES]
        for side, part in parts:
            found[side].add([part])
        lefts, rights = (one.done() for one in found)
        if self._owner.how in LEFT_ALONE:
            partner = list(islice(rights, 1))  # one tells as much as all
            for left in lefts:
                yield from self._joined([[left], partner])
        elif lefts and rights:
            for left, right in _product(lefts, rights):
                yield from self._joined([[left], [right]])
        else:
            for left in lefts:
                yield from self._joined([[left], []])
            for right in rights:
                yield from self._joined([[], [right]])

    def _joined(self, sides: list[list[Any]]) -> Iterator[Batch]:
        owner = self._owner
        tables = [self._table(side, parts) for side, parts in enumerate(sides)]
        in_order = owner.options["algorithm"] == "sort"
        for table in joined(tables, self._forms, owner.how, owner.label, in_order=in_order, rows=self._rows):
            yield from batches_of(table, self._rows)

    def _table(self, side: int, parts: list[Any]) -> Any:
        """The parts of a side as one table; None when nobody knows its columns."""
        known = self._known(side)
        if known is None or (parts and all(part.schema == known.schema for part in parts)):
            return self._forms[side].joined(parts) if parts else None
        return self._forms[side].joined([known, *parts])

    def _known(self, side: int) -> Any:
        """No rows, with all columns of a side, in an order that is the same at every target; as its sources said, or
        else the program.
        """
        empty = sorted(self._schemas[side], key=lambda batch: (-batch.num_columns, batch.schema.names))
        given = self._owner.options[f"{_SIDES[side]}_schema"]
        if not empty and given is not None:
            empty = [given.empty_table()]
        return self._forms[side].joined(empty) if empty else None

    def state(self) -> Any:
        state = [(side, empty) for side, batches in enumerate(self._schemas) for empty in batches]
        state += self._columns.state() or []
        return ("batches", state) if state else None

    def add_back(self, state: Any) -> None:
        for side, batch in state[1]:
            self.add(side, batch)

    def close(self) -> None:
        self._columns.close()
