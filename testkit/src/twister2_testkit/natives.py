"""Conformance of transports' own collectives: :class:`twister2.spec.collectives.NativeCollectives`.

A plugin's tests subclass :class:`NativeSuite`::

    class TestNative(NativeSuite):
        processes = True
        def make_transport(self, context):
            return ShmPlugin().comm_create(config=ShmConfig(), context=context)
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from twister2.spec.collectives import OPERATIONS, OPS, Call, NativeCollectives, NativeRequest
from twister2.spec.errors import StepMismatchError
from twister2_testkit.array_cases import COUNTED, REDUCTIONS, Case
from twister2_testkit.capabilities import ConformanceSuite
from twister2_testkit.comm_world import Rank, Services, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.comm import Transport, TransportContext

ALIKE = 0x0123456789ABCDEF
MOST = 40_009
"""Elements of a part, at most, where there are many members."""
DTYPES = {
    **dict.fromkeys(("int64", "int16", "uint8", "float16", "float32", "float64", "longdouble"), "sum"),
    **dict.fromkeys(("complex64", "complex128", "bool", "m8[ms]"), "sum"),
    "M8[s]": "max",
    **dict.fromkeys(("S3", "u1,f8,S3"), ""),
}
"""dtypes, and by what they are reduced; empty: they can only be moved."""
ALL_OPS = {**dict.fromkeys(("int64", "uint8", "bool"), OPS), "float64": OPS[: OPS.index("band")]}
"""dtypes with the ops that numpy has for them."""
ROOTED = ("broadcast", "reduce", "gather", "scatter")
_declared: dict[type[NativeSuite], frozenset[str]] = {}


def alike(case: Case) -> int:
    """A fingerprint of a case, the same on all ranks."""
    text = f"{case.operation} {case.op} {case.root} {case.n} {case.dtype}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class Group:
    """One member's end of a group: makes calls and waits for them, numbered as steps."""

    def __init__(self, rank: Rank, natives: NativeCollectives, members: Sequence[int]) -> None:
        self.rank, self.natives, self.members = rank, natives, list(members)
        self.me, self.size = self.members.index(rank.id), len(self.members)
        self.steps = 0

    def start(self, call: Call, send: Any = None, receive: Any = None, fingerprint: int = ALIKE) -> NativeRequest:
        """Begin the group's next call."""
        self.steps += 1
        return self.natives.start(call, send, receive, self.steps, fingerprint)

    def finish(self, request: NativeRequest) -> None:
        """Wait until a call is complete."""
        self.rank.until(lambda: True if request.test() else None, "a native collective")

    def takes(self, case: Case) -> bool:
        """Whether the transport has the operation and accepts the call."""
        dtype = None if case.operation == "barrier" else np.dtype(case.dtype)
        part = -1 if case.counts is not None else 0 if dtype is None else case.n * dtype.itemsize
        return case.operation in self.natives.operations and self.natives.accepts(case.call(self.me), dtype, part)

    def do(self, case: Case) -> bool:
        """Make a call and check its answer; False when the transport does not take it."""
        if not self.takes(case):
            return False
        send, receive = case.buffers(self.me)
        self.finish(self.start(case.call(self.me), send, receive, alike(case)))
        case.check(self.me, send, receive)
        return True


