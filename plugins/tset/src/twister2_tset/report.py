"""What the file sources of a context have read so far."""

from __future__ import annotations

import attrs

from twister2.spec.values import Value


@attrs.frozen(eq=False, repr=False)
class ReadReport(Value):
    """What was read, over all workers.

    :ivar records, n_bytes: records and bytes of decoded input; a set that was read twice counts twice.
    :ivar skipped: inputs that were left out, with the reason in words, sorted, each once.
    """

    records: int = 0
    n_bytes: int = 0
    skipped: tuple[str, ...] = ()

    def __add__(self, other: ReadReport) -> ReadReport:
        skipped = tuple(sorted({*self.skipped, *other.skipped}))
        return ReadReport(self.records + other.records, self.n_bytes + other.n_bytes, skipped)
