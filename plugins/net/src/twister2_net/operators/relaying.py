"""Batches that workers pass on for others: gather, allgather and broadcast along trees and chains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_arrow, n_bytes
from twister2_net.exchange.hops import HopOperator
from twister2_net.exchange.ways import Way, collection, gathering

if TYPE_CHECKING:
    from twister2.spec.batch import Batch


class Parcel:
    """A batch on its way, with the tasks it goes between; target -1: all."""

    __slots__ = ("batch", "source", "target")

    def __init__(self, source: int, target: int, batch: Batch) -> None:
        self.source = source
        self.target = target
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def nbytes(self) -> int:
        """Size of the batch."""
        return n_bytes(self.batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return Parcel, (self.source, self.target, _compact(self.batch))


def _compact(batch: Batch) -> Batch:
    """A batch without the rows beside it: a slice of Arrow columns is pickled with everything it was cut from."""
    if not is_arrow(batch) or batch.get_total_buffer_size() <= 2 * batch.nbytes:
        return batch
    import numpy

    return batch.take(numpy.arange(batch.num_rows))


class Relay(HopOperator):
    """Batches go on as they come."""

    algorithm = "tree"

    def layout(self, me: int, sources: list[int], targets: list[int]) -> list[Way]:
        return collection(self.algorithm, me, sources, targets)

    def take(self, source: int, batch: Batch) -> None:
        self.came(~source, Parcel(source, -1, batch))

    def here(self, value: Parcel) -> None:
        for target in self.local_targets:
            self.give(target, value.source, value.batch)


class ChainRelay(Relay):
    """Along a line of workers, both ways."""

    algorithm = "chain"


class TreeGather(Relay):
    """Along a tree to the only target."""

    def layout(self, me: int, sources: list[int], targets: list[int]) -> list[Way]:
        return gathering(self.algorithm, me, sources, targets[0])


class ChainGather(TreeGather):
    """Along a line to the only target."""

    algorithm = "chain"
