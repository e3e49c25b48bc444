"""Memory ordering between processes that write and read the same memory from Python.

Every item is written by one store of eight aligned bytes (or one byte) and by one process only. x86 keeps stores in
order and loads in order; all it may do is to let a load overtake an earlier store, which matters where both sides write
and then look at what the other wrote (the doorbell). :func:`full` forbids that: an uncontended lock is taken and given
back, which is an atomic operation with full ordering. Machines with weaker ordering need it between the data and the
number that announces them, too: :data:`publish` is the fence there and nothing on x86.
"""

from __future__ import annotations

import platform
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_lock = threading.Lock()
STRONG: Final = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")
"""Whether the machine itself keeps stores in order."""


def full() -> None:
    """No load or store moves across this call."""
    with _lock:
        pass


def nothing() -> None:
    """No fence."""


publish: Final[Callable[[], None]] = nothing if STRONG else full
"""Between writing data and announcing them, and between seeing the announcement and reading them."""
