"""Entry point of the plugin; zmq and the backend are imported when a transport is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.collectives import OPERATIONS
from twister2.spec.comm import CommSpec, TransportFacts
from twister2.spec.plugin import Probe, hookimpl

from .config import TcpConfig

if TYPE_CHECKING:
    from twister2.spec.comm import Transport, TransportContext

FACTS = TransportFacts(encrypts=True, native=frozenset(OPERATIONS))


class TcpPlugin(CommSpec):
    """Transport over Unix sockets on one host and encrypted TCP between hosts."""

    api = (1, 0)
    config_class = TcpConfig
    facts: ClassVar[TransportFacts] = FACTS

    @hookimpl
    def comm_create(self, config: Any, context: TransportContext) -> Transport:
        """Make the transport of one worker; sockets are made by ``open``."""
        from .transport import TcpTransport

        return TcpTransport(config, context)

    @hookimpl
    def comm_probe(self, config: Any) -> Probe:
        """Tell whether libzmq is there and was built with CURVE and Unix sockets."""
        try:
            import zmq
        except ImportError as error:
            return Probe(False, f"pyzmq cannot be imported: {error}", remedy="pip install 'pyzmq>=26'")
        missing = [name for name in ("curve", "ipc") if not zmq.has(name)]
        if missing:
            text = f"libzmq {zmq.zmq_version()} was built without {' and '.join(missing)}"
            return Probe(False, text, remedy="install pyzmq from its wheel: pip install --force-reinstall pyzmq")
        return Probe(True, f"libzmq {zmq.zmq_version()} with CURVE", facts={"libzmq": zmq.zmq_version()})
