"""What people give who come from MPI: its constants, arrays where they are not used, lists with datatypes."""

from __future__ import annotations

import operator
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twister2.spec.errors import OperatorError, StepMismatchError
from twister2_harp import Harp, Table
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.native_loopback import NativeLoopback

Run = Callable[..., list[Any]]


def with_mpi(script: str) -> None:
    """Run ``main(harp)`` of a script on two ranks, beside an mpi4py that is imported and not begun."""
    whole = """
        import mpi4py
        mpi4py.rc.initialize = False
        from mpi4py import MPI
        import numpy as np
        import pytest
        from twister2.spec.errors import OperatorError, StepMismatchError
        from twister2_harp import Harp, Table
        from twister2_testkit.fakes import LocalCluster

        def run(function, n=2):
            return LocalCluster(n, "loopback").run(lambda env: function(Harp(env)))
    """
    code = textwrap.dedent(whole) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.needs_mpi
def test_ops_of_mpi4py_are_ours() -> None:
    with_mpi("""
        OPS = {
            "SUM": np.add, "PROD": np.multiply, "MIN": np.minimum, "MAX": np.maximum, "LAND": np.logical_and,
            "LOR": np.logical_or, "LXOR": np.logical_xor, "BAND": np.bitwise_and, "BOR": np.bitwise_or,
            "BXOR": np.bitwise_xor,
        }

        def main(harp):
            for name, ufunc in OPS.items():
                op, out = getattr(MPI, name), np.empty(4, "int64")
                want = ufunc([0, 1, 2, 3], [2, 1, 0, 7]).astype("int64")
                mine = np.array([[0, 1, 2, 3], [2, 1, 0, 7]][harp.rank])
                harp.Allreduce(mine, out, op)
                assert np.array_equal(out, want), name
                harp.Iallreduce(mine, out, op=op).wait(60)
                assert np.array_equal(out, want), name
                assert np.array_equal(harp.allreduce(mine, op), want), name
                assert harp.allreduce(int(mine[3]), op) == want[3], name
            place = np.full(3, harp.rank + 1.0)
            harp.Allreduce(MPI.IN_PLACE, place, MPI.SUM if harp.rank else "sum")
            assert place.tolist() == [3.0] * 3
            harp.Reduce(MPI.IN_PLACE if harp.rank == 0 else place, place, MPI.MAX, root=0)
            assert harp.allreduce(Table({1: place}, MPI.SUM))[1].tolist() == [6.0] * 3

        run(main)
        for call in (
            lambda harp: harp.Allreduce(np.ones(3), np.empty(3), MPI.PROD if harp.rank else MPI.SUM),
            lambda harp: harp.allreduce(2, MPI.PROD if harp.rank else MPI.SUM),
        ):
            with pytest.raises(StepMismatchError, match="reducer=prod"):
                run(call)
        for op in (MPI.MAXLOC, MPI.OP_NULL, MPI.REPLACE):
            with pytest.raises(OperatorError, match="function of two values"):
                run(lambda harp: harp.Allreduce(np.ones(3), np.empty(3), op))
            with pytest.raises(OperatorError, match="function of two values"):
                run(lambda harp: harp.allreduce((1.0, harp.rank), op))
    """)


