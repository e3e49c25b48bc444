"""The communicator: every collective of a group of workers, in two spellings.

Upper case (``Allreduce``) takes numpy arrays and moves their memory; lower case (``allreduce``) takes any objects,
:class:`~twister2_harp.table.Table` among them. Every call is one numbered step of the group: all members make the same
calls in the same order, and one that does not, raises or dies ends the wait of all others with an error that names it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from twister2.spec.collectives import Call, Op, Request
from twister2.spec.errors import OperatorError
from twister2.spec.reducers import name_of, name_on_arrays
from twister2_harp.buffers import Buffer, split
from twister2_harp.events import Events
from twister2_harp.rounds import ResultRequest
from twister2_harp.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group

T = TypeVar("T")
_PLAIN = frozenset({"gather", "scatter"})
_ROOTED = frozenset({"gather", "reduce", "scatter"})


class Harp(Tables):
    """A group of workers and their collectives; making one is a collective call.

    :ivar rank: this worker's rank in the group; :ivar size: number of members. ``root`` is always a rank.
    :ivar worker_ids: worker id of each rank.
    """

    def __init__(self, env: WorkerEnvironment, group: Group | None = None) -> None:
        self._env = env
        self.network = env.network
        self.group = group or env.network.world
        self.collectives = self.network.collectives(self.group)
        self.rank = self.collectives.rank
        self.size = self.collectives.size
        self.worker_ids = self.group.members
        self._calls: dict[Any, Call] = {}
        self._events: Events | None = None

    def __repr__(self) -> str:
        return f"<Harp rank {self.rank} of {self.size}, group {self.group.number}>"

    if not TYPE_CHECKING:  # who checks types must see that a name does not exist

        def __getattr__(self, name: str) -> Any:
            from twister2_harp.names import advice

            found = inspect.getattr_static(type(self), name, None)
            if isinstance(found, property) and found.fget is not None:
                return found.fget(self)  # it has raised an AttributeError: that one, not one that says it is not there
            raise AttributeError(advice(name, dir(type(self))), name=name)

    # -- groups ----------------------------------------------------------------------------------------------------

    def split(self, color: int | str | None) -> Harp | None:
        """A communicator of the members that give the same ``color``, in the order of worker ids. Collective.

        :returns: None for ``color=None``.
        """
        group = self.network.split(color, group=self.group)
        return None if group is None else Harp(self._env, group)

    def split_by_host(self) -> Harp:
        """A communicator of the members on this worker's host. Collective."""
        return Harp(self._env, self.network.split_by_host(group=self.group))

    # -- buffers: upper case ---------------------------------------------------------------------------------------

    def Barrier(self) -> None:
        """Wait until all members have called it."""
        self.collectives.run(self._call("barrier"))

    def Broadcast(self, buffer: Buffer, root: int = 0, *, algorithm: str = "") -> None:
        """The array of ``root`` into everybody's array of the same dtype and size."""
        self._run("broadcast", None, buffer, None, root, algorithm)

    def Reduce(
        self, send: Buffer, receive: Buffer = None, op: Op = "sum", root: int = 0, *, algorithm: str = ""
    ) -> None:
        """Combine everybody's array into ``receive`` of ``root``."""
        self._run("reduce", send, receive, op, root, algorithm)

    def Allreduce(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> None:
        """Combine everybody's array into everybody's ``receive``.

        :param op: ``sum prod min max and or xor band bor bxor``, what has such a name (``MPI.SUM``, ``numpy.add``,
            ``operator.add``), or a function of two arrays.
        """
        self._run("allreduce", send, receive, op, 0, algorithm)

    def Scan(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> None:
        """Combine the arrays of ranks 0 to this one."""
        self._run("scan", send, receive, op, 0, algorithm)

    def Exscan(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> None:
        """Combine the arrays of the ranks before this one; rank 0's ``receive`` stays as it is."""
        self._run("exscan", send, receive, op, 0, algorithm)

    def Reduce_scatter(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> None:
        """Combine everybody's array, and leave each rank its part of the result.

        :param receive: this rank's part, or ``[array, counts]`` with the number of elements of each rank's part.
        """
        self._run("reduce_scatter", send, receive, op, 0, algorithm)

    def Gather(self, send: Buffer, receive: Buffer = None, root: int = 0, *, algorithm: str = "") -> None:
        """Everybody's array, one behind the other by rank, into ``receive`` of ``root``."""
        self._run("gather", send, receive, None, root, algorithm)

    def Allgather(self, send: Buffer, receive: Buffer, *, algorithm: str = "") -> None:
        """Everybody's array, one behind the other by rank, into everybody's ``receive``."""
        self._run("allgather", send, receive, None, 0, algorithm)

    def Scatter(self, send: Buffer, receive: Buffer, root: int = 0, *, algorithm: str = "") -> None:
        """Part i of ``send`` of ``root`` into ``receive`` of rank i."""
        self._run("scatter", send, receive, None, root, algorithm)

    def Alltoall(self, send: Buffer, receive: Buffer, *, algorithm: str = "") -> None:
        """Part i of ``send`` to rank i; with ``[array, counts]`` on both sides the parts may differ in size."""
        self._run("alltoall", send, receive, None, 0, algorithm)

    def Gatherv(self, send: Buffer, receive: Buffer = None, root: int = 0, *, algorithm: str = "") -> None:
        """:meth:`Gather` of parts that differ in size: ``receive`` is ``[array, counts]`` at ``root``."""
        self.collectives.run(*self._rooted("gather", send, receive, root, algorithm))

    def Scatterv(self, send: Buffer, receive: Buffer, root: int = 0, *, algorithm: str = "") -> None:
        """:meth:`Scatter` of parts that differ in size: ``send`` is ``[array, counts]`` at ``root``."""
        self.collectives.run(*self._rooted("scatter", send, receive, root, algorithm))

    # -- buffers, without waiting ----------------------------------------------------------------------------------

    def Ibarrier(self) -> Request:
        """:meth:`Barrier` without waiting: ``test()`` or ``wait()`` the result."""
        return self.collectives.start(self._call("barrier"))

    def Ibroadcast(self, buffer: Buffer, root: int = 0, *, algorithm: str = "") -> Request:
        """:meth:`Broadcast` without waiting."""
        return self._start("broadcast", None, buffer, None, root, algorithm)

    def Ireduce(
        self, send: Buffer, receive: Buffer = None, op: Op = "sum", root: int = 0, *, algorithm: str = ""
    ) -> Request:
        """:meth:`Reduce` without waiting."""
        return self._start("reduce", send, receive, op, root, algorithm)

    def Iallreduce(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> Request:
        """:meth:`Allreduce` without waiting."""
        return self._start("allreduce", send, receive, op, 0, algorithm)

    def Iscan(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> Request:
        """:meth:`Scan` without waiting."""
        return self._start("scan", send, receive, op, 0, algorithm)

    def Iexscan(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> Request:
        """:meth:`Exscan` without waiting."""
        return self._start("exscan", send, receive, op, 0, algorithm)

    def Ireduce_scatter(self, send: Buffer, receive: Buffer, op: Op = "sum", *, algorithm: str = "") -> Request:
        """:meth:`Reduce_scatter` without waiting."""
        return self._start("reduce_scatter", send, receive, op, 0, algorithm)

    def Igather(self, send: Buffer, receive: Buffer = None, root: int = 0, *, algorithm: str = "") -> Request:
        """:meth:`Gather` without waiting."""
        return self._start("gather", send, receive, None, root, algorithm)

    def Iallgather(self, send: Buffer, receive: Buffer, *, algorithm: str = "") -> Request:
        """:meth:`Allgather` without waiting."""
        return self._start("allgather", send, receive, None, 0, algorithm)

    def Iscatter(self, send: Buffer, receive: Buffer, root: int = 0, *, algorithm: str = "") -> Request:
        """:meth:`Scatter` without waiting."""
        return self._start("scatter", send, receive, None, root, algorithm)

    def Ialltoall(self, send: Buffer, receive: Buffer, *, algorithm: str = "") -> Request:
        """:meth:`Alltoall` without waiting."""
        return self._start("alltoall", send, receive, None, 0, algorithm)

    def Igatherv(self, send: Buffer, receive: Buffer = None, root: int = 0, *, algorithm: str = "") -> Request:
        """:meth:`Gatherv` without waiting."""
        return self.collectives.start(*self._rooted("gather", send, receive, root, algorithm))

    def Iscatterv(self, send: Buffer, receive: Buffer, root: int = 0, *, algorithm: str = "") -> Request:
        """:meth:`Scatterv` without waiting."""
        return self.collectives.start(*self._rooted("scatter", send, receive, root, algorithm))

    # -- objects: lower case ---------------------------------------------------------------------------------------

    def barrier(self) -> None:
        """As :meth:`Barrier`."""
        self.collectives.run(self._call("barrier"))

    def broadcast(self, value: Any = None, root: int = 0, *, algorithm: str = "") -> Any:
        """The value of ``root``, on all members. ``algorithm``: ``tree`` or ``chain``."""
        return self._objects("broadcast", value, root=root, algorithm=algorithm)

    def reduce(self, value: T, op: Op | None = None, root: int = 0, *, algorithm: str = "") -> T | None:
        """Combine everybody's value, in the order of ranks; the result at ``root``, None elsewhere.

        :param op: a name as in :meth:`Allreduce` or a function of two values; ``sum`` when None, for a table its own
            combiner.
        """
        result: T | None = self._objects("reduce", value, op=op, root=root, algorithm=algorithm)
        return result

    def allreduce(self, value: T, op: Op | None = None, *, algorithm: str = "") -> T:
        """As :meth:`reduce`, with the result on all members."""
        result: T = self._objects("allreduce", value, op=op, algorithm=algorithm)
        return result

    def scan(self, value: T, op: Op | None = None) -> T:
        """Combine the values of ranks 0 to this one."""
        result: T = self._objects("scan", value, op=op)
        return result

    def exscan(self, value: T, op: Op | None = None) -> T | None:
        """Combine the values of the ranks before this one; None on rank 0."""
        result: T | None = self._objects("exscan", value, op=op)
        return result

    def reduce_scatter(self, values: Sequence[T], op: Op | None = None) -> T:
        """Combine everybody's value i, for rank i."""
        result: T = self._objects("reduce_scatter", values, op=op)
        return result

    def gather(self, value: T, root: int = 0) -> list[T] | None:
        """Everybody's value by rank, at ``root``; None elsewhere."""
        result: list[T] | None = self._objects("gather", value, root=root)
        return result

    def allgather(self, value: T) -> list[T]:
        """Everybody's value by rank, on all members."""
        result: list[T] = self._objects("allgather", value)
        return result

    def scatter(self, values: Sequence[T] | None, root: int = 0) -> T:
        """Value i of ``root``, to rank i."""
        result: T = self._objects("scatter", values, root=root)
        return result

    def alltoall(self, values: Sequence[T]) -> list[T]:
        """Value i to rank i; what came, by rank."""
        result: list[T] = self._objects("alltoall", values)
        return result

    # -- objects, without waiting ----------------------------------------------------------------------------------

    def ibarrier(self) -> Request:
        """As :meth:`Ibarrier`."""
        return self.collectives.start(self._call("barrier"))

    def ibroadcast(self, value: Any = None, root: int = 0, *, algorithm: str = "") -> ResultRequest[Any]:
        """:meth:`broadcast` without waiting: ``test()``, then ``result``; or ``wait()``, which gives the result."""
        return self._start_objects("broadcast", value, root=root, algorithm=algorithm)

    def ireduce(self, value: T, op: Op | None = None, root: int = 0, *, algorithm: str = "") -> ResultRequest[T | None]:
        """:meth:`reduce` without waiting."""
        return self._start_objects("reduce", value, op=op, root=root, algorithm=algorithm)

    def iallreduce(self, value: T, op: Op | None = None, *, algorithm: str = "") -> ResultRequest[T]:
        """:meth:`allreduce` without waiting."""
        return self._start_objects("allreduce", value, op=op, algorithm=algorithm)

    def iscan(self, value: T, op: Op | None = None) -> ResultRequest[T]:
        """:meth:`scan` without waiting."""
        return self._start_objects("scan", value, op=op)

    def iexscan(self, value: T, op: Op | None = None) -> ResultRequest[T | None]:
        """:meth:`exscan` without waiting."""
        return self._start_objects("exscan", value, op=op)

    def ireduce_scatter(self, values: Sequence[T], op: Op | None = None) -> ResultRequest[T]:
        """:meth:`reduce_scatter` without waiting."""
        return self._start_objects("reduce_scatter", values, op=op)

    def igather(self, value: T, root: int = 0) -> ResultRequest[list[T] | None]:
        """:meth:`gather` without waiting."""
        return self._start_objects("gather", value, root=root)

    def iallgather(self, value: T) -> ResultRequest[list[T]]:
        """:meth:`allgather` without waiting."""
        return self._start_objects("allgather", value)

    def iscatter(self, values: Sequence[T] | None, root: int = 0) -> ResultRequest[T]:
        """:meth:`scatter` without waiting."""
        return self._start_objects("scatter", values, root=root)

    def ialltoall(self, values: Sequence[T]) -> ResultRequest[list[T]]:
        """:meth:`alltoall` without waiting."""
        return self._start_objects("alltoall", values)

    # -- events ----------------------------------------------------------------------------------------------------

    @property
    def events(self) -> Events:
        """Messages outside of the sequence of steps. The first use is a collective call."""
        if self._events is None:
            self._events = Events(self._env, self.group, self.rank)
        return self._events

    # -- how -------------------------------------------------------------------------------------------------------

    def _call(
        self,
        operation: str,
        op: Op = "sum",
        root: int = 0,
        counts: tuple[Any, Any] = (None, None),
        algorithm: str = "",
    ) -> Call:
        if type(op) is not str:
            op = name_of(op) or op
        key = (operation, op, root, counts, algorithm)
        try:
            known = self._calls.get(key)
        except TypeError:  # a function that cannot be hashed
            return Call(operation, op, root, *counts, algorithm)
        if known is None:
            if len(self._calls) > 1000:
                self._calls.clear()
            known = self._calls[key] = Call(operation, op, root, *counts, algorithm)
        return known

    def _parts(
        self, operation: str, send: Buffer, receive: Buffer, op: Op | None, root: int, algorithm: str
    ) -> tuple[Call, Any, Any]:
        if operation in _ROOTED and root != self.rank:
            send, receive = _used(operation, send, receive)
        outgoing, send_counts = split(send)
        incoming, receive_counts = split(receive)
        if operation in _PLAIN and (send_counts or receive_counts):
            name = operation.capitalize()
            raise OperatorError(
                f"{name} takes arrays without counts",
                why="the other ranks would not know that the parts differ in size",
                remedy=f"call {name}v on all ranks; counts are given at the root",
            )
        if type(op) is not str:
            op = "sum" if op is None else name_on_arrays(op) or op
        return self._call(operation, op, root, (send_counts, receive_counts), algorithm), outgoing, incoming

    def _rooted(
        self, operation: str, send: Buffer, receive: Buffer, root: int, algorithm: str
    ) -> tuple[Call, Any, Any]:
        """A call whose counts only the root knows: the others say that there are some."""
        if root != self.rank:
            send, receive = _used(operation, send, receive)
        outgoing, send_counts = split(send)
        incoming, receive_counts = split(receive)
        if operation == "gather":
            counts: tuple[Any, Any] = (None, () if receive_counts is None else receive_counts)
        else:
            counts = (() if send_counts is None else send_counts, None)
        return self._call(operation, "sum", root, counts, algorithm), outgoing, incoming

    def _run(
        self, operation: str, send: Buffer, receive: Buffer, op: Op | None, root: int = 0, algorithm: str = ""
    ) -> None:  # fmt: skip
        self.collectives.run(*self._parts(operation, send, receive, op, root, algorithm))

    def _start(
        self, operation: str, send: Buffer, receive: Buffer, op: Op | None, root: int = 0, algorithm: str = ""
    ) -> Request:  # fmt: skip
        return self.collectives.start(*self._parts(operation, send, receive, op, root, algorithm))

    def _objects(
        self, operation: str, value: Any, *, op: Op | None = None, root: int = 0, algorithm: str = ""
    ) -> Any:  # fmt: skip
        call = self._object_call(operation, value, op, root, algorithm)
        return self._received(call, self.collectives.run_objects(call, value), value)

    def _start_objects(
        self, operation: str, value: Any, *, op: Op | None = None, root: int = 0, algorithm: str = ""
    ) -> ResultRequest[Any]:
        call = self._object_call(operation, value, op, root, algorithm)
        return ResultRequest(
            lambda _: self.collectives.start_objects(call, value), lambda came: self._received(call, came, value)
        )

    def _object_call(self, operation: str, value: Any, op: Op | None, root: int, algorithm: str) -> Call:
        if op is None:
            listed = operation == "reduce_scatter" and isinstance(value, (list, tuple)) and value
            op = self.op_of(value[0] if listed else value)
        return self._call(operation, op, root, algorithm=algorithm)

    def _received(self, call: Call, result: Any, value: Any) -> Any:
        if call.operation == "broadcast" and self.rank == call.root:
            return result
        return self._own(result, value)


def _used(operation: str, send: Buffer, receive: Buffer) -> tuple[Buffer, Buffer]:
    """What a rank that is not the root gives: programs for MPI have the root's array on all ranks, where it is not
    looked at.
    """
    return (None, receive) if operation == "scatter" else (send, None)
