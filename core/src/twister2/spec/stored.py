"""Records that stay on the workers between graphs: what one graph kept, later ones read where it lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.spec.batch import Batch


class Partition(ABC):
    """The batches of one task, in the order in which it got them. Read as often as wanted, by several readers at once.

    They are the system's: arrays in them are read-only. They may be in memory or on disk.
    """

    n_records: int
    n_bytes: int

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """All batches.

        :raises UsageError: the set was cleared or closed. :raises SpillError: what lay on disk cannot be read.
        """

    @abstractmethod
    def records(self) -> Iterator[Any]:
        """All records, as :func:`twister2.spec.batch.records` gives those of a batch."""
