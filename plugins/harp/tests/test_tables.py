"""Tables against plain dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import OperatorError, UserCodeError
from twister2_harp import Harp, KeyValueTable, Status, Table
from twister2_testkit.fakes import LocalCluster

Run = Callable[..., list[Any]]


Contents = list[dict[int, int]]
contents = st.lists(st.dictionaries(st.integers(0, 12), st.integers(-9, 9)), min_size=3, max_size=3)


def summed(parts: Contents) -> dict[int, int]:
    total: dict[int, int] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return total


def table(part: dict[int, int]) -> Table:
    return Table({key: np.array([value]) for key, value in part.items()})


def plain(it: Table) -> dict[int, int]:
    return {key: int(value[0]) for key, value in it.items()}


def test_add_combines_equal_ids() -> None:
    it = Table(combiner="max")
    assert it.add(1, 5) is Status.ADDED
    assert it.add(1, 3) is Status.COMBINED
    assert dict(it) == {1: 5}
    with pytest.raises(OperatorError, match="median"):
        Table(combiner="median")


@settings(max_examples=20, deadline=None)
@given(parts=contents)
def test_collectives_on_tables_equal_dictionaries(parts: Contents) -> None:
    total = summed(parts)

    def program(env: Any) -> None:
        harp = Harp(env)
        mine = table(parts[harp.rank])
        assert plain(harp.allreduce(mine)) == total
        reduced = harp.reduce(mine, root=1)
        assert (plain(reduced) if reduced is not None else None) == (total if harp.rank == 1 else None)
        grouped = harp.regroup(mine)
        assert plain(grouped) == {key: value for key, value in total.items() if key % 3 == harp.rank}
        doubled = harp.aggregate(mine, lambda _, value: value * 2)
        assert plain(doubled) == {key: value * 2 for key, value in total.items()}
        assert plain(harp.broadcast(mine if harp.rank == 2 else None, root=2)) == parts[2]
        assert plain(mine) == parts[harp.rank], "what was given stays as it is"
        wanted = sorted(total)[harp.rank :]
        assert plain(harp.pull(grouped, wanted)) == {key: total[key] for key in wanted}
        harp.push(mine, grouped)
        assert plain(grouped) == {key: 2 * value for key, value in total.items() if key % 3 == harp.rank}

    LocalCluster(3).run(program)


def test_what_came_may_be_changed(run: Run) -> None:
    def program(harp: Harp) -> None:
        for came in (
            harp.regroup(Table({rank: np.ones(50_000) for rank in range(harp.size)})),
            harp.rotate(Table({harp.rank: np.ones(50_000)})),
        ):
            for value in came.values():
                value += 1

    run(program, 3)


def test_what_stays_is_apart_from_what_was_given(run: Run) -> None:
    def program(harp: Harp) -> None:
        given = Table({rank: np.ones(3) for rank in range(harp.size)})
        mine = harp.regroup(given)
        value = np.ones(3)
        everybody = harp.allgather(value)
        for changed in (*given.values(), value):
            changed[:] = 9
        harp.barrier()
        assert mine[harp.rank].tolist() == [harp.size] * 3
        assert [part.tolist() for part in everybody] == [[1.0] * 3] * harp.size

    run(program, 1)
    run(program, 3)


def test_rotate_visits_every_rank(run: Run) -> None:
    def program(harp: Harp) -> list[list[int]]:
        it, seen = Table({harp.rank: np.array([harp.rank])}), []
        for _ in range(harp.size):
            seen.append(sorted(it))
            it = harp.rotate(it)
        assert sorted(it) == [harp.rank]
        return seen

    assert run(program, 4)[0] == [[0], [3], [2], [1]]


def test_rotate_by_an_order_and_without_waiting(run: Run) -> None:
    order = [2, 1, 0]

    def program(harp: Harp) -> int:
        rotation = harp.irotate(Table({harp.rank: 1}), order)
        total = harp.allreduce(1)  # another step while it is under way
        while not rotation.test():
            pass
        assert total == 3
        return next(iter(rotation.result))

    assert run(program, 3) == [2, 1, 0]
    with pytest.raises(OperatorError, match="permutation"):
        run(lambda harp: harp.rotate(Table(), [0, 0, 1]), 3)


def test_pull_of_what_nobody_has_names_it(run: Run) -> None:
    with pytest.raises(OperatorError, match="77"):
        run(lambda harp: harp.pull(Table({harp.rank: 1}), [77]), 2)


def test_a_partitioner_that_gives_no_rank_is_named(run: Run) -> None:
    with pytest.raises(OperatorError, match="-1"):
        run(lambda harp: harp.regroup(Table({4: 1}), lambda _: -1), 2)


@settings(max_examples=15, deadline=None)
@given(words=st.lists(st.lists(st.sampled_from("abcdefg") | st.integers(0, 5), max_size=30), min_size=2, max_size=2))
def test_key_value_tables_count_words(words: list[list[Any]]) -> None:
    import collections

    total = collections.Counter(word for part in words for word in part)

    def program(env: Any) -> dict[Any, int]:
        harp = Harp(env)
        counts = KeyValueTable(n_partitions=8)
        for word in words[harp.rank]:
            counts.put(word, 1)
        everybody = harp.allreduce(counts)
        assert dict(everybody.pairs()) == total
        assert everybody.value("none", 0) == 0
        return dict(harp.regroup(counts).pairs())

    shares = LocalCluster(2).run(program)
    assert not set(shares[0]) & set(shares[1])
    assert shares[0] | shares[1] == total


def test_arrays_in_the_dicts_of_a_key_value_table_are_the_callers_own_too():
    def main(env):
        harp, table = Harp(env), KeyValueTable(combiner="sum", n_partitions=2)
        if harp.rank == 0:
            for key in range(6):
                table.put(key, np.ones(5000))
        gathered = harp.regroup(table)
        turned = harp.rotate(gathered)
        for _, value in turned.pairs():
            value += 1
        return sorted((key, value[0]) for key, value in turned.pairs())

    first, second = LocalCluster(2, "loopback").run(main)
    assert sorted(first + second) == [(key, 2.0) for key in range(6)]


def arrays_in(value: Any) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, (Table, dict)):
        return [one for part in value.values() for one in arrays_in(part)]
    return [one for part in value for one in arrays_in(part)] if isinstance(value, (list, tuple)) else []


def some(harp: Harp, kind: str) -> Table:
    """Partitions that all ranks have, that only this one has, and that only others have."""
    if kind == "keyvalue":
        words = KeyValueTable(n_partitions=4)
        for key in ("all", f"rank {harp.rank}", *range(8)):
            words.put(key, np.ones(5))
        return words
    if kind == "lists":
        return Table({p: [np.ones(5), (np.ones(2),)] for p in (100, harp.rank)}, lambda left, right: left + right)
    ids = (100, 101, harp.rank, *range(10 + 10 * harp.rank, 13 + 10 * harp.rank))
    return Table({p: np.ones(5) for p in ids}, max_of if kind == "picks" else "sum")


def max_of(left: Any, right: Any) -> Any:
    return left if left.sum() >= right.sum() else right


CALLS: dict[str, Callable[[Harp, Table], Any]] = {
    "regroup": lambda harp, it: harp.regroup(it),
    "aggregate": lambda harp, it: harp.aggregate(it),
    "aggregate by": lambda harp, it: harp.aggregate(it, lambda p, value: it.get(p, value)),
    "allreduce": lambda harp, it: harp.allreduce(it),
    "reduce": lambda harp, it: harp.reduce(it),
    "scan": lambda harp, it: harp.scan(it),
    "exscan": lambda harp, it: harp.exscan(it),
    "gather": lambda harp, it: harp.gather(it),
    "allgather": lambda harp, it: harp.allgather(it),
    "scatter": lambda harp, it: harp.scatter([it] * harp.size, root=1 % harp.size),
    "alltoall": lambda harp, it: harp.alltoall([it] * harp.size),
    "reduce_scatter": lambda harp, it: harp.reduce_scatter([it] * harp.size),
    "exchange": lambda harp, it: harp.exchange(dict.fromkeys(range(harp.size), it)),
    "broadcast": lambda harp, it: harp.broadcast(it if harp.rank == 0 else None) if harp.rank else harp.broadcast(it),
}


class Started:
    """A communicator whose calls are begun without waiting, and then waited for."""

    def __init__(self, harp: Harp) -> None:
        self.rank, self.size, self._harp = harp.rank, harp.size, harp

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given, **more: getattr(self._harp, f"i{name}")(*given, **more).wait(20.0)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["arrays", "picks", "keyvalue", "lists"])
def test_results_are_the_callers_own_and_apart_from_what_was_given(run: Run, name: str, kind: str) -> None:
    def program(harp: Harp) -> None:
        for calls in (harp, Started(harp)):
            check(harp, calls)

    def check(harp: Harp, calls: Any) -> None:
        given = some(harp, kind)
        result = CALLS[name](calls, given)
        if result is given:
            assert name == "broadcast"
            return
        before = [array.copy() for array in arrays_in(given)]
        for array in arrays_in(result):
            array += 7  # all can be written to
        if isinstance(result, KeyValueTable):
            for key in ("all", 3):
                result.put(key, np.ones(5))
        after = arrays_in(given)
        assert len(after) == len(before)
        for one, other in zip(before, after, strict=True):
            assert (one == other).all(), "the result shares memory with what was given"

    for n in (1, 3):
        run(program, n)


@pytest.mark.parametrize("kind", ["arrays", "picks", "keyvalue", "lists"])
def test_what_was_pushed_and_pulled_is_apart(run: Run, kind: str) -> None:
    def program(harp: Harp) -> None:
        given = some(harp, kind)
        into = given.empty()
        harp.push(given, into)
        for array in arrays_in(into):
            array += 7
        assert all((array == 1).all() for array in arrays_in(given))
        pulled = harp.pull(into, sorted(into))
        before = [array.copy() for array in arrays_in(into)]
        for array in arrays_in(pulled):
            array += 7
        for one, other in zip(before, arrays_in(into), strict=True):
            assert (one == other).all()

    for n in (1, 3):
        run(program, n)


def test_a_copy_of_a_key_value_table_does_not_change_it():
    table = KeyValueTable()
    table.put("a", 1)
    other = table.copy()
    other.put("a", 1)
    assert table.value("a") == 1
    assert other.value("a") == 2


def test_values_of_any_kind_that_stay_are_copied(run: Run) -> None:
    def program(harp: Harp) -> None:
        given = Table({rank: {"seen": {rank}} for rank in range(harp.size)}, lambda left, right: right)
        result = harp.regroup(given)
        for value in result.values():
            value["seen"].add("mine")
        assert all(value["seen"] == {rank} for rank, value in given.items())

    for n in (1, 2):
        run(program, n)


def test_tables_move_while_other_calls_are_made(run: Run) -> None:
    def program(harp: Harp) -> None:
        n, me = harp.size, harp.rank
        given = Table({partition: np.ones(3) for partition in range(2 * n)})
        regrouping = harp.iregroup(given)
        assert harp.allreduce(1) == n
        mine = regrouping.wait(20.0)
        assert plain(mine) == {partition: n for partition in range(2 * n) if partition % n == me}
        assert regrouping.result is mine
        assert plain(given) == dict.fromkeys(range(2 * n), 1)

        pushing = harp.ipush(Table({me: np.array([10.0] * 3), 50: np.ones(3)}), mine)
        pulling = harp.ipull(Table({100 + me: np.array([me])}), [100 + (me + 1) % n])
        total = np.empty(1)
        reducing = harp.Iallreduce(np.array([1.0]), total)
        while not pulling.test():
            pass
        assert plain(pulling.result) == {100 + (me + 1) % n: (me + 1) % n}
        reducing.wait()
        assert total[0] == n
        assert pushing.wait(20.0) is None
        assert mine[me][0] == n + 10
        assert (50 in mine) == (50 % n == me)
        if 50 in mine:
            assert mine[50][0] == n
        mine[me] += 1

    for n in (1, 2, 3, 5):
        run(program, n)


def test_functions_of_an_aggregate_that_raise_end_it_on_all(run: Run) -> None:
    def bad(partition: int, value: Any) -> Any:
        raise ZeroDivisionError(f"partition {partition}")

    given = Table({0: 1})
    with pytest.raises(ZeroDivisionError, match="partition 0"):
        run(lambda harp: harp.aggregate(given, bad), 2)

    def program(harp: Harp) -> None:
        request = harp.iaggregate(given, bad)
        harp.barrier()  # the function may be called in here already
        request.wait(20.0)

    with pytest.raises(ZeroDivisionError, match="partition 0"):
        run(program, 2)


def test_a_pull_without_waiting_of_what_nobody_has_names_it(run: Run) -> None:
    with pytest.raises(OperatorError, match="77"):
        run(lambda harp: harp.ipull(Table({harp.rank: 1}), [77]).wait(10.0), 2)
    with pytest.raises(OperatorError, match="ranks 0 and 1"):
        run(lambda harp: harp.ipush(Table({}), Table({5: 1})).wait(10.0), 2)


def test_all_nans_are_one_key(run: Run) -> None:
    def program(harp: Harp) -> list[tuple[str, float]]:
        table = KeyValueTable()
        for key in (float("nan"), np.nan, np.float64("nan"), (1, float("nan")), 1, 1.0, True):
            table.put(key, 1)
        everything = harp.allreduce(table)
        assert everything.value(float("nan")) == 3 * harp.size
        return sorted((repr(key), value) for key, value in everything.pairs())

    for pairs in run(program, 3):
        assert pairs == [("(1, nan)", 3), ("1", 9), ("nan", 9)]


def test_ids_of_partitions_are_whole_numbers() -> None:
    for wrong in (lambda: Table({"a": 1}), lambda: Table().add(1.5, 1), lambda: Table().update({None: 1})):
        with pytest.raises(OperatorError, match="is no id of a partition"):
            wrong()
    assert Table({np.int64(3): 1})[3] == 1


def test_values_that_cannot_be_combined_say_which_they_are() -> None:
    mine = Table({3: np.ones(4)})
    with pytest.raises(OperatorError, match="partition 3") as caught:
        mine.add(3, np.ones(5))
    assert "(4,)" in str(caught.value)
    assert "(5,)" in str(caught.value)
    assert (mine[3] == 1).all()
    with pytest.raises(OperatorError, match="a str"):
        Table({3: "text"}).add(3, 7)

    def refuse(left: Any, right: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(UserCodeError, match="partition 3") as raised:
        Table({3: 1}, refuse).add(3, 2)
    assert "in refuse" in raised.value.where
    assert "ZeroDivisionError" in raised.value.details["traceback"]
    words = KeyValueTable()
    words.put("a", 1)
    with pytest.raises(OperatorError, match="key 'a'"):
        words.put("a", "b")


def test_partitions_that_cannot_be_combined_end_the_call_on_all() -> None:
    def main(env: Any) -> None:
        Harp(env).allreduce(Table({7: np.ones(2 + env.worker_id)}))

    with pytest.raises(OperatorError, match="partition 7") as caught:
        LocalCluster(2, "loopback").run(main)
    assert "worker" in caught.value.where
    assert f"{__file__}:" in caught.value.where


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda harp: harp.regroup({0: np.ones(2)}), "regroup: table is"),
        (lambda harp: harp.rotate({0: 1}), "rotate: table is"),
        (lambda harp: harp.aggregate([1]), "aggregate: table is"),
        (lambda harp: harp.push({0: 1}, Table()), "push: local is"),
        (lambda harp: harp.push(Table(), None), "push: into is"),
        (lambda harp: harp.pull([1], [1]), "pull: source is"),
        (lambda harp: harp.pull(Table(), 1), "pull: ids is 1"),
        (lambda harp: harp.exchange([1, 2]), "exchange: values is"),
        (lambda harp: harp.exchange({"1": 2}), "no rank '1'"),
        (lambda harp: harp.regroup(Table({0: 1}), lambda partition: None), "partition 0 has no place"),
    ],
)
def test_other_arguments_are_refused_with_what_is_wanted(run, call, text):
    with pytest.raises(OperatorError, match=text):
        run(call, 2)
