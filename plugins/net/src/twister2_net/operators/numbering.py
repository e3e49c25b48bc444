"""number: records with their index, counted over all sources in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.batch import Batch, n_bytes, n_records, records
from twister2.spec.tracebacks import short
from twister2_net.exchange.agreeing import Agreement
from twister2_net.exchange.lanes import DATA, END
from twister2_net.operators.moving import Direct
from twister2_net.problems import wrong_option
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from twister2.spec.channel import HeaderKind


class Number(Direct):
    """Pairs ``(index, record)``, source i to target i.

    The index of a record is known once the sources before its own have been counted: until all local sources have
    finished, their batches are held, on disk when memory gets short; then the counts are exchanged.
    """

    def prepare(self) -> None:
        super().prepare()
        start = self.options["start"]
        if isinstance(start, bool) or not isinstance(start, int):
            raise wrong_option(self.label, "start", f"{short(start)} is no integer", "give the index of the first")

    def begin(self) -> None:
        super().begin()
        self._counts = dict.fromkeys(self.local_sources, 0)
        self._open = set(self.local_sources)
        self._held: HeldBatches[tuple[int, Batch]] = HeldBatches(
            self.context.memory, f"{self.label}: held until all are counted"
        )
        self._agreement = Agreement(self)
        self._next: dict[int, int] = {}
        self._unsent = set(self.local_sources)

    def take(self, source: int, batch: Batch) -> None:
        if n_records(batch):
            self._counts[source] += n_records(batch)
            self._held.put((source, batch), n_bytes(batch))

    def marked(self, source: int, kind: HeaderKind, value: object) -> None:
        """There are none in batch mode."""

    def finished(self, source: int) -> None:
        self._open.discard(source)

    def progress(self) -> bool:
        moved = super().progress()
        if self._open:
            return moved
        if self._agreement.progress(list(self._counts.items())):
            index = self.options["start"]
            for source, count in sorted(self._agreement.result):
                self._next[source] = index
                index += count
            moved = True
        if self._agreement.done:
            moved = self._send_on() or moved
        return moved

    def _send_on(self) -> bool:
        moved = False
        while self._held and not self.is_waiting:
            source, batch = self._held.get()
            first = self._next[source]
            self._next[source] = first + n_records(batch)
            self.push(source, source, DATA, list(enumerate(records(batch), first)))
            moved = True
        if not self._held:
            for source in sorted(self._unsent):
                self.push(source, source, END)
                moved = True
            self._unsent.clear()
        return moved

    @property
    def is_complete(self) -> bool:
        return self._agreement.done and not self._unsent and super().is_complete

    def close(self) -> None:
        if not self.closed:
            self._held.close()
            self._agreement.close()
        super().close()
