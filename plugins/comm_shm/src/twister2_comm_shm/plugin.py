"""Entry point of the plugin; the backend is imported when a transport is made, numpy when a group asks for its own
collectives.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.collectives import OPERATIONS
from twister2.spec.comm import CommSpec, TransportFacts
from twister2.spec.plugin import Probe, hookimpl

from .config import ShmConfig

if TYPE_CHECKING:
    from twister2.spec.comm import Transport, TransportContext

FACTS = TransportFacts(same_host=True, native=frozenset(OPERATIONS), copies_on_send=True)


class ShmPlugin(CommSpec):
    """Transport over shared memory between the workers of one host."""

    api = (1, 0)
    config_class = ShmConfig
    facts: ClassVar[TransportFacts] = FACTS

    @hookimpl
    def comm_create(self, config: Any, context: TransportContext) -> Transport:
        """Make the transport of one worker; memory and sockets are made by ``open``."""
        from .transport import ShmTransport

        return ShmTransport(config, context)

    @hookimpl
    def comm_probe(self, config: Any) -> Probe:
        """Tell whether this system can pass descriptors and has event descriptors."""
        missing = [
            name
            for name, there in (
                ("eventfd", hasattr(os, "eventfd")),
                ("posix_fallocate", hasattr(os, "posix_fallocate")),
                ("passing of descriptors over sockets", hasattr(socket, "recv_fds") and hasattr(socket, "SO_PEERCRED")),
            )
            if not there
        ]
        if missing:
            text = f"{sys.platform} lacks {' and '.join(missing)}"
            return Probe(False, text, remedy='use comm = ["tcp"] here')
        return Probe(True, f"shared memory by {'memfd' if hasattr(os, 'memfd_create') else 'unlinked files'}")
