"""Bounds of ranges from a sample: every worker gives a sample of its keys, all workers choose the same bounds.

Until its sources have finished, a worker holds their batches, on disk when memory gets short; then the workers exchange
samples, and what was held goes its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, n_bytes, records
from twister2.spec.patterns import Run, exchange
from twister2_net.exchange.lanes import DATA, END, workers_of
from twister2_net.problems import no_order, user_error
from twister2_net.selectors.key_columns import array_column, arrow_keys, by_columns
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twister2.spec.channel import HeaderKind
    from twister2_net.operators.partitioning import Partitioning

_SECOND_PORT = 1 << 30
"""Added to the number of the edge for the port that carries samples."""

Sample = tuple[int, list[Any]]
"""Number of records, and some of their keys."""


def thin(keys: Sequence[Any], limit: int) -> list[Any]:
    """At most ``limit`` keys, evenly spread over a sorted sequence."""
    count = len(keys)
    if count <= limit:
        return list(keys)
    return [keys[(2 * index + 1) * count // (2 * limit)] for index in range(limit)]


def choose_bounds(samples: Sequence[Sample], n: int, rank: Callable[[Any], Any] | None = None) -> list[Any]:
    """``n - 1`` ascending bounds that cut the records behind the samples into ranges of about equal size.

    The same samples give the same bounds. Without any record all bounds are missing: the list is empty.

    :param rank: what is compared of a key; the key itself when None.
    """
    weighted = sorted(
        ((key, count / len(keys)) for count, keys in samples if keys for key in keys),
        key=lambda pair: pair[0] if rank is None else rank(pair[0]),
    )
    if not weighted:
        return []
    total = sum(weight for _, weight in weighted)
    bounds: list[Any] = []
    passed = 0.0
    for key, weight in weighted:
        while len(bounds) < n - 1 and passed >= total * (len(bounds) + 1) / n:
            bounds.append(key)
        passed += weight
    while len(bounds) < n - 1:
        bounds.append(weighted[-1][0])
    return bounds


class Sampler:
    """What one worker's end of a range partition does before the bounds are known."""

    def __init__(self, owner: Partitioning) -> None:
        self._owner = owner
        self._held: HeldBatches[tuple[int, HeaderKind, Any]] = HeldBatches(
            owner.context.memory, f"{owner.label}: held for the sample"
        )
        self._total = 0
        self._open = set(owner.local_sources)
        workers = workers_of([*owner.context.sources, *owner.context.targets])
        me = owner.context.network.worker_id
        self._rank = workers.index(me) if me in workers else -1
        self._size = len(workers)
        self._port = owner.context.network.open_port(
            owner.port_step, owner.context.edge + _SECOND_PORT, workers, workers
        )
        self._exchange: Run | None = None
        self.done = self._rank < 0
        """Whether the bounds are known."""

    @property
    def over(self) -> bool:
        """Whether nothing is held any more."""
        return self.done and not self._held

    def take(self, source: int, batch: Batch) -> None:
        """Hold a batch."""
        self._total += len(batch)
        self._held.put((source, DATA, batch), n_bytes(batch))

    def mark(self, source: int, kind: HeaderKind, value: Any) -> None:
        """Hold a mark, END included."""
        self._held.put((source, kind, value), 0)
        if kind == END:
            self._open.discard(source)

    def progress(self) -> bool:
        """Exchange samples once all local sources have finished; whether the bounds became known."""
        if self._open:
            return False
        if self._exchange is None:
            self._exchange = Run(
                exchange(self._rank, self._size, [self._sample()], lambda left, right: left + right),
                self._port,
                self._rank,
            )
        if not self._exchange.advance():
            return False
        self._owner.bounded(self.chosen(self._exchange.result))
        self._port.close()
        self.done = True
        return True

    def chosen(self, samples: Sequence[Sample]) -> list[Any]:
        """The bounds."""
        try:
            return choose_bounds(samples, self._owner.n_targets)
        except TypeError as error:
            raise no_order(self._owner.label, error) from error
        except Exception as error:
            raise user_error(error, "order of keys", self._owner.label, -1, samples) from error

    def batches(self) -> Iterator[Batch]:
        """The batches that are held."""
        return (batch for _, kind, batch in self._held.peek() if kind == DATA)

    def _sample(self) -> Sample:
        owner = self._owner
        limit = owner.config.sample_per_target * owner.n_targets
        total = self._total
        # a batch gives as much of the sample as it has of the records
        keys: list[Any] = []
        for source, batch in ((source, batch) for source, kind, batch in self._held.peek() if kind == DATA):
            some = thin(self._keys(source, batch), max(1, limit * len(batch) // max(1, total)))
            keys += [key.item() if hasattr(key, "dtype") else key for key in some]
        try:
            keys.sort()
        except TypeError as error:
            raise no_order(owner.label, error) from error
        except Exception as error:
            raise user_error(error, "order of keys", owner.label, -1, keys) from error
        return total, thin(keys, 2 * limit)

    def _keys(self, source: int, batch: Batch) -> Sequence[Any]:
        owner = self._owner
        if is_array(batch):
            column = array_column(batch, owner.key, owner.columns, owner.label)
            if isinstance(column, list):
                return column
            if column is not None:
                import numpy

                ordered: Any = numpy.sort(column)
                return ordered  # type: ignore[no-any-return]
        if by_columns(batch, owner.key, owner.columns):
            return list(arrow_keys(batch, owner.columns, owner.label))
        rows = list(records(batch))
        if owner.key is None:
            return rows
        keys = []
        for record in rows:
            try:
                keys.append(owner.key(record))
            except Exception as error:
                raise user_error(error, "key function", owner.label, source, record) from error
        return keys

    def replay(self) -> bool:
        """Send on what was held, as far as there is credit; whether anything went."""
        owner = self._owner
        moved = False
        while self._held and not owner.is_waiting:
            source, kind, value = self._held.get()
            moved = True
            if kind == DATA:
                owner.place(source, value)
            elif kind == END:
                owner.finished(source)
            else:
                owner.marked(source, kind, value)
        return moved

    def close(self) -> None:
        """Forget everything."""
        self._held.close()
        self._port.close()