class NativeSuite(ConformanceSuite):
    """Tests of native collectives. Override :meth:`make_transport`."""

    processes: ClassVar[bool] = False
    """Every rank in a process of its own, else in a thread."""
    sizes: ClassVar[tuple[int, ...]] = (2, 3, 4)
    """Numbers of ranks that the suite works with, each operation in a world of its own."""
    larger: ClassVar[tuple[int, ...]] = (5, 7)
    """More numbers of ranks, with one world for all operations."""
    lengths: ClassVar[tuple[int, ...]] = (0, 1, 2, 7, 1000, 8192, 100_003)
    """Elements of a member's part; choose them around the borders of the transport's algorithms as well."""
    segments: ClassVar[Sequence[str]] = ()
    """As the transport declares them (``facts.segments``): what ranks that are killed may leave is removed."""

    @abstractmethod
    def make_transport(self, context: TransportContext) -> Transport:
        """The transport of one rank. Called in the rank's own process or thread."""

    def make_services(self, size: int) -> Services | None:
        """What a world needs beside its processes (an MPI transport: its process manager)."""
        return None

    def world(self, size: int, *, close: bool = True) -> World:
        """A world of this plugin's transports."""
        return World(
            size,
            self.make_transport,
            processes=self.processes,
            timeout_s=self.timeout_s,
            services=self.make_services,
            close=close,
            segments=self.segments,
        )

    def run(self, size: int, body: Callable[[Rank, Group], Any], *, close: bool = True) -> list[Any]:
        """Run ``body`` on every rank with the collectives of all of them."""

        def with_group(rank: Rank) -> Any:
            rank.reach_all()
            rank.sync("reached")
            return body(rank, self.group(rank, range(size)))

        return self.world(size, close=close).run(with_group)

    def group(self, rank: Rank, members: Sequence[int]) -> Group:
        """The collectives of some ranks."""
        natives = rank.transport.native(list(members))
        assert natives is not None, "the transport gives no native collectives"
        assert natives.operations <= set(OPERATIONS)
        assert natives.operations == rank.transport.facts.native, "facts.native says something else than the backend"
        return Group(rank, natives, members)

    # -- right answers ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_answers_are_right(self, operation: str) -> None:
        def body(rank: Rank, group: Group) -> int:
            roots = (0, group.size - 1) if operation in ROOTED else (0,)
            return sum(
                group.do(Case(operation, group.size, n, root=root, seed=seed))
                for seed, (n, root) in enumerate((n, root) for n in self.lengths for root in roots)
            )

        self.require(operation)
        for size in self.sizes:
            done = self.run(size, body)
            assert len(set(done)) == 1, "some ranks accepted what others did not"
            assert done[0], f"{operation} is declared, and no call of it is accepted"

    def test_answers_of_more_members_are_right(self) -> None:
        def body(rank: Rank, group: Group) -> None:
            for operation in OPERATIONS:
                for n in lengths:
                    group.do(Case(operation, group.size, n, root=n % group.size, seed=n))
                if operation in COUNTED:
                    group.do(Case(operation, group.size, counts=tuple(n * 3 % 5 for n in range(group.size)), root=1))

        lengths = sorted({min(n, MOST) for n in self.lengths})
        for size in self.larger:
            self.run(size, body)

    @pytest.mark.parametrize("operation", OPERATIONS[1:])
    def test_dtypes_are_right(self, operation: str) -> None:
        def body(rank: Rank, group: Group) -> None:
            for dtype, op in DTYPES.items():
                if op or operation not in REDUCTIONS:
                    for n in (1, 5, 3001):
                        group.do(Case(operation, group.size, n, dtype, op or "sum"))

        self.require(operation)
        self.run(2, body)

    @pytest.mark.parametrize("operation", REDUCTIONS)
    def test_ops_are_right(self, operation: str) -> None:
        def body(rank: Rank, group: Group) -> None:
            for dtype, ops in ALL_OPS.items():
                for op in ops:
                    for n in (3, 5000):
                        group.do(Case(operation, group.size, n, dtype, op, seed=n))

        self.require(operation)
        self.run(3, body)

    @pytest.mark.parametrize("operation", COUNTED)
    def test_parts_may_differ(self, operation: str) -> None:
        def body(rank: Rank, group: Group) -> None:
            for counts in ((3, 0, 5), (0, 0, 0), (1, 20_000, 2), (0, 0, 9)):
                for root in (0, 2):
                    group.do(Case(operation, 3, counts=counts, root=root))

        self.require(operation)
        self.run(3, body)

    @pytest.mark.parametrize("operation", ["reduce", "allreduce", "scan", "exscan"])
    def test_in_place(self, operation: str) -> None:
        def body(rank: Rank, group: Group) -> None:
            for n in (1, 1000, 100_003):
                group.do(Case(operation, group.size, n, in_place=operation != "reduce" or group.me == 0))

        self.require(operation)
        self.run(3, body)

    def test_all_members_get_the_same_bits(self) -> None:
        """Sums of numbers of very different sizes, which show the order in which they were added."""

        def body(rank: Rank, group: Group) -> list[bytes]:
            results = []
            for n in (1, 9, 1000, 8000, 100_003):
                if not group.takes(Case("allreduce", group.size, n, "float64")):
                    continue
                values = np.random.default_rng([rank.id, n])
                send = values.standard_normal(n) * 10.0 ** values.integers(-12, 12, n)
                for _ in range(2):
                    receive = np.empty(n)
                    group.finish(group.start(Call("allreduce"), send, receive))
                    results.append(receive.tobytes())
            assert results[::2] == results[1::2], "the same call gave other bits the second time"
            return results

        self.require("allreduce")
        for size in self.sizes:
            results = self.run(size, body)
            assert all(result == results[0] for result in results), "members got different bits"

    def test_a_loop_of_calls_mixes_nothing(self) -> None:
        """Fast members may be ahead, slow ones behind; no call may see data of another."""
        names = self.some_of("allreduce", "broadcast", "reduce", "allgather", "gather")

        def body(rank: Rank, group: Group) -> None:
            chance = random.Random(rank.id)
            for number in range(300):
                group.do(
                    Case(
                        names[number % len(names)],
                        group.size,
                        1 + number % 5 * 400,
                        root=number % group.size,
                        seed=number,
                    )
                )
                if chance.random() < 0.03:
                    time.sleep(0.002)

        self.run(3, body)

    def test_buffers_are_free_when_a_call_is_complete(self) -> None:
        """What was sent may be changed as soon as the call is complete here, wherever the others are."""
        slow = {"broadcast": 1, "reduce": 0, "gather": 0, "scatter": 1, "allgather": 0}

        def body(rank: Rank, group: Group) -> None:
            for operation, late in slow.items():
                for n in self.lengths:
                    case = Case(operation, 2, n, seed=n)
                    if not group.takes(case):
                        continue
                    send, receive = case.buffers(group.me)
                    if rank.id == late:
                        time.sleep(0.005)
                    group.finish(group.start(case.call(group.me), send, receive))
                    case.check(group.me, send, receive)
                    for array in (send, receive):
                        if array is not None:
                            array[:] = -1

        self.some_of(*slow)
        self.run(2, body)

    # -- several groups, several calls -----------------------------------------------------------------------------

    def test_sub_groups(self) -> None:
        """Groups of some of the ranks, in an order of their own; others that go on beside them."""

        def body(rank: Rank, group: Group) -> None:
            pairs = [3, 1] if rank.id % 2 else [0, 2]
            rank.sync("pairs")
            pair = self.group(rank, pairs)
            for number in range(20):
                for operation in ("allreduce", "broadcast", "allgather"):
                    pair.do(Case(operation, 2, number * 100, root=number % 2, seed=pairs[0] * 100 + number))
                if number % 5 == 0:
                    group.do(Case("allreduce", 4, 10, seed=number))
            pair.natives.close()
            pair.natives.close()
            group.do(Case("allreduce", 4, 1000))

        self.run(4, body)

    def test_calls_may_be_open_at_once(self) -> None:
        """Started in the same order, completed in any."""
        names = self.some_of("allreduce", "broadcast", "allgather", "gather")

        def body(rank: Rank, group: Group) -> None:
            chance = random.Random(rank.id + 17)
            for turn in range(15):
                opened = []
                for number in range(4):
                    case = Case(
                        names[(turn + number) % len(names)],
                        group.size,
                        50 * number * turn,
                        root=number % group.size,
                        seed=turn,
                    )
                    if not group.takes(case):
                        continue
                    send, receive = case.buffers(group.me)
                    opened.append((group.start(case.call(group.me), send, receive), case, send, receive))
                chance.shuffle(opened)
                for request, case, send, receive in opened:
                    group.finish(request)
                    assert request.test(), "a complete request is no longer complete"
                    case.check(group.me, send, receive)

        self.run(3, body)

    def test_starting_and_testing_do_not_wait(self) -> None:
        """A member whose partners have not come yet gets its hands back at once."""

        def body(rank: Rank, group: Group) -> None:
            send, receive = np.ones(1000), np.empty(1000)
            group.do(Case("allreduce", 2, 1000, "float64"))
            if rank.id == 0:
                began = time.monotonic()
                request = group.start(Call("allreduce"), send, receive)
                for _ in range(10):
                    assert not request.test(), "complete without the other member"
                took = time.monotonic() - began
                rank.sync("others may start", progress=False)
                assert took < 5.0, f"start and test held the caller for {took:.1f} s"
            else:
                rank.sync("others may start", progress=False)
                request = group.start(Call("allreduce"), send, receive)
            group.finish(request)
            assert (receive == 2).all()

        self.require("allreduce")
        self.run(2, body)

    def test_messages_go_on_beside_calls(self) -> None:
        """What was sent before a call comes after it, in order, and nothing of the calls comes as a message."""

        def body(rank: Rank, group: Group) -> None:
            right, left = (rank.id + 1) % 3, (rank.id - 1) % 3
            for number in range(30):
                said = str(number).encode()
                send = rank.send(right, [said])
                group.do(Case("allreduce", 3, 30 * number, seed=number))
                received = rank.receive()
                assert (received.peer, [*map(bytes, received.frames)]) == (left, [said])
                rank.finish(send)
            rank.quiet()

        self.require("allreduce")
        self.run(3, body)

    # -- other calls, gone members ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("wrong", ["fingerprint", "step", "operation"])
    def test_another_call_is_found(self, wrong: str) -> None:
        """A member in another call: everybody who needs it raises, and nobody gets a result of two different calls."""
        self.require("allreduce")
        second = "allgather" if "allgather" in self.operations() else "barrier"
        if wrong == "operation":
            self.require(second)

        def body(rank: Rank, group: Group) -> str:
            group.do(Case("allreduce", group.size, 10))
            odd = rank.id == 1
            call, fingerprint = Call("allreduce"), ALIKE
            send, receive = np.full(1000, float(rank.id + 1)), np.zeros(1000)
            if odd and wrong == "fingerprint":
                fingerprint = ALIKE + 1
            elif odd and wrong == "step":
                group.steps += 1
            elif odd:
                call, fingerprint = Call(second), ALIKE + 2
                receive = np.zeros(1000 * group.size)
            given, into = (None, None) if call.operation == "barrier" else (send, receive)
            try:
                group.finish(group.start(call, given, into, fingerprint))
            except StepMismatchError as error:
                found = "found" if error.details.get("peer") == 1 - rank.id else "found, without the peer in details"
            except AssertionError:
                found = "hung"
            else:
                found = f"complete with {receive[0]}"
            rank.sync("all have looked", progress=False)
            return found

        found = type(self)().with_timeout(10.0).run(2, body, close=False)
        assert found == ["found", "found"], found

    def test_another_call_of_who_only_gives_is_found_later(self) -> None:
        """Who only gives may be through before anybody sees that it was in another call; then a later call says it."""

        def body(rank: Rank, group: Group) -> str:
            group.do(Case("allreduce", group.size, 10))
            array = np.full(10, rank.id)
            root = rank.id  # each takes itself for the root
            try:
                group.finish(group.start(Call("broadcast", root=root), None, array, ALIKE + root))
                group.finish(group.start(Call("allreduce"), array.copy(), array))
            except StepMismatchError:
                found = "found"
            except AssertionError:
                found = "hung"
            else:
                found = "complete"
            rank.sync("all have looked", progress=False)
            return found

        self.require("allreduce", "broadcast")
        found = type(self)().with_timeout(10.0).run(2, body, close=False)
        assert "complete" not in found, found
        assert "found" in found, found

    def test_a_call_can_be_given_up(self) -> None:
        """After an abort the transport closes while a call is open; it waits for nobody."""

        def body(rank: Rank, group: Group) -> float:
            group.do(Case("allreduce", group.size, 10))
            if rank.id == 0:
                n = next(n for n in (100_000, 8000, 1000, 10) if group.takes(Case("allreduce", 2, n, "float64")))
                request = group.start(Call("allreduce"), np.ones(n), np.empty(n))
                for _ in range(100):
                    assert not request.test()
            rank.sync("given up", progress=False)
            began = time.monotonic()
            group.natives.close()
            rank.transport.close(aborted=True)
            return time.monotonic() - began

        self.require("allreduce")
        took = self.run(2, body, close=False)
        assert max(took) < 6.0, f"closing took {took} s"

    # -- inside ----------------------------------------------------------------------------------------------------

    def with_timeout(self, timeout_s: float) -> NativeSuite:
        """This suite, waiting less long."""
        self.timeout_s = timeout_s  # type: ignore[misc]
        return self

    def operations(self) -> frozenset[str]:
        """The operations that the transport declares: those of its first world, unless a subclass says them."""
        suite = type(self)
        if suite not in _declared:
            _declared[suite] = self.world(2).run(lambda rank: rank.transport.facts.native)[0]
        return _declared[suite]

    def some_of(self, *names: str) -> list[str]:
        """Those of these operations that the transport declares; skips the test when there is none."""
        declared = self.operations()
        found = [name for name in names if name in declared]
        if not found:
            pytest.skip(f"the transport has no {' or '.join(names)} of its own")
        return found

    def require(self, *names: str) -> None:
        """Skip the test unless the transport declares all these operations."""
        for name in names:
            self.some_of(name)


__all__ = ["Group", "NativeSuite"]