@pytest.mark.needs_mpi
def test_lists_of_mpi4py_are_taken_where_they_say_what_is_done_anyway() -> None:
    with_mpi("""
        def main(harp):
            mine, out, wide = np.full(2, harp.rank + 1.0), np.empty(2), np.empty(4)
            harp.Allreduce([mine, MPI.DOUBLE], [out, MPI.DOUBLE], MPI.SUM)
            assert out.tolist() == [3.0, 3.0]
            number = np.array([7 - harp.rank], "int32")
            harp.Broadcast([number, MPI.INT])
            assert number.tolist() == [7]
            for receive in (
                [wide, (2, 2), MPI.DOUBLE], [wide, [2, 2], None, MPI.DOUBLE], [wide, (2, 2), (0, 2)],
                [wide, np.array([2, 2]), (0, 2), MPI.DOUBLE], [wide, ((2, 2), (0, 2))], (wide, (2, 2)),
                [wide, ((2, 2), (0, 2)), MPI.DOUBLE],
            ):
                wide[:] = -1
                harp.Allgather([mine, MPI.DOUBLE], receive)
                assert wide.tolist() == [1.0, 1.0, 2.0, 2.0], receive
            harp.Gatherv(mine, [wide, (2, 2), (0, 2), MPI.DOUBLE] if harp.rank == 0 else None)
            harp.Scatterv([wide if harp.rank == 0 else None, (2, 2), (0, 2), MPI.DOUBLE], [out, MPI.DOUBLE])
            assert np.array_equal(out, mine)

        run(main)
        one, other = np.ones(4), np.ones(4)
        for send, why in (
            ([one, MPI.FLOAT], "datatype of MPI that is 'f4'"),
            ([one, (2, 2), MPI.INT], "datatype of MPI that is 'i4'"),
            ([one, MPI.DOUBLE_INT], "datatype of MPI"),
            ([one, (2, 2), (0, 3)], "displacements .0, 3., with counts .2, 2."),
            ([one, (2, 2), (0,)], "displacements"),
            ([one, 4, MPI.DOUBLE], "array or .array, counts."),
            ([one, (2, 2), (0, 2), 3], "array or .array, counts."),
            ([one, None, MPI.DOUBLE], "array or .array, counts."),
            ([one, None, (2, 2)], "array or .array, counts."),
            ([MPI.IN_PLACE, MPI.DOUBLE], "array or .array, counts."),
        ):
            with pytest.raises(OperatorError, match=why):
                run(lambda harp: harp.Alltoall(send, [other, (2, 2)]))
    """)


def test_what_only_the_root_uses_may_be_given_everywhere(run: Run) -> None:
    def program(harp: Harp) -> None:
        size, root, mine = harp.size, harp.size - 1, np.full(2, harp.rank)
        for wait in (True, False):
            total, wide, part = np.full(2, -1), np.full(2 * size, -1), np.full(2, -1)
            whole = np.repeat(np.arange(size), 2) if harp.rank == root else np.full(7, -2)  # elsewhere not looked at
            counts = [2] * size
            calls = [
                (harp.Reduce, harp.Ireduce, (mine, total, "sum", root)),
                (harp.Gather, harp.Igather, (mine, wide, root)),
                (harp.Scatter, harp.Iscatter, (whole, part, root)),
            ]
            for now, later, arguments in calls:
                now(*arguments) if wait else later(*arguments).wait(60.0)
            at_root = harp.rank == root
            assert total.tolist() == ([sum(range(size))] * 2 if at_root else [-1, -1])
            assert wide.tolist() == (np.repeat(np.arange(size), 2).tolist() if at_root else [-1] * 2 * size)
            assert part.tolist() == mine.tolist()
            wide[:] = part[:] = -1
            for now, later, arguments in [
                (harp.Gatherv, harp.Igatherv, (mine, [wide, counts], root)),
                (harp.Scatterv, harp.Iscatterv, ([whole if at_root else None, counts], part, root)),
            ]:
                now(*arguments) if wait else later(*arguments).wait(60.0)
            assert wide.tolist() == (np.repeat(np.arange(size), 2).tolist() if at_root else [-1] * 2 * size)
            assert part.tolist() == mine.tolist()

    for n in (1, 3):
        run(program, n)


class Unhashable:
    """An op that is compared, and so has no hash."""

    def __eq__(self, other: object) -> bool:
        return True

    def __call__(self, left: Any, right: Any) -> Any:
        return left + right


class OtherUnhashable(Unhashable):
    def __call__(self, left: Any, right: Any) -> Any:
        return left * right


class EmptyCallable(list):  # type: ignore[type-arg]
    """Neither hashable nor true."""

    def __call__(self, left: Any, right: Any) -> Any:
        return left * right


def test_a_function_need_not_be_hashable(run: Run) -> None:
    def program(harp: Harp) -> None:
        mine, out = np.full(3, harp.rank + 1.0), np.empty(3)
        for op, want in ((Unhashable(), 6), (OtherUnhashable(), 6), (EmptyCallable(), 6), (Unhashable(), 6)):
            harp.Allreduce(mine, out, op)
            assert out.tolist() == [want] * 3
            assert harp.allreduce(harp.rank + 1, op) == want
            harp.Iallreduce(mine, out, op).wait(60.0)

    run(program, 3)


