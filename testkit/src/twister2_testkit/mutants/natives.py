"""Native collectives with one fault each; :class:`twister2_testkit.natives.NativeSuite` must reject every one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from twister2_testkit.native_loopback import Made, NativeLoopback, Room, RoomCollectives, RoomRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.collectives import Call, NativeCollectives, NativeRequest


class _IgnoresFingerprints(RoomRequest):
    def same(self, mine: Made, theirs: Made) -> bool:
        return mine.step == theirs.step

    def complete(self, calls: dict[int, Made]) -> bool:
        return super().complete(calls) and all(
            made.call.operation == self.made.call.operation for made in calls.values()
        )


class _IgnoresSteps(RoomRequest):
    def same(self, mine: Made, theirs: Made) -> bool:
        return mine.fingerprint == theirs.fingerprint


class _ForgetsTheLastPiece(RoomRequest):
    def finish(self, calls: dict[int, Made]) -> None:
        super().finish(calls)
        if self.receive is not None and self.receive.size > 100_000:
            self.receive.reshape(-1)[-1] = 99


class _OwnOrder(RoomRequest):
    """Each member adds its own array first."""

    def reduce(self, call: Call, given: list[Any], rank: int, out: Any) -> None:
        if call.operation == "allreduce":
            given = given[rank:] + given[:rank]
        super().reduce(call, given, rank, out)


class _OffByRoot(RoomRequest):
    def finish(self, calls: dict[int, Made]) -> None:
        if self.made.call.operation == "broadcast" and self.receive is not None:
            self.receive.reshape(-1)[:] = calls[min(calls)].send
            return
        super().finish(calls)


class _TouchesRankZero(RoomRequest):
    def reduce(self, call: Call, given: list[Any], rank: int, out: Any) -> None:
        if call.operation == "exscan" and rank == 0:
            out[:] = 0
        super().reduce(call, given, rank, out)


class _MixedUp(RoomRequest):
    """Counts that differ are taken for equal ones."""

    def finish(self, calls: dict[int, Made]) -> None:
        super().finish(calls)
        counts = self.made.call.receive_counts
        if counts and len(set(counts)) > 1 and self.receive is not None:
            self.receive[:] = self.receive[::-1].copy()


class _Completes(RoomRequest):
    """Is complete without the others."""

    def complete(self, calls: dict[int, Made]) -> bool:
        return True


class _ForgetsThatItIsComplete(RoomRequest):
    def test(self) -> bool:
        if self.done:
            return False
        return super().test()


class _NoSize(RoomRequest):
    def reduce(self, call: Call, given: list[Any], rank: int, out: Any) -> None:
        if call.op == "xor" and out.size > 1000:
            return
        super().reduce(call, given, rank, out)


class _FoldsFour(RoomRequest):
    """Members beyond the fourth are forgotten."""

    def reduce(self, call: Call, given: list[Any], rank: int, out: Any) -> None:
        super().reduce(call, given[:4] if call.operation == "allreduce" else given, rank, out)


class _AddsTruthsAsBytes(RoomRequest):
    def reduce(self, call: Call, given: list[Any], rank: int, out: Any) -> None:
        if out.dtype == bool and call.op == "sum":
            given, out = [None if part is None else part.view("u1") for part in given], out.view("u1")
        super().reduce(call, given, rank, out)


class _TakesHalvesForWholes(RoomRequest):
    """Numbers of two bytes are added as integers, whatever they are."""

    def reduce(self, call: Call, given: list[Any], rank: int, out: Any) -> None:
        if out.dtype.itemsize == 2:
            given, out = [None if part is None else part.view("i2") for part in given], out.view("i2")
        super().reduce(call, given, rank, out)


class _MovesTheFirstField(RoomRequest):
    def finish(self, calls: dict[int, Made]) -> None:
        super().finish(calls)
        if self.receive is not None and self.receive.dtype.names is not None:
            for name in self.receive.dtype.names[1:]:
                self.receive[name] = 0


def _with(request: type[RoomRequest], name: str) -> type[NativeLoopback]:
    class Collectives(RoomCollectives):
        def request(self, number: int, made: Made, receive: Any) -> NativeRequest:
            return request(self, number, made, receive)

    return type(name, (NativeLoopback,), {"collectives": Collectives})


class _KeepsNoCopy(RoomCollectives):
    """Others read the caller's own array whenever they come."""

    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        request = super().start(call, send, receive, step, fingerprint)
        given = receive if send is None else send
        if given is not None and call.operation in ("broadcast", "gather", "reduce", "scatter"):
            assert isinstance(request, RoomRequest)
            request.made.send = given.reshape(-1)
        return request


