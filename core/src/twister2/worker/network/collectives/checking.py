"""Looking at the buffers of a call: once per form of a call, so that a call in a loop pays a few comparisons."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from twister2.spec.collectives import OPERATIONS, Call
from twister2.spec.errors import OperatorError
from twister2.worker.differences import ARRAYS, words
from twister2.worker.network.collectives import choice
from twister2.worker.network.collectives.ops import combiner
from twister2.worker.network.steps import fingerprint_of
from twister2.worker.network.userops import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.network import Fingerprint
    from twister2.worker.network.collectives.native import NativeRoad
    from twister2.worker.network.collectives.ops import Combine

REDUCTIONS = frozenset({"reduce", "allreduce", "scan", "exscan", "reduce_scatter"})
_SHAPED = REDUCTIONS - {"reduce_scatter"}
"""Operations that combine element by element: arrays of another shape are another thing, though of equal size."""
_ROOTED = frozenset({"broadcast", "reduce", "gather", "scatter"})
_IN_PLACE = frozenset({"allreduce", "scan", "exscan"})
_LINES = 1000
NONE = -1
NATIVE, HOSTS, MESSAGES = "native", "hosts", ""
_OWN_COUNTS = "counts=own"
"""Each member has its own, which need only fit together."""
_SHOWN = 40
"""Characters of counts, and of the fields of a dtype, that errors show."""
_IN_PLACE_ONLY = (
    "give the array to send; IN_PLACE (None) stands for it in allreduce, scan and exscan, and at the root of a reduce"
)
_REMEDY = (
    "give buffers that fit the call on all members: the guide to Harp (docs/guide/harp.md) lists them under 'Sizes'"
)


class Plan:
    """One form of a call on this member: what its buffers must be, and how it is done.

    :ivar dtype: of the buffers, None for a barrier. :ivar nbytes: bytes of one member's part, -1 where they differ.
    :ivar equal: no counts were given. :ivar whole: the op is a function: arrays are combined as a whole, by rank.
    :ivar dims: shape of the arrays where all members must give the same, else None.
    :ivar shape: text of what must be equal on all members; with the operation it makes the fingerprint.
    :ivar algorithm: name of the algorithm by messages. :ivar road: :data:`NATIVE`, :data:`HOSTS` or :data:`MESSAGES`.
    :ivar native: where the native road leads.
    """

    __slots__ = (
        "_lines",
        "algorithm",
        "call",
        "combine",
        "dims",
        "dtype",
        "equal",
        "n_receive",
        "n_send",
        "native",
        "nbytes",
        "road",
        "shape",
        "whole",
    )

    call: Call
    dtype: Any
    dims: tuple[int, ...] | None
    n_send: int
    n_receive: int
    nbytes: int
    equal: bool
    whole: bool
    shape: str
    combine: Combine | None
    algorithm: str
    road: str
    native: NativeRoad | None

    def __init__(self) -> None:
        self.native = None
        self.combine = None
        self._lines: dict[str, tuple[Fingerprint, int, bytes]] = {}

    @property
    def polled(self) -> bool:
        """Whether nothing wakes a worker that waits for such a call."""
        return self.road == HOSTS or (self.native is not None and not self.native.wakes)

    def fits(self, send: Any, receive: Any) -> bool:
        """Whether these buffers have the form that was checked. A wrong answer can only be False."""
        try:
            if send is None:
                if self.n_send != NONE:
                    return False
            elif send.size != self.n_send or send.dtype is not self.dtype or not _lies_well(send.flags):
                return False
            if self.dims is not None and (receive if send is None else send).shape != self.dims:
                return False
            if receive is None:
                return self.n_receive == NONE
            if receive.size != self.n_receive or receive.dtype is not self.dtype or not receive.flags.carray:
                return False
            if send is None or (send.base is None and receive.base is None and send is not receive):
                return True  # arrays that own their memory do not overlap
            return not np.may_share_memory(send, receive)
        except AttributeError:
            return False

    def known_at(self, line: str) -> tuple[Fingerprint, int, bytes]:
        """Fingerprint, its hash and its description for a call at this line."""
        known = self._lines.get(line)
        if known is None:
            if len(self._lines) > _LINES:
                self._lines.clear()
            known = self._lines[line] = fingerprint_of(self.call.operation, self.shape, line)
        return known


class FunctionPlan(Plan):
    """A reduction by a function: what that has captured may have changed since."""

    __slots__ = ()

    def fits(self, send: Any, receive: Any) -> bool:
        return super().fits(send, receive) and f"reducer={text_of(self.call.op)}() " in self.shape


def make_plan(call: Call, send: Any, receive: Any, rank: int, size: int) -> Plan:
    """Check a call.

    :raises OperatorError: see :meth:`twister2.spec.collectives.Collectives.run`.
    """
    operation = call.operation
    if operation not in OPERATIONS:
        raise OperatorError(
            f"there is no collective operation '{operation}'",
            why=f"the operations are {', '.join(OPERATIONS)}",
            remedy="use one of them",
        )
    root: object = call.root  # callers need not check types
    if operation in _ROOTED and not (isinstance(root, int) and 0 <= root < size):
        why = f"ranks in the group go from 0 to {size - 1}"
        _wrong(call, f"root {root!r} is not in the group", why, "give the same rank of the group on all members")
    plan = Plan() if isinstance(call.op, str) else FunctionPlan()
    plan.call = call
    at_root = operation in _ROOTED and rank == call.root
    _check_presence(call, send, receive, at_root)
    plan.dtype = _dtype(call, send, receive)
    for name, array in (("send", send), ("receive", receive)):
        if array is not None:
            _check_array(call, name, array, writable=name == "receive")
    if send is not None and receive is not None and send.size and np.may_share_memory(send, receive):
        _wrong(
            call,
            "send and receive overlap",
            "the result would overwrite what is still to be sent",
            "give separate arrays, or send=None where the operation works in place",
        )
    plan.n_send = NONE if send is None else send.size
    plan.n_receive = NONE if receive is None else receive.size
    given = receive if send is None else send
    plan.dims = given.shape if operation in _SHAPED else None
    _check_sizes(plan, rank, size, at_root)
    plan.whole = operation in REDUCTIONS and not isinstance(call.op, str)
    if operation in REDUCTIONS:
        plan.combine = combiner(call.op, plan.dtype, receive.shape if plan.dims is None else plan.dims)
    _choose(plan, size)
    return plan


def _choose(plan: Plan, size: int) -> None:
    call = plan.call
    plan.road = ""
    named = call.algorithm
    if named in (NATIVE, HOSTS):
        plan.road = named
    if named and not plan.road:
        plan.algorithm = choice.named(call.operation, named, equal=plan.equal, whole=plan.whole)
    else:
        plan.algorithm = choice.choose(call.operation, plan.nbytes, size, equal=plan.equal, whole=plan.whole)


def _check_presence(call: Call, send: Any, receive: Any, at_root: bool) -> None:
    operation = call.operation
    where = "at the root" if at_root else "on members other than the root" if operation in _ROOTED else ""
    wants_send, wants_receive = {
        "barrier": ("no", "no"),
        "broadcast": ("no", "yes"),
        "reduce": ("may" if at_root else "yes", "yes" if at_root else "no"),
        "gather": ("yes", "yes" if at_root else "no"),
        "scatter": ("yes" if at_root else "no", "yes"),
    }.get(operation, ("may" if operation in _IN_PLACE else "yes", "yes"))
    for name, array, wants in (("send", send, wants_send), ("receive", receive, wants_receive)):
        if wants == "yes" and array is None:
            remedy = _IN_PLACE_ONLY if name == "send" else "give an array to fill"
            _wrong(call, f"{name} is missing {where}".rstrip(), f"{operation} needs an array there", remedy)
        if wants == "no" and array is not None:
            why = f"{operation} has no use for it there"
            _wrong(call, f"{name} must be None {where}".rstrip(), why, "give None there, or leave it out")


def _dtype(call: Call, send: Any, receive: Any) -> Any:
    for name, array in (("send", send), ("receive", receive)):
        if array is not None and not isinstance(array, np.ndarray):
            _wrong(
                call,
                f"{name} is a {type(array).__name__}, not a numpy array",
                "collectives move the memory of numpy arrays",
                "give a numpy array (0-dimensional ones by numpy.array(x)), or send objects by an operator for objects",
            )
    if send is not None and receive is not None and send.dtype != receive.dtype:
        _wrong(
            call,
            f"send is {send.dtype}, receive is {receive.dtype}",
            "nothing is converted on the way",
            "give arrays of one dtype",
        )
    array = send if receive is None else receive
    return None if array is None else array.dtype


def _check_array(call: Call, name: str, array: Any, *, writable: bool) -> None:
    dtype = array.dtype
    if dtype.hasobject:
        _wrong(
            call,
            f"{name} is an array of objects",
            "objects have no memory that could be sent as it is",
            "convert it to numbers, or use a collective for objects",
        )
    if dtype.itemsize == 0 or not dtype.isnative:
        _wrong(
            call,
            f"{name} has dtype {dtype.str!r}",
            "its items have no bytes" if dtype.itemsize == 0 else "its byte order is not this machine's",
            "convert it by array.astype",
        )
    flags = array.flags
    if not flags.c_contiguous:
        _wrong(
            call,
            f"{name} is not C-contiguous (shape {array.shape}, strides {array.strides})",
            "it is sent and filled as one piece of memory",
            "pass numpy.ascontiguousarray(array), or receive into a contiguous array and copy it",
        )
    if writable and not flags.writeable:
        _wrong(
            call,
            f"{name} is read-only",
            "the result is written to it; arrays that were given to an operator, or came from one, are frozen",
            "give an array of your own: array.copy() or numpy.empty_like(array)",
        )
    if not flags.aligned:
        _wrong(call, f"{name} is not aligned", f"its memory begins at no multiple of {dtype.alignment} bytes",
               "copy it")  # fmt: skip


def _lies_well(flags: Any) -> bool:
    """Whether an array is one piece of memory at a place that its dtype may have."""
    return flags.c_contiguous and flags.aligned  # type: ignore[no-any-return]


def _check_sizes(plan: Plan, rank: int, size: int, at_root: bool) -> None:
    """Compare numbers of elements with the call, and find what must be equal on all members."""
    call, operation, n, m = plan.call, plan.call.operation, plan.n_send, plan.n_receive
    sends, receives = _COUNTS.get(operation, (False, False))
    if (call.send_counts is not None and not sends) or (call.receive_counts is not None and not receives):
        _wrong(call, "counts were given that it does not use", f"{operation} has no such counts",
               "leave them out")  # fmt: skip
    plan.equal = call.send_counts is None and call.receive_counts is None
    here = m if operation in ("broadcast", "scatter", "reduce_scatter") or n == NONE else n
    check = _SIZES.get(operation)
    agreed = ARRAYS if operation == "barrier" else f"n={here}"
    if check is not None:
        agreed = check(call, n, m, rank, size, at_root) or agreed
    part = n // size if operation == "alltoall" else here
    if plan.dims is not None:
        agreed = f"shape={'x'.join(map(str, plan.dims)) or 'scalar'}"
    plan.nbytes = -1 if not plan.equal else 0 if plan.dtype is None else part * plan.dtype.itemsize
    plan.shape = _shape(plan, agreed)


def _sizes_of_reduction(call: Call, n: int, m: int, rank: int, size: int, at_root: bool) -> str:
    if NONE not in (n, m) and n != m:
        _sizes(call, f"send has {n} elements, receive {m}", "equally many in both")
    return ""


def _sizes_of_alltoall(call: Call, n: int, m: int, rank: int, size: int, at_root: bool) -> str:
    sent, received = call.send_counts, call.receive_counts
    if sent is None and received is None:
        if n % size or n != m:
            _sizes(call, f"send has {n} elements, receive {m}", f"the same multiple of {size} in both")
        return ""
    if sent is None or received is None:
        _sizes(call, "send_counts or receive_counts is missing", "both or none")
    _counts(call, "send_counts", sent, size, n, "send")
    _counts(call, "receive_counts", received, size, m, "receive")
    if sent[rank] != received[rank]:
        _sizes(
            call, f"this member sends itself {sent[rank]} elements and receives {received[rank]}", "equal numbers there"
        )
    return _OWN_COUNTS


def _sizes_of_gather(call: Call, n: int, m: int, rank: int, size: int, at_root: bool) -> str:
    counts = call.receive_counts
    everybody = call.operation == "allgather"
    if counts is None:
        if (everybody or at_root) and m != n * size:
            _sizes(call, f"send has {n} elements, receive {m}", f"{size} times as many in receive as in send")
        return ""
    if everybody or at_root:
        _counts(call, "receive_counts", counts, size, m, "receive")
        if counts[rank] != n:
            _sizes(call, f"send has {n} elements, receive_counts says {counts[rank]}", "equal numbers there")
    return _equal_counts(counts) if everybody else _OWN_COUNTS


def _sizes_of_scatter(call: Call, n: int, m: int, rank: int, size: int, at_root: bool) -> str:
    counts = call.send_counts
    if counts is None:
        if at_root and n != m * size:
            _sizes(call, f"send has {n} elements, receive {m}", f"{size} times as many in send as in receive")
        return ""
    if at_root:
        _counts(call, "send_counts", counts, size, n, "send")
        if counts[rank] != m:
            _sizes(call, f"receive has {m} elements, send_counts says {counts[rank]}", "equal numbers there")
    return _OWN_COUNTS


def _sizes_of_reduce_scatter(call: Call, n: int, m: int, rank: int, size: int, at_root: bool) -> str:
    counts = call.receive_counts
    if counts is None:
        if n != m * size:
            _sizes(call, f"send has {n} elements, receive {m}", f"{size} times as many in send as in receive")
        return ""
    _counts(call, "receive_counts", counts, size, n, "send")
    if counts[rank] != m:
        _sizes(call, f"receive has {m} elements, receive_counts says {counts[rank]}", "equal numbers there")
    return _equal_counts(counts)


_SIZES = {
    **dict.fromkeys(("reduce", "allreduce", "scan", "exscan"), _sizes_of_reduction),
    "alltoall": _sizes_of_alltoall,
    "gather": _sizes_of_gather,
    "allgather": _sizes_of_gather,
    "scatter": _sizes_of_scatter,
    "reduce_scatter": _sizes_of_reduce_scatter,
}
_COUNTS = {
    "gather": (False, True),
    "allgather": (False, True),
    "reduce_scatter": (False, True),
    "scatter": (True, False),
    "alltoall": (True, True),
}
"""Whether an operation takes send_counts and receive_counts."""


def _shape(plan: Plan, agreed: str) -> str:
    call, dtype = plan.call, plan.dtype
    op = form = None
    if call.operation in REDUCTIONS:
        # a function goes another road than the op of its name
        op = call.op if isinstance(call.op, str) else f"{text_of(call.op)}()"
    if dtype is not None:
        form = dtype.name if dtype.names is None else f"{_cut(_fields(dtype))}#{_digest(_layout(dtype))}"
    root = call.root if call.operation in _ROOTED else None
    return f"{words(reducer=op, root=root, dtype=form)} {agreed} {words(algorithm=call.algorithm)}".strip()


def _layout(dtype: Any) -> object:
    """What makes a dtype with fields: they may lie in any order, and over each other."""
    if dtype.subdtype is not None:
        inner, shape = dtype.subdtype
        return _layout(inner), shape
    if dtype.names is None:
        return dtype.str
    fields = dtype.fields
    return dtype.itemsize, [(name, _layout(fields[name][0]), fields[name][1]) for name in dtype.names]


def _fields(dtype: Any) -> str:
    """The fields of a dtype, for people, as one word."""
    if dtype.subdtype is not None:
        inner, shape = dtype.subdtype
        return f"{_fields(inner)}[{'x'.join(map(str, shape))}]"
    if dtype.names is None:
        return str(dtype.str)
    fields = [f"{_word(name)}:{_fields(dtype.fields[name][0])}" for name in dtype.names]
    return f"{{{','.join(fields)}}}"


def _word(name: str) -> str:
    """A name of a field without what the words of a shape may not have."""
    return "".join(char if char.isprintable() and char not in " ~" else "_" for char in name)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _digest(value: object) -> str:
    return blake2b(repr(value).encode(), digest_size=6).hexdigest()


def _counts(call: Call, name: str, counts: Sequence[Any], size: int, n: int, array: str) -> None:
    if len(counts) != size:
        _sizes(call, f"{name} has {len(counts)} entries", f"one for each of the {size} members")
    if any(not isinstance(count, (int, np.integer)) or count < 0 for count in counts):
        _sizes(call, f"{name} is {counts}", "whole numbers from 0")
    if sum(counts) != n:
        _sizes(
            call,
            f"{name} sums to {sum(counts)}, {array} has {n} elements",
            f"counts that add up to the elements of {array}",
        )


def _equal_counts(counts: Sequence[Any]) -> str:
    """Counts that are the same on all members; where there are many the first ones, and a digest of all."""
    numbers = tuple(map(int, counts))
    text = ",".join(map(str, numbers))
    shown = _cut(text)
    return f"counts=[{shown}]" if shown == text else f"counts=[{shown}{_digest(numbers)}]"


def _sizes(call: Call, found: str, wanted: str) -> NoReturn:
    _wrong(call, found, f"{call.operation} needs {wanted}")


def _wrong(call: Call, what: str, why: str, remedy: str = _REMEDY) -> NoReturn:
    raise OperatorError(
        f"{call.operation}: {what}", why=why, remedy=remedy, details={"operation": call.operation, "root": call.root}
    )
