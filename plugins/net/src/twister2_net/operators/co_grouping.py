"""co_group: of each key the values of every input, one list per input, at the target of the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array
from twister2.spec.tracebacks import short
from twister2_net.combining.pairs import records_of
from twister2_net.operators.keyed_holding import Held, HeldPairs, HoldingOperator
from twister2_net.problems import no_pair, wrong_option
from twister2_net.selectors.record_keys import record_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_net.selectors.record_keys import RecordKey
    from twister2_net.spilling.tables import Group


class CoGroup(HoldingOperator):
    """Pairs ``(key, (values of input 0, values of input 1, ...))``; no values of an input are an empty list.

    Values of a key that do not fit into memory are an iterable with a length, read from disk.
    """

    delivers_groups = True
    keeps_columns = False

    def prepare(self) -> None:
        self.n_inputs = len(self.context.inputs) or 1
        super().prepare()
        if self.samples:
            raise wrong_option(
                self.label, "bounds", "the records of a co_group are not sampled", "give bounds, or hash"
            )

    def keys_of_inputs(self) -> Sequence[RecordKey]:
        keys, key = self.options.get("keys"), self.options.get("key")
        if keys is None:
            return [record_key(key, self.label)] * self.n_inputs
        if key is not None:
            raise wrong_option(self.label, "keys", "there is a key for all inputs", "leave one of both out")
        if not isinstance(keys, (list, tuple)) or len(keys) != self.n_inputs:
            raise wrong_option(
                self.label,
                "keys",
                f"{short(keys)} is not one key for each of {self.n_inputs} inputs",
                "give a list of one per input, or the option key for all",
            )
        return [record_key(one, self.label, "keys") for one in keys]

    def take(self, source: int, batch: Batch) -> None:
        if self.record_keys[self.context.input_of(source)].function is None:
            batch = self._pairs(source, batch)
        super().take(source, batch)

    def _pairs(self, source: int, batch: Batch) -> list[tuple[Any, Any]]:
        pairs = records_of(batch, self.label)
        if is_array(batch):
            return [_pair_of(row, self.label, source) for row in pairs]
        return list(pairs)

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
