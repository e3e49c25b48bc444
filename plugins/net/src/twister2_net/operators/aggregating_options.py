"""What is asked of an aggregate: its options, checked, and what of it can be made of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records
from twister2.spec.tracebacks import short
from twister2_net.combining.column_states import numbers_of, state_of
from twister2_net.combining.folds import NAMES, OF_RECORDS, ByFunctions, Fold, Several, fold_of
from twister2_net.operators.aggregating_columns import ColumnPlan, Out
from twister2_net.problems import wrong_option
from twister2_net.spilling.record_order import RecordOrder, row_key


class Wanted:
    """The options of an aggregate.

    :ivar keyed: whether there is one result for each key. :ivar key_names: of key columns, when all keys are such.
    :raises OperatorError: an option that can mean nothing.
    """

    def __init__(self, options: Mapping[str, Any], given: Mapping[str, Any], label: str) -> None:
        self.label = label
        self.options = options
        self._given = given
        self._kinds: dict[str, str] = {}
        self.pairs = bool(options["pairs"])
        key = options.get("key")
        if self.pairs and key is not None:
            raise wrong_option(self.label, "key", "the key of a pair is its first part", "leave out key, or pairs")
        self.keyed = self.pairs or key is not None
        self.order = RecordOrder(itemgetter(0) if self.pairs else key, False, None, self.label)
        self.key_names = tuple(self.order.columns) if key is not None and all(self.order.columns) else ()
        self.named: Mapping[str, tuple[Any, str]] | None = None
        """Of several aggregates: what each is made of, and its name."""
        self._alone = ""
        self._by_record = False
        self.fold = self._fold()

    def _fold(self) -> Fold:
        given = self.options.get("aggregates")
        by_functions = [name for name in ("zero", "add", "merge", "result") if name in self._given]
        if given is None:
            return self._by_functions(by_functions)
        if by_functions:
            raise wrong_option(self.label, by_functions[0], "aggregates are given by name", "leave one of both out")
        ddof = self.options["ddof"]
        if ddof not in (0, 1):
            raise wrong_option(self.label, "ddof", f"{short(ddof)} is neither 0 nor 1", "give 0 or 1")
        if isinstance(given, str):
            self._check(given)
            self._alone = given
            return fold_of(given, ddof)
        if not isinstance(given, Mapping) or not given:
            raise wrong_option(
                self.label, "aggregates", f"{short(given)} names nothing",
                'give a name, or a dict such as {"total": ("price", "sum"), "rows": "count"}',
            )  # fmt: skip
        named: dict[str, tuple[Any, str]] = {}
        for name, what in given.items():
            column, function = (None, what) if isinstance(what, str) else self._two(name, what)
            self._check(function)
            if name in self.key_names:
                raise wrong_option(
                    self.label, "aggregates", f"{name!r} is a key column too", "give the aggregate another name"
                )
            named[name] = column, function
        self.named = named
        return Several(
            {
                name: (
                    row_key(column, self.label) if isinstance(column, str) else column,
                    fold_of(function, ddof, all_records=column is None),
                )
                for name, (column, function) in named.items()
            }
        )

    def _by_functions(self, given: list[str]) -> Fold:
        if not given:
            raise wrong_option(
                self.label, "aggregates", "neither it nor zero, add and merge say what to make of the records",
                'give a name, such as "sum", or a dict such as {"total": ("price", "sum"), "rows": "count"}; or '
                "functions: zero, add and merge",
            )  # fmt: skip
        missing = [name for name in ("zero", "add", "merge") if name not in given]
        if missing:
            raise wrong_option(
                self.label, missing[0], "an aggregate is made by zero, add and merge, or by aggregates",
                f"give {', '.join(missing)}",
            )  # fmt: skip
        for name in ("add", "merge", "result"):
            if name in given and not callable(self.options[name]):
                raise wrong_option(self.label, name, f"{short(self.options[name])} is no function", "give a function")
        options = self.options
        return ByFunctions(options["zero"], options["add"], options["merge"], options.get("result"), self.label)

    def _two(self, name: str, what: Any) -> tuple[Any, str]:
        if not isinstance(what, Sequence) or len(what) != 2 or not (isinstance(what[0], str) or callable(what[0])):
            raise wrong_option(
                self.label, "aggregates", f"{name!r} is made of {short(what)}",
                'give ("column", "sum"), (function of a record, "sum") or "count"',
            )  # fmt: skip
        return what[0], what[1]

    def _check(self, function: Any) -> None:
        if function not in NAMES:
            raise wrong_option(
                self.label, "aggregates", f"it knows no {short(function)}", f"give one of {', '.join(NAMES)}"
            )
        self._by_record = self._by_record or function in OF_RECORDS

    # -- columns ---------------------------------------------------------------------------------------------------

    def plan_of(self, table: Any) -> ColumnPlan | None:
        """What can be made of columns without a look at records; None where records are needed."""
        if self._by_record:
            return None
        ddof, kinds = self.options["ddof"], self._kinds
        if self.pairs:
            if not self._alone or table.num_columns != 2:
                return None
            key, value = table.schema.names
            return ColumnPlan((key,), (Out(value, value, self._alone),), ddof, kinds, self.label)
        if self.named is None or not self.key_names:
            return None
        outs = []
        for name, (column, function) in self.named.items():
            if not isinstance(column, str) and (column is not None or function != "count"):
                return None
            outs.append(Out(name, column, function))
        return ColumnPlan(self.key_names, tuple(outs), ddof, kinds, self.label)

    def columns_of(self, batch: Batch) -> Any:
        """A batch as Arrow columns; None for one that has none."""
        if is_arrow(batch):
            return batch
        names = batch.dtype.names if is_array(batch) else None
        if not names or any(batch[name].ndim != 1 or batch.dtype[name].kind not in "biufSUMm" for name in names):
            return None
        try:
            import pyarrow
        except ImportError:
            return None
        try:
            table = pyarrow.table({name: _native(batch[name]) for name in names})
        except pyarrow.ArrowNotImplementedError:  # long doubles, times in days
            return None
        self._kinds = {name: batch.dtype[name].str for name in names}
        return table

    def state_of(self, batch: Batch) -> Any:
        """The state of a whole batch of which there is one result, made of its columns; None where that cannot be."""
        if self._by_record:
            return None
        if self._alone:
            numbers = numbers_of(batch) if is_array(batch) and batch.dtype.names is None else None
            return None if numbers is None else (state_of(self._alone, numbers),)
        if self.named is None:
            return None
        names = batch.schema.names if is_arrow(batch) else batch.dtype.names if is_array(batch) else None
        if not names:
            return None
        states = []
        for column, function in self.named.values():
            if column is None and function == "count":
                states.append(n_records(batch))
                continue
            found = batch.column(column) if is_arrow(batch) and column in names else None
            if found is None and not is_arrow(batch) and column in names:
                found = batch[column]
            numbers = None if found is None else numbers_of(found)
            if numbers is None:
                return None
            states.append(state_of(function, numbers))
        return (tuple(states),)


def _native(column: Any) -> Any:
    """A column of an array in one piece, in this machine's byte order."""
    import numpy

    return numpy.ascontiguousarray(column, column.dtype.newbyteorder("="))
