"""The collective operations of a group on arrays: :class:`twister2.spec.collectives.Collectives`.

``group`` is what programs and operators hold; ``checking`` looks at the buffers, once per form of a call; ``native``
waits for a transport's own collectives; ``exchange`` brings raw messages to the algorithms in ``moving`` and
``reducing``, which ``choice`` picks from; ``leaders`` joins native collectives inside hosts by messages between them.
"""

from __future__ import annotations

import sys

from twister2.spec.errors import CapabilityError

try:
    from twister2.worker.network.collectives.group import GroupCollectives
except ModuleNotFoundError as error:
    raise CapabilityError(
        "collectives need numpy on every worker",
        why=str(error),
        remedy=f"{sys.executable} -m pip install numpy",
    ) from error

__all__ = ["GroupCollectives"]
