"""Collective operations on numpy arrays among the members of a group.

:class:`Collectives` is what programs and operators see (``network.collectives(group)``): every call is one numbered
step of the group. The network module chooses the road, the same on all members: the transport's own collectives
(:class:`NativeCollectives`) where one transport joins the whole group and accepts the call; else native ones inside
each host and messages between the hosts' leaders; else messages alone.

**Buffers.** Arrays are C-contiguous and of a plain dtype (no objects). ``rank`` and ``root`` are ranks *in the group*.
Counts are numbers of elements along the flattened array; without counts all members give equally many. Counts are given
by all members or by none: members who have none to give (of a gather or scatter, all but the root) give ``()``.

============== ============================================== ========================================================
operation      ``send``                                       ``receive``
============== ============================================== ========================================================
barrier        None                                           None
broadcast      None                                           the array to send at ``root``, to fill elsewhere
reduce         n elements (None at root: in place)            n elements at ``root``, else None
allreduce      n elements, or None: in place                  n elements
scan           n elements, or None: in place                  n elements: op over ranks 0..me
exscan         n elements, or None: in place                  n elements: op over ranks 0..me-1; untouched on rank 0
reduce_scatter sum(``receive_counts``), or size x n           my n elements of the result
gather         n elements                                     at ``root``: all members' by rank, else None
allgather      n elements                                     all members' by rank
scatter        at ``root``: all members' by rank, else None   my n elements
alltoall       by receiving rank (``send_counts``)            by sending rank (``receive_counts``)
============== ============================================== ========================================================

**Ops** of reductions: ``sum prod min max and or xor band bor bxor`` (``and``.. logical, ``b``.. bit by bit), applied in
an order that depends on the number of members only: all members get the same bits. A function
``f(left, right) -> array`` of two arrays is taken too; it is associative, keeps the order of ranks and never runs
natively.

**When members differ** in one call, all of them raise StepMismatchError (or StepAbortedError), which names the ranks,
what each is in and the lines, and says what to do:

=============== ============================================================================================
what differs    what to do
=============== ============================================================================================
call            take the same branch on all workers
spelling        upper case (arrays) on all members, or lower case (objects) on all
reducer         (op) the same name, or the same function: one whose code or captured values differ is another
root            the same rank in the group
dtype           convert by ``array.astype``; nothing is converted on the way
shape           of a reduction element by element: cut, pad or reshape
counts          the same counts on all members, or on none; of an alltoall counts that fit together
n               equally many elements on all members, or ``[array, counts]`` where parts differ in size
algorithm       the same name on all members, or none
order           of a rotation: the same list of all ranks
=============== ============================================================================================

``IN_PLACE`` (``send`` None) is each member's own choice where the call allows it, and so is what lies in the arrays.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import attrs

from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.network import Group
    from twister2.spec.patterns import Steps

Op: TypeAlias = "str | Callable[[Any, Any], Any]"
"""A name of :data:`OPS` or a function of two arrays."""

OPERATIONS: Final = (
    "barrier",
    "broadcast",
    "reduce",
    "allreduce",
    "scan",
    "exscan",
    "reduce_scatter",
    "gather",
    "allgather",
    "scatter",
    "alltoall",
)
OPS: Final = ("sum", "prod", "min", "max", "and", "or", "xor", "band", "bor", "bxor")


def _whole(root: Any) -> Any:
    """An index of any type as int; whatever else was given is refused by the call."""
    return operator.index(root) if hasattr(root, "__index__") else root


@attrs.frozen(eq=False, repr=False)
class Call(Value):
    """What is done with the arrays; equal on all members, but for the counts. Make one and use it often: its
    description is cached.

    :ivar op: of reductions. :ivar root: rank in the group.
    :ivar algorithm: a name of :meth:`Collectives.algorithms`; chosen by size and number of members when empty.
    """

    operation: str
    op: Op = "sum"
    root: int = attrs.field(default=0, converter=_whole)
    send_counts: tuple[int, ...] | None = None
    receive_counts: tuple[int, ...] | None = None
    algorithm: str = ""


class Request(ABC):
    """A collective call under way: an open step. Drop it only when it is complete.

    Its arrays must stay unchanged (``send``) and unread (``receive``) until then.
    """

    @abstractmethod
    def test(self) -> bool:
        """Progress the network; whether the call is complete here. Never blocks.

        :raises StepAbortedError, StepMismatchError, NetworkError: as :meth:`~twister2.spec.network.Network.progress`.
        """

    @abstractmethod
    def wait(self, deadline_s: float | None = None) -> None:
        """Until it is complete; raises as :meth:`test`.

        :raises DeadlineError: the deadline passed; the request stays open.
        """


class ObjectRequest(Request):
    """A call on objects under way."""

    @property
    @abstractmethod
    def result(self) -> Any:
        """What the call gives this rank; only once it is complete."""


class Collectives(ABC):
    """The collective operations of one group, made by :meth:`~twister2.spec.network.Network.collectives`."""

    group: Group
    rank: int
    size: int

    @abstractmethod
    def run(self, call: Call, send: Any = None, receive: Any = None) -> None:
        """One blocking call, the fast path. The table in the module's text says what the arrays are.

        :raises OperatorError: wrong buffers (not contiguous, objects, sizes that do not fit, read-only where it is
            filled), unknown operation, op, root or algorithm. Other members then raise StepAbortedError.
        :raises StepMismatchError: another member is in another call, or gave another dtype or number of elements.
        :raises StepAbortedError: another worker failed.
        """

    @abstractmethod
    def start(self, call: Call, send: Any = None, receive: Any = None) -> Request:
        """As :meth:`run`, without waiting. Members must start the calls of a group in the same order."""

    @abstractmethod
    def run_objects(self, call: Call, value: Any = None) -> Any:
        """The same operations on picklable objects, by messages. Reductions combine in the order of ranks.

        :param value: what this rank gives; for ``alltoall`` and ``reduce_scatter`` one value for each member, for
            ``scatter`` likewise at the root. :param call: without counts.
        :returns: what this rank gets: a list by rank where the table has all members' parts; None where it gets
            nothing. Arrays in it that come from other members are read-only; the array of a reduction is new, and so
            is, in a list or of a scatter, the array that this rank gave itself.
        :raises OperatorError: as :meth:`run`; values that the named op cannot combine.
        :raises UserCodeError: a function given as op raised.
        """

    @abstractmethod
    def start_objects(self, call: Call, value: Any = None) -> ObjectRequest:
        """As :meth:`run_objects`, without waiting."""

    @abstractmethod
    def start_pattern(self, kind: str, shape: str, steps: Steps) -> ObjectRequest:
        """Run a pattern (:mod:`twister2.spec.patterns`, or one like them) as a step of the group.

        :param kind, shape: of the step's fingerprint: what must be equal on all members.
        :param steps: this rank's generator; its ranks are those of the group.
        """

    @abstractmethod
    def algorithms(self, operation: str) -> Sequence[str]:
        """Names of the algorithms there are here for arrays of any size; ``"native"`` among them where the transport
        has its own for all sizes.
        """


class NativeRequest(ABC):
    """A native collective under way."""

    @abstractmethod
    def test(self) -> bool:
        """Progress it; whether it is complete. Never blocks.

        :raises StepMismatchError: another member gave another ``fingerprint`` for this ``step``; its details have
            ``peer`` (worker id). The network module adds both lines, and what to do. Or parts that do not fit in the
            same call, where the transport compares them: then with ``counts``, elements given and expected.
        :raises NetworkError: the transport failed.
        """


class NativeCollectives(ABC):
    """A transport's own collectives among the members of one group, all non-blocking, started in the same order.

    They carry no header. So every call gets the number and the fingerprint of its step, and the transport sees to it
    that a member with another fingerprint is found: at once or, at the latest, before a later call completes; and
    never returns a result that mixes two different calls.
    """

    operations: ClassVar[frozenset[str]]
    """Names of :data:`OPERATIONS` that it has."""
    limits: ClassVar[str] = ""
    """What :meth:`accepts` takes, in a few words for people who asked for ``algorithm="native"``."""

    @abstractmethod
    def accepts(self, call: Call, dtype: Any, nbytes: int) -> bool:
        """Whether it does this call, by facts that are equal on all members (so that all choose alike).

        :param dtype: numpy dtype, None for a barrier. :param nbytes: size of one member's part; -1 where parts differ.
        """

    @abstractmethod
    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        """Begin a call that :meth:`accepts` took; the buffers are checked. A request that is dropped incomplete makes
        the transport unusable (the attempt is over then anyway).

        :param fingerprint: 64 bits over operation, op, root, dtype and number of elements where they must be equal.
        """

    wakes: ClassVar[bool] = False
    """Whether :meth:`Transport.wait_fd <twister2.spec.comm.Transport.wait_fd>` polls readable when a call under way
    may go on, so that who waits sleeps. Else calls are polled."""

    spins: bool = True
    """Whether who waits polls for a short time before it sleeps: not where the transport's threads need the cores."""

    def close(self) -> None:
        """The group is not used any more (also after an abort: never waits for others). Idempotent."""