class _Blocks(RoomCollectives):
    """Waits for the others where it starts."""

    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        request = super().start(call, send, receive, step, fingerprint)
        until = time.monotonic() + 2.0
        while call.operation == "allreduce" and time.monotonic() < until and not request.test():
            time.sleep(0.001)
        return request


class _Changes(RoomCollectives):
    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        request = super().start(call, send, receive, step, fingerprint)
        if call.operation == "allreduce" and send is not None and send.flags.writeable:
            np.copyto(send, 0)
        return request


def _using(collectives: type[RoomCollectives], name: str) -> type[NativeLoopback]:
    return type(name, (NativeLoopback,), {"collectives": collectives})


class _AcceptsAlone(RoomCollectives):
    """Chooses by something that only one member knows."""

    def accepts(self, call: Call, dtype: Any, nbytes: int) -> bool:
        return self.rank == 0 or nbytes < 1 << 16


class OneRoom(NativeLoopback):
    """Groups of the same number of members meet in one room."""

    def native(self, members: Sequence[int]) -> NativeCollectives | None:
        mine = super().native(members)
        assert isinstance(mine, RoomCollectives)
        if len(members) == 2:
            mine.room = self.rooms.setdefault(self._context.session, mine.room)
        return mine

    rooms: ClassVar[dict[str, Room]] = {}


class SwallowsMessages(NativeLoopback):
    """Takes what has come as a part of its calls."""

    def native(self, members: Sequence[int]) -> NativeCollectives | None:
        mine = super().native(members)
        assert isinstance(mine, RoomCollectives)
        transport = self

        class Request(RoomRequest):
            def test(self) -> bool:
                done = super().test()
                transport.receive()
                return done

        mine.request = lambda number, made, receive: Request(mine, number, made, receive)  # type: ignore[method-assign]
        return mine


class _WaitsForAll(NativeLoopback):
    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        if aborted:
            time.sleep(8)
        super().close(aborted=aborted, deadline_s=deadline_s)


MUTANTS: dict[type[NativeLoopback], str] = {
    _with(_IgnoresFingerprints, "IgnoresFingerprints"): "test_another_call_is_found",
    _with(_IgnoresSteps, "IgnoresSteps"): "test_another_call_is_found",
    _with(_ForgetsTheLastPiece, "ForgetsTheLastPiece"): "test_answers_are_right",
    _with(_OwnOrder, "OwnOrder"): "test_all_members_get_the_same_bits",
    _with(_OffByRoot, "OffByRoot"): "test_answers_are_right",
    _with(_TouchesRankZero, "TouchesRankZero"): "test_answers_are_right",
    _with(_MixedUp, "MixedUp"): "test_parts_may_differ",
    _with(_Completes, "Completes"): "test_a_loop_of_calls_mixes_nothing",
    _with(_ForgetsThatItIsComplete, "ForgetsThatItIsComplete"): "test_calls_may_be_open_at_once",
    _with(_NoSize, "ForgetsAnOp"): "test_ops_are_right",
    _with(_FoldsFour, "FoldsFour"): "test_answers_of_more_members_are_right",
    _with(_AddsTruthsAsBytes, "AddsTruthsAsBytes"): "test_ops_are_right",
    _with(_TakesHalvesForWholes, "TakesHalvesForWholes"): "test_dtypes_are_right",
    _with(_MovesTheFirstField, "MovesTheFirstField"): "test_dtypes_are_right",
    _using(_KeepsNoCopy, "KeepsNoCopy"): "test_buffers_are_free_when_a_call_is_complete",
    _using(_Blocks, "Blocks"): "test_starting_and_testing_do_not_wait",
    OneRoom: "test_sub_groups",
    SwallowsMessages: "test_messages_go_on_beside_calls",
    _using(_Changes, "ChangesSend"): "test_answers_are_right",
    _using(_AcceptsAlone, "AcceptsAlone"): "test_answers_are_right",
    _WaitsForAll: "test_a_call_can_be_given_up",
}
"""Each mutant with the test that is meant to reject it."""
