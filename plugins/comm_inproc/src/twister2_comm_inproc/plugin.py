"""Entry point of the plugin; the backend is imported when a transport is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.comm import CommSpec, TransportFacts
from twister2.spec.plugin import Probe, hookimpl

from .config import InprocConfig

if TYPE_CHECKING:
    from twister2.spec.comm import Transport, TransportContext

FACTS = TransportFacts(same_process=True, same_host=True, crosses_processes=False, copies_on_send=True)


class InprocPlugin(CommSpec):
    """Transport between the threads of one process."""

    api = (1, 0)
    config_class = InprocConfig
    facts: ClassVar[TransportFacts] = FACTS

    @hookimpl
    def comm_create(self, config: Any, context: TransportContext) -> Transport:
        """Make the transport of one worker; nothing is registered before ``open``."""
        from .transport import InprocTransport

        return InprocTransport(config, context)

    @hookimpl
    def comm_probe(self, config: Any) -> Probe:
        """Tell that it always works: it needs nothing."""
        return Probe(True, "works between threads of one process")
