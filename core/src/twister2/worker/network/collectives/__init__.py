"""The collective operations of a group on arrays: :class:`twister2.spec.collectives.Collectives`.

``group`` is what programs and operators hold; ``checking`` looks at the buffers, once per form of a call; ``native``
waits for a transport's own collectives; ``exchange`` brings raw messages to the algorithms in ``moving`` and
``reducing``, which ``choice`` picks from; ``leaders`` joins native collectives inside hosts by messages between them.
"""

from __future__ import annotations

from twister2.worker.network.collectives.group import GroupCollectives

__all__ = ["GroupCollectives"]
