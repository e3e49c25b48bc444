"""Groups of a network: making them, small objects among their members, and their collectives on arrays."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any
from zlib import crc32

from twister2.spec.errors import NetworkError
from twister2.spec.network import Group, Network
from twister2.worker.callers import caller_line
from twister2.worker.network import objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twister2.worker.link import Link
    from twister2.worker.network.collectives import GroupCollectives
    from twister2.worker.network.forming import Pairs

_FIRST_OWN_GROUP = 1 << 31
"""Groups made without communication have numbers from here."""


def _own_number(what: object) -> int:
    """The number of a group that only its members know of."""
    return _FIRST_OWN_GROUP | crc32(repr(what).encode()) & (_FIRST_OWN_GROUP - 1)


class Grouping(Network):
    """What a network does for groups, by its steps and ports."""

    link: Link
    _pairs: Pairs | None

    def __init__(self, size: int, hosts: Mapping[int, str] | None) -> None:
        self.world = Group(0, tuple(range(size)))
        self.hosts = dict(hosts or {})
        self._next_group = 1
        self._groups_made: dict[tuple[int, ...], int] = {}
        self._own_numbers: dict[int, tuple[tuple[int, ...], object]] = {}
        """By number of a group made without communication: its members, and what the number is made of."""
        self._collectives: dict[Group, GroupCollectives] = {}
        self._unused: deque[int] = deque()
        """Numbers of groups that the program has dropped."""
        self._outliving: weakref.WeakValueDictionary[Group, GroupCollectives] = weakref.WeakValueDictionary()
        """Collectives of such groups that the program still has."""
        self._roads: deque[Callable[[], None]] = deque()
        """Closes what collectives used that the program has dropped."""

    def transport_name(self, peer: int) -> str:
        if peer not in self.world.members:
            raise NetworkError(
                f"there is no worker {peer}",
                why="worker ids are those of this attempt",
                remedy=f"use ids from 0 to {self.world.size - 1}",
            )
        return "" if self._pairs is None or peer == self.worker_id else self._pairs.name(self.worker_id, peer)

    def common_route(self, members: Sequence[int]) -> int | None:
        """Index in the job's order of the one transport between all of these workers; None when there are several, or
        fewer than two workers. The same on all of them.
        """
        return None if self._pairs is None else self._pairs.common(members)

    def broadcast_object(self, value: Any, root: int = 0, *, group: Group | None = None, what: str = "") -> Any:
        group = group or self.world
        with self.step("broadcast_object", f"{what} from {root}", group=group) as step:
            return objects.broadcast(self, step, value, root, what)

    def exchange_objects(self, value: Any, *, group: Group | None = None, what: str = "") -> list[Any]:
        group = group or self.world
        with self.step("exchange_objects", what, group=group) as step:
            return objects.exchange(self, step, value, what)

    def split(self, color: int | str | None, *, group: Group | None = None) -> Group | None:
        parent = group or self.world
        with self.step("split", group=parent) as step:
            colors = objects.exchange(self, step, (color, self._next_group), "split")
        first = max(number for _, number in colors)
        order = sorted({one for one, _ in colors if one is not None}, key=lambda one: (str(type(one)), one))
        self._next_group = first + len(order)
        if color is None:
            return None
        members = (worker for worker, (one, _) in zip(parent.members, colors, strict=True) if one == color)
        number = first + order.index(color)
        if parent.number:  # another part of the world may be at the same number
            return self._own(tuple(sorted(members)), ("split", parent.number, parent.members, number))
        return self._told(Group(number, tuple(sorted(members))))

    def group(self, members: Sequence[int]) -> Group:
        """The sub-group of these worker ids in this order, made without communication.

        Members that call it equally often with the same ids get the same group.
        """
        ids = tuple(members)
        if not ids or len(set(ids)) != len(ids) or not set(ids) <= set(self.world.members):
            raise NetworkError(
                f"{list(ids)} is no group",
                why="a group is made of different worker ids of this attempt",
                remedy=f"use ids from 0 to {self.world.size - 1}, each at most once",
            )
        if self.worker_id not in ids:
            raise NetworkError(
                f"worker {self.worker_id} is not in the group {list(ids)}",
                why="only members call group()",
                remedy="call it on the members only, or use split()",
            )
        made = self._groups_made[ids] = self._groups_made.get(ids, 0) + 1
        return self._own(ids, (ids, made))

    def _own(self, members: tuple[int, ...], what: object) -> Group:
        """A group whose number its members find without asking others.

        :raises NetworkError: this worker was in another group of the same number: their steps would be mixed up.
        """
        number = _own_number(what)
        before, known = self._own_numbers.setdefault(number, (members, what))
        if known != what:
            raise NetworkError(
                f"the group {list(members)} has the number of the group {list(before)}",
                why=f"groups made without communication are numbered by a hash of their members, and two of worker "
                f"{self.worker_id} have the same one ({number})",
                remedy="make one of them by split(), on all workers",
                details={"number": number, "members": list(members), "other": list(before)},
            )
        return self._told(Group(number, members))

    def split_by_host(self, *, group: Group | None = None) -> Group:
        here = self.split(self.hosts.get(self.worker_id, ""), group=group)
        assert here is not None
        return here

    def collectives(self, group: Group | None = None) -> GroupCollectives:
        group = group or self.world
        known = self._collectives.get(group) or self._outliving.get(group)
        if known is None:
            self._drop_unused()
            mine = Group(group.number, group.members)  # the program's may die, and with it the collectives
            known = self._collectives[mine] = self._make_collectives(mine)
        return known

    @abstractmethod
    def _make_collectives(self, group: Group) -> GroupCollectives:
        """The collectives of a group."""

    def _drop_unused(self) -> None:
        while self._unused:
            number = self._unused.popleft()
            for group in [group for group in self._collectives if group.number == number]:
                dropped = self._outliving[group] = self._collectives.pop(group)
                weakref.finalize(dropped, self._roads.append, dropped.closer()).atexit = False
                del dropped
        while self._roads:
            self._roads.popleft()()

    def _told(self, group: Group) -> Group:
        """Tell the master who is in it: the others may return while its members are in a step."""
        told = {"number": group.number, "members": list(group.members), "line": caller_line()}
        self.link.post("group", told)
        weakref.finalize(group, self._unused.append, group.number).atexit = False
        return group
