"""When a client does not look for cycles among its objects."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def collecting_nothing() -> Iterator[None]:
    """No looking for cycles meanwhile: importing makes many objects, and they stay. They count as old afterwards."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # else they are the caller's, who may not want them back
                gc.freeze()
                gc.unfreeze()
            gc.enable()
