"""What a client hands to a master that is its child: blocks of bytes."""

from __future__ import annotations

import os


def read_block(descriptor: int) -> bytes | None:
    """One block from the client: 8 bytes of length, then the bytes; None when it has gone before the end of it."""
    data = bytearray()
    size = -1
    while size < 0 or len(data) < size + 8:
        wanted = 8 - len(data) if size < 0 else size + 8 - len(data)
        chunk = os.read(descriptor, min(wanted, 1 << 20))
        if not chunk:
            return None
        data += chunk
        if size < 0 and len(data) == 8:
            size = int.from_bytes(data, "big")
    return bytes(data[8:])
