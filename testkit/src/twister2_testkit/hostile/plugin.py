"""Entry point of the resource manager ``hostile``."""

from __future__ import annotations

import attrs
from attrs.validators import ge

from twister2.spec.options import option
from twister2.spec.plugin import hookimpl
from twister2.spec.rm import ResourceManager, ResourceManagerSpec, RmContext, SlotSource

FIRST_INDEX = 100
INDEX = "HOSTILE_POD_INDEX"


@attrs.frozen(kw_only=True)
class HostileConfig:
    """Options of ``[rm.hostile]``."""

    seed: int = option(0, "Which copies come late or twice.", unit="1")
    earliest_s: float = option(
        0.0, "How long a copy waits for a node at the least, whenever it is started.", unit="s", validator=ge(0)
    )
    late_s: float = option(0.3, "Latest start of a copy after that.", unit="s", validator=ge(0))
    twice: int = option(1, "How many copies are started twice.", unit="1", validator=ge(0))
    networks: str = option(
        "",
        "Network namespaces (ip netns), separated by commas, for the copies of slots 0, 1, ... in turn; those in one"
        " namespace are on one host: they share memory and temporary files.",
    )
    out_of_reach: int = option(
        -1, "Slot whose first copy is on a node that answers no request to stop it; -1: none.", unit="1"
    )
    master_restarts: int = option(
        0,
        "How often a job master that has failed is started again, in its pod or in a new one.",
        unit="1",
        validator=ge(0),
    )
    ticket_limit: int = option(0, "How large a job master's ticket may be for a package to go in it.", unit="B")
    secret_late_s: float = option(0.3, "Longest time until a copy sees a new ticket.", unit="s", validator=ge(0))


class HostilePlugin(ResourceManagerSpec):
    """A pretended cluster, as unfriendly as Kubernetes."""

    api = (1, 0)
    config_class = HostileConfig
    slot_source = SlotSource(INDEX, -FIRST_INDEX)

    @hookimpl
    def rm_create(self, config: HostileConfig, context: RmContext) -> ResourceManager:
        from twister2_testkit.hostile.manager import HostileManager

        return HostileManager(config, context)
