"""Frames as they are handed over: by reference when nobody can change them, copied once when somebody could."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twister2.spec.transports import flat

if TYPE_CHECKING:
    from twister2.spec.batch import Buffer

_MAX_OWNERS = 16


def take(frame: Buffer) -> memoryview:
    """Return a flat read-only view of ``frame`` whose contents can never change.

    :raises TypeError: not a contiguous buffer.
    """
    if type(frame) is bytes:
        return memoryview(frame)
    view = flat(frame)
    if view.nbytes == 0 or (view.readonly and _immutable(view.obj)):
        return view
    return memoryview(bytes(view))


def _immutable(owner: Any) -> bool:
    """Whether no reference to the memory behind ``owner`` allows writing.

    A read-only array may be a view of a writable one, so all owners up to the first are looked at. Arrow's buffers
    say themselves whether they are mutable. Whatever is unknown counts as mutable.
    """
    # Another thread may be in the middle of importing them: then nothing here is from them yet.
    array: Any = getattr(sys.modules.get("numpy"), "ndarray", ())
    buffer: Any = getattr(sys.modules.get("pyarrow"), "Buffer", ())
    for _ in range(_MAX_OWNERS):
        if isinstance(owner, bytes):
            return True
        if isinstance(owner, memoryview):
            if not owner.readonly:
                return False
            owner = owner.obj
        elif isinstance(owner, array):
            if owner.flags.writeable:
                return False
            if owner.base is None:
                return True
            owner = owner.base
        else:
            return isinstance(owner, buffer) and not owner.is_mutable
    return False