@pytest.mark.parametrize("op", [np.add, operator.add, "sum"], ids=str)
def test_ufuncs_go_where_their_names_go(op: Any) -> None:
    def program(env: Any) -> None:
        harp, out = Harp(env), np.empty(3)
        harp.Allreduce(np.ones(3), out, op if harp.rank else "sum", algorithm="native")
        assert out.tolist() == [3.0] * 3

    LocalCluster(3, NativeLoopback).run(program)


def test_other_ufuncs_do_not_go_natively() -> None:
    with pytest.raises(OperatorError, match="cannot go the road 'native'"):
        LocalCluster(2, NativeLoopback).run(
            lambda env: Harp(env).Allreduce(np.ones(3), np.empty(3), np.hypot, algorithm="native")
        )


OTHERS: list[tuple[Any, Any]] = [
    (np.add, np.multiply),
    (np.hypot, np.fmax),
    (np.add, lambda left, right: left + right),
    (Unhashable(), OtherUnhashable()),
    (lru_cache(lambda left, right: left), lru_cache(lambda left, right: right)),
    (np.vectorize(lambda left, right: left), np.vectorize(lambda left, right: right)),
    (partial(np.clip, 0), partial(np.clip, 1)),
]


@pytest.mark.parametrize("ops", OTHERS, ids=range(len(OTHERS)))
@pytest.mark.parametrize("objects", [False, True], ids=["arrays", "objects"])
def test_ranks_with_different_ops_are_told(run: Run, ops: tuple[Any, Any], objects: bool) -> None:
    def program(harp: Harp) -> None:
        if objects:
            harp.allreduce(1.5, ops[harp.rank])
        else:
            harp.Allreduce(np.ones(3), np.empty(3), ops[harp.rank])

    with pytest.raises(StepMismatchError, match="reducer="):
        run(program, 2)


def test_what_a_wrapped_function_has_captured_is_looked_at_each_time(run: Run) -> None:
    def program(harp: Harp) -> None:
        factor = 1.0

        def times(left: float, right: float) -> float:
            return left * right * factor

        op, out = np.vectorize(times), np.empty(3)
        harp.Allreduce(np.ones(3), out, op)
        assert out.tolist() == [1.0] * 3
        factor += harp.rank
        harp.Allreduce(np.ones(3), out, op)

    with pytest.raises(StepMismatchError, match="reducer=times"):
        run(program, 2)


MASKED = np.ma.array([1.0, 2.0, 3.0], mask=[True, False, False])


@pytest.mark.parametrize(
    "call",
    [
        lambda harp: harp.Allreduce(MASKED, np.empty(3)),
        lambda harp: harp.Allreduce(np.ones(3), MASKED.copy()),
        lambda harp: harp.Broadcast(MASKED.copy()),
        lambda harp: harp.Allgather(MASKED, [np.empty(6), [3, 3]]),
        lambda harp: harp.Allgather(np.ones(3), [np.ma.zeros(6), [3, 3]]),
    ],
)
def test_a_masked_array_is_no_buffer(run: Run, call: Any) -> None:
    with pytest.raises(OperatorError, match="a buffer is a masked array") as caught:
        run(call, 2)
    assert "filled" in caught.value.remedy


def test_masked_arrays_keep_their_masks_as_objects(run: Run) -> None:
    def program(harp: Harp) -> None:
        mine = np.ma.array([1.0, 2.0, 3.0], mask=[harp.rank == 1, False, False])
        total = harp.allreduce(mine)
        assert total.mask.tolist() == [harp.size > 1, False, False]
        assert total[1:].tolist() == [2.0 * harp.size, 3.0 * harp.size]
        assert [int(part.mask.sum()) for part in harp.allgather(mine)] == [int(rank == 1) for rank in range(harp.size)]

    for n in (1, 2, 3):
        run(program, n)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("transport", ["loopback", "tcp", "shm"])
