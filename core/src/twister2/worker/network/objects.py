"""Small picklable objects between the workers of a group: from one to all, and from all to all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import NetworkError

if TYPE_CHECKING:
    from twister2.spec.network import Network, Port, Step

_DATA = HeaderKind.DATA


def broadcast(network: Network, step: Step, value: Any, root: int, what: str) -> Any:
    """``value`` of worker ``root``, on every member of the step's group."""
    members = step.group.members
    if root not in members:
        raise NetworkError(
            f"worker {root} cannot broadcast to group {step.group.number}",
            why=f"its members are {list(members)}",
            remedy="name a member of the group as root",
        )
    port = network.open_port(step, 0, members, members)
    me, source = members.index(network.worker_id), members.index(root)
    if me == source:
        for rank in range(len(members)):
            if rank != me:
                port.send(me, rank, _DATA, [value])
        return value
    return _receive(network, port, me, 1, f"{what or 'an object'} from worker {root}")[source]


def exchange(network: Network, step: Step, value: Any, what: str) -> list[Any]:
    """Everybody's value by rank, on every member: the first member collects them and sends the list to all."""
    members = step.group.members
    size = len(members)
    if size == 1:
        return [value]
    port = network.open_port(step, 0, members, members)
    me = members.index(network.worker_id)
    text = what or "everybody's object"
    if me:
        port.send(me, 0, _DATA, [value])
        return list(_receive(network, port, me, 1, text)[0])
    came = _receive(network, port, 0, size - 1, text)
    came[0] = value
    values = [came[rank] for rank in range(size)]
    for rank in range(1, size):
        port.send(0, rank, _DATA, [values])
    return values


def _receive(network: Network, port: Port, me: int, count: int, what: str) -> dict[int, Any]:
    came: dict[int, Any] = {}

    def ready() -> bool:
        while len(came) < count:
            delivery = port.receive(me)
            if delivery is None:
                return False
            came[delivery.source] = delivery.value[0]
        return True

    network.wait_until(ready, what)
    return came
