"""co_group: of each key the values of every input, one list per input, at the target of the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, records
from twister2.spec.tracebacks import short
from twister2_net.combining.pairs import records_of
from twister2_net.operators.keyed_holding import Held, HeldPairs, HoldingOperator
from twister2_net.problems import no_pair, user_error, wrong_option
from twister2_net.spilling.record_order import row_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2_net.spilling.tables import Group


class CoGroup(HoldingOperator):
    """Pairs ``(key, (values of input 0, values of input 1, ...))``; no values of an input are an empty list.

    Values of a key that do not fit into memory are an iterable with a length, read from disk.
    """

    delivers_groups = True

    def prepare(self) -> None:
        n = len(self.context.inputs) or 1
        keys = self.options.get("keys")
        each = list(keys) if isinstance(keys, (list, tuple)) else [keys] * n
        if len(each) != n:
            raise wrong_option(
                self.label, "keys", f"{len(each)} keys are given for {n} inputs", "give one for all, or one per input"
            )
        self.key_functions = [self._function(key) for key in each]
        super().prepare()
        if self.samples:
            raise wrong_option(
                self.label, "bounds", "the records of a co_group are not sampled", "give bounds, or hash"
            )
        self.n_inputs = n

    def _function(self, key: Any) -> Any:
        if key is None or callable(key):
            return key
        if isinstance(key, str):
            return row_key(key, self.label)
        raise wrong_option(
            self.label, "keys", f"{short(key)} is no key", "give a function of a record, or the name of a column"
        )

    def take(self, source: int, batch: Batch) -> None:
        super().take(source, self._pairs(source, batch))

    def _pairs(self, source: int, batch: Batch) -> list[tuple[Any, Any]]:
        """Records as pairs of key and value: done on the sending side, so keys are taken once."""
        function = self.key_functions[self.context.input_of(source)]
        if function is None:
            pairs = records_of(batch, self.label)
            if is_array(batch):
                return [_pair_of(row, self.label, source) for row in pairs]
            return list(pairs)
        found: list[tuple[Any, Any]] = []
        record: Any = None
        try:
            for record in records(batch):
                found.append((function(record), record))
        except Exception as error:
            raise user_error(error, "key function", self.label, source, record) from error
        return found

    def make(self, target: int, batch: Batch) -> Held:
        return HeldPairs(self, target, self.n_inputs)

    def pairs(self, side: int, batch: Batch) -> list[tuple[Any, Any]]:
        return batch  # type: ignore[no-any-return]

    def delivered(self, groups: Iterator[Group]) -> Iterator[Any]:
        return iter(groups)


def _pair_of(row: Any, label: str, source: int) -> tuple[Any, Any]:
    if not isinstance(row, (list, tuple)) or len(row) != 2:
        raise no_pair(label, source, row)
    return row[0], row[1]