@pytest.mark.parametrize("rows", [2, 30_000])
def test_other_kinds_of_arrays_are_the_arrays_that_they_are(transport: Any, rows: int, tmp_path: Path) -> None:
    def program(env: Any) -> None:
        harp = Harp(env)
        kinds: list[Callable[[Any], Any]] = [np.matrix, np.asarray]
        for make in kinds:
            mine, out = make(np.full((rows, 2), harp.rank + 1.0)), make(np.zeros((rows, 2)))
            wide = make(np.zeros((rows * harp.size, 2)))
            harp.Allreduce(mine, out)
            assert np.array_equal(out, make(np.full((rows, 2), 6.0)))
            harp.Allgather(mine, wide)
            assert np.array_equal(wide, make(np.repeat([[1.0], [2.0], [3.0]], rows, axis=0) * np.ones(2)))
            harp.Reduce_scatter(wide, out, "max")
            assert np.array_equal(out, make(np.full((rows, 2), harp.rank + 1.0)))
            harp.Alltoall(wide, make(np.zeros((rows * harp.size, 2))))
            harp.Broadcast(mine, root=2)
            assert (np.asarray(mine) == 3.0).all()
        mapped = np.memmap(tmp_path / f"{harp.rank}", "float64", "w+", shape=(rows,))
        harp.Allreduce(np.ones(rows), mapped)
        mapped.flush()
        assert (np.fromfile(tmp_path / f"{harp.rank}") == 3.0).all()

    LocalCluster(3, transport).run(program)


def test_functions_get_the_shape_that_was_given_of_arrays_without_axes(run: Run) -> None:
    def program(harp: Harp) -> set[Any]:
        shapes = set()

        def added(left: Any, right: Any) -> Any:
            shapes.add((left.shape, right.shape))
            return np.asarray(left + right)

        out = np.array(-1.0)
        harp.Reduce(np.array(2.0), out if harp.rank == 0 else None, added)
        harp.Allreduce(np.array(2.0), out, added)
        assert out == 2.0 * harp.size
        return shapes

    assert set().union(*run(program, 4)) == {((), ())}


@pytest.mark.parametrize("dtype", ["f8", ">f8", "M8[s]"])
def test_reductions_of_arrays_without_axes_give_such_arrays(run: Run, dtype: str) -> None:
    def program(harp: Harp) -> list[Any]:
        mine = np.array(harp.rank + 1).astype("i8").astype(dtype)
        found = [harp.allreduce(mine, "max"), harp.scan(mine, "max"), harp.reduce(mine, "max", harp.size - 1)]
        return [(type(one), one.shape, one.dtype.kind) for one in found if one is not None]

    kind = (np.ndarray, (), np.dtype(dtype).kind)
    for n in (1, 2, 3):
        assert run(program, n) == [[kind] * (2 + (rank == n - 1)) for rank in range(n)]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda harp: harp.Broadcast(np.ones(2), [0]), r"root \[0\]"),
        (lambda harp: harp.Gather(np.ones(2), np.ones(4), [0]), r"root \[0\]"),
        (lambda harp: harp.broadcast(1, [0]), r"root \[0\]"),
        (lambda harp: harp.Allreduce(np.ones(2), np.ones(2), np.ones(3)), "no op array"),
        (lambda harp: harp.Allreduce(np.ones(2), np.ones(2), ""), "no op ''"),
        (lambda harp: harp.Broadcast([np.ones(2), [2]]), "counts were given that it does not use"),
        (lambda harp: harp.Allgather([np.ones(2)], np.ones(4)), "array or .array, counts."),
        (lambda harp: harp.Allreduce([], np.ones(4)), "array or .array, counts."),
        (lambda harp: harp.Allreduce(np.array(["a"]), np.array(["a"]), "max"), "keeps the length of their items"),
    ],
)
def test_other_mistakes_are_told(run: Run, call: Any, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        run(call, 2)


def test_tables_take_what_has_a_name(run: Run) -> None:
    for combiner in (operator.add, "sum"):
        assert Table({0: 1}, combiner).combiner == "sum"
    table = run(lambda harp: harp.allreduce(Table({0: np.ones(2)}, np.add)), 2)[0]
    assert table[0].tolist() == [2.0, 2.0]
