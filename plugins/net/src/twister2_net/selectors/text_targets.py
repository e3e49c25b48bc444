"""The targets of texts, remembered in arrays: many are looked up at once, without a loop and without their letters.

A text is known by the 64 bits of its built-in hash, which its object holds already. That hash is keyed with a secret of
the job (SipHash), so that two texts share one as seldom as 64 random bits are equal: a target is wrong once in 2**64
texts that were not seen before. Where the interpreter's hash is another or not keyed, this is not used. The target
itself comes from the stable hash, which costs about a microsecond and so is worth remembering.
"""

from __future__ import annotations

import sys
from typing import Any

from twister2.spec.hashing import tasks_of_keys

_SLOTS = 1 << 17
_SHIFT = 24
"""Bits of a hash that say its place in the second table begin here; those for the first one at 0."""


def is_usable() -> bool:
    """Whether the built-in hash of text is a keyed one of 64 bits."""
    info = sys.hash_info
    return info.algorithm.startswith("siphash") and info.hash_bits == 64 and sys.flags.hash_randomization != 0


class TextTargets:
    """Two tables of hash and target. What a new text drives out of the first goes to the second, from there for good.

    :param n: number of targets.
    """

    def __init__(self, n: int) -> None:
        import numpy

        self.n = n
        slots = numpy.arange(_SLOTS, dtype=numpy.int64) ^ 1
        self._hashes = slots, slots << _SHIFT  # each where no text of that hash is looked for
        kind = numpy.uint8 if n <= 256 else numpy.uint32
        self._targets = numpy.zeros(_SLOTS, kind), numpy.zeros(_SLOTS, kind)

    def of(self, keys: list[str]) -> Any:
        """The targets of texts, as an array."""
        import numpy

        hashes = numpy.fromiter(map(hash, keys), numpy.int64, len(keys))
        slots = hashes & (_SLOTS - 1)
        found = self._targets[0][slots]
        missed = numpy.flatnonzero(self._hashes[0][slots] != hashes)
        if len(missed):
            others = hashes[missed]
            slots = (others >> _SHIFT) & (_SLOTS - 1)
            found[missed] = self._targets[1][slots]
            unknown = missed[self._hashes[1][slots] != others]
            if len(unknown):
                found[unknown] = self._learn(keys, hashes, unknown, numpy)
        return found

    def _learn(self, keys: list[str], hashes: Any, unknown: Any, numpy: Any) -> Any:
        """The targets of the keys at some positions."""
        _, first, back = numpy.unique(hashes[unknown], return_index=True, return_inverse=True)
        first = unknown[first]
        targets = numpy.array(tasks_of_keys([keys[at] for at in first.tolist()], self.n), self._targets[0].dtype)
        new = hashes[first]
        slots = new & (_SLOTS - 1)
        old, of_old = self._hashes[0][slots], self._targets[0][slots]
        seconds = (old >> _SHIFT) & (_SLOTS - 1)
        real = (old & (_SLOTS - 1)) == slots
        self._hashes[1][seconds[real]] = old[real]
        self._targets[1][seconds[real]] = of_old[real]
        self._hashes[0][slots] = new
        self._targets[0][slots] = targets
        return targets[back]
