"""What a set offers beside the answers: batches, functions as sources, explain, names, types."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest

from twister2.spec.errors import OperatorError, UserCodeError
from twister2_tset import TSetContext


def test_map_batches_in_all_forms(run_workers):
    def job(env):
        numbers = TSetContext(env).parallelize(range(10), 3)
        squares = numbers.map_batches(lambda batch: batch * batch, form="numpy")
        table = squares.map_batches(lambda batch: pa.RecordBatch.from_pydict({"n": pa.array(batch)}), form="numpy")
        rows = table.filter(lambda row: row["n"] > 30)
        back = table.map_batches(lambda batch: batch.column("n").to_pylist(), form="arrow")
        nothing = numbers.map_batches(lambda batch: None)
        lists = numbers.map_batches(lambda batch: batch[::-1], form="list", releases_gil=True)
        return [int(x) for x in squares.collect()], rows.collect(), back.collect(), nothing.count(), lists.gather()

    for executor in ("inline", "threads"):
        squares, rows, back, nothing, lists = run_workers(2, job, executor=executor)[0]
        assert squares == back == [x * x for x in range(10)]
        assert rows == [{"n": n} for n in (36, 49, 64, 81)]
        assert nothing == 0
        assert [x for part in lists for x in reversed(part)] == list(range(10))


def test_arrays_are_counted_summed_and_sorted(run_workers):
    def job(env):
        arrays = (
            TSetContext(env).parallelize(range(100), 4).map_batches(lambda batch: np.asarray(batch) % 7, form="list")
        )
        return (
            arrays.count(),
            int(arrays.reduce("sum")),
            sorted(arrays.count_by_value().collect()),
            [int(x) for x in arrays.sort(descending=True).collect()],
            [int(x) for x in arrays.top(3)],
        )

    rest = [x % 7 for x in range(100)]
    expected = (100, sum(rest), [(d, rest.count(d)) for d in range(7)], sorted(rest, reverse=True), [6, 6, 6])
    assert run_workers(2, job) == [expected] * 2


@pytest.mark.parametrize("result", ["text", {"a": 1}, 3, np.float64(2), np.array(1)])
def test_map_batches_refuses_what_is_no_batch(run_workers, result):
    with pytest.raises(OperatorError, match="map_batches returned"):
        run_workers(1, lambda env: TSetContext(env).parallelize([1]).map_batches(lambda batch: result).count())


MASKED = np.ma.array([1, 2, 3], mask=[False, True, False])


@pytest.mark.parametrize(
    "given",
    [
        lambda sets: sets.parallelize(MASKED, 2),
        lambda sets: sets.parallelize([1], 1).map_batches(lambda batch: MASKED),
        lambda sets: sets.parallelize([1], 1).map_batches(lambda batch: MASKED).map(lambda record: record),
    ],
    ids=["source", "last", "between"],
)
def test_what_a_mask_hides_does_not_count_in_silence(run_workers, given):
    for last in ("collect", "count"):
        with pytest.raises(OperatorError, match="a batch is a masked array") as caught:
            run_workers(2, lambda env, last=last: getattr(given(TSetContext(env)), last)())
        assert "compressed" in caught.value.remedy
        assert "test_sets.py" in caught.value.where


def test_source_functions_are_called_once_per_partition_where_it_lies(run_workers):
    def job(env):
        made = []

        def numbers(partition):
            made.append(partition)
            yield from range(partition * 10_000, partition * 10_000 + 5_000)

        total = TSetContext(env).source(numbers, 3).count()
        return total, made

    assert run_workers(2, job) == [(15_000, [0, 2]), (15_000, [1])]


def test_for_each_sees_every_record_on_its_worker(run_workers):
    def job(env):
        seen = []
        TSetContext(env).parallelize(range(6), 3).for_each(seen.append)
        return seen

    assert run_workers(2, job) == [[0, 1, 4, 5], [2, 3]]


def test_a_set_is_lazy_and_can_be_used_again(run_workers):
    def job(env):
        calls = []
        numbers = TSetContext(env).parallelize(range(4), 1).map(lambda x: calls.append(x) or x)
        assert calls == []
        return numbers.collect(), numbers.collect(), len(calls)

    assert run_workers(1, job) == [([0, 1, 2, 3], [0, 1, 2, 3], 8)]


def test_parallelize_keeps_the_data_of_the_call(run_workers):
    def job(env):
        data = [1, 2]
        numbers = TSetContext(env).parallelize(data)
        data.append(3)
        return numbers.collect()

    assert run_workers(2, job) == [[1, 2], [1, 2]]


def test_explain_names_steps_lines_operators_and_rules(run_workers):
    def job(env):
        words = TSetContext(env, name="job").parallelize(["a b"], 2).flat_map(str.split).map(str.upper)
        return words.count_by_value().explain()

    plan = run_workers(2, job)[0]
    for part in ("plan job", "flat_map (test_sets.py:", "str.upper", "net.count_by_value", "fuse: ", "2 workers"):
        assert part in plan


def test_the_traceback_of_a_failing_function_is_the_users_own(run_workers):
    with pytest.raises(UserCodeError) as caught:
        run_workers(1, lambda env: TSetContext(env).parallelize([1, 0]).map(lambda x: 1 / x).collect())
    assert "test_sets.py" in caught.value.details["traceback"]
    assert "twister2_tset/" not in caught.value.details["traceback"].rsplit("test_sets.py", 1)[1]


def test_modules_stay_light():
    code = "import sys, twister2_tset; print(sorted({'numpy', 'pyarrow', 'zmq', 'mpi4py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


TYPED = """
    import operator
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, assert_type

    from twister2.spec.environment import WorkerEnvironment
    from twister2_tset import SetContext, TSet, TSetContext


    def main(env: WorkerEnvironment) -> None:
        lines = TSetContext(env).read_text("x")
        assert_type(lines, TSet[str])
        words = lines.flat_map(str.split)
        assert_type(words.map(len), TSet[int])
        assert_type(words.filter(str.isalpha), TSet[str])
        pairs = words.map_to_tuple(lambda word: (word, 1))
        assert_type(pairs, TSet[tuple[str, int]])
        assert_type(pairs.keyed_reduce(operator.add), TSet[tuple[str, int]])
        assert_type(words.count_by_value(), TSet[tuple[str, int]])
        assert_type(words.map(len).reduce(max), int)
        assert_type(words.top(3, key=len), list[str])
        assert_type(words.gather(), list[list[str]])
        assert_type(words.sort().cache().collect(), list[str])
        assert_type(words.sort(len, str.lower, descending=[True, False]).distinct(), TSet[str])
        assert_type(words.key_by(len), TSet[tuple[int, str]])
        assert_type(pairs.map_values(float), TSet[tuple[str, float]])
        assert_type(pairs.keys(), TSet[str])
        assert_type(pairs.values().sum(), Any)
        assert_type(pairs.keyed_gather(), TSet[tuple[str, Sequence[int]]])
        assert_type(pairs.keyed_gather(grouped=False), TSet[tuple[str, int]])

        def add(total: float, value: int) -> float:
            return total + value

        def merge(one: float, other: float) -> float:
            return one + other

        assert_type(pairs.keyed_aggregate(0.0, add, merge), TSet[tuple[str, float]])
        assert_type(pairs.values().aggregate(0.0, add, merge), float)
        sizes = words.key_by(len).group_by_key()
        assert_type(sizes.count(), TSet[tuple[int, int]])
        assert_type(words.group_by(len).gather(), TSet[tuple[int, Sequence[str]]])
        assert_type(words.group_by(len).map_groups(lambda size, some: (some[0], size)), TSet[tuple[str, int]])

        def first_of(size: int, some: Sequence[str], context: SetContext) -> str:
            return some[0]

        assert_type(words.group_by(len).map_groups(first_of), TSet[str])
        other = words.key_by(str.lower)
        assert_type(pairs.join(other), TSet[tuple[str, tuple[int, str]]])
        assert_type(pairs.join(other, "left"), TSet[tuple[str, tuple[int, str | None]]])
        assert_type(pairs.join(other, "right"), TSet[tuple[str, tuple[int | None, str]]])
        assert_type(pairs.join(other, "full"), TSet[tuple[str, tuple[int | None, str | None]]])
        assert_type(pairs.join(other, "anti"), TSet[tuple[str, int]])
        assert_type(words.zip(pairs), TSet[tuple[str, tuple[str, int]]])
        assert_type(words.cross(pairs.values()), TSet[tuple[str, int]])
        assert_type(words.zip_with_index(), TSet[tuple[str, int]])
        assert_type(words.all_gather(), TSet[tuple[int, str]])
        assert_type(words.compute(lambda records: len(list(records))), TSet[int])
        assert_type(words.map_partitions(lambda records: map(len, records)), TSet[int])

        def lengths(records: Iterator[str], collect: Callable[[int], None]) -> None:
            for word in records:
                collect(len(word))

        assert_type(words.compute(lengths, collector=True), TSet[int])

        def placed(word: str, context: SetContext) -> tuple[int, str]:
            return context.index, word

        assert_type(words.map(placed), TSet[tuple[int, str]])
        assert_type(words.map_to_tuple(placed).keys(), TSet[int])
        assert_type(words.key_by(len).map_values(placed), TSet[tuple[int, tuple[int, str]]])
        assert_type(words.key_by(len).flat_map_values(lambda word: word), TSet[tuple[int, str]])
        words.for_each(placed)
        words.for_each(lambda word: print(word.upper()))
        words.lazy_for_each(placed)

        def counted(records: Iterator[str], context: SetContext) -> list[int]:
            return [context.index, len(list(records)), context.config["job"]["workers"]]

        assert_type(words.compute(counted), TSet[list[int]])
        assert_type(words.map_partitions(counted), TSet[int])
        assert_type(words.key_by(len).values().map_batches(lambda batch: batch), TSet[Any])

        def column(batch: Sequence[str], *, context: SetContext) -> list[str]:
            return [f"{context.config['job']['name']}{word}" for word in batch]

        assert_type(words.map_batches(column, form="list"), TSet[Any])

        def sized(records: Iterator[str], collect: Callable[[int], None], context: SetContext) -> None:
            for word in records:
                collect(len(word) + context.index)

        assert_type(words.compute(sized, collector=True), TSet[int])
        assert_type(TSetContext(env).parallelize({"to": 1}), TSet[tuple[str, int]])
        assert_type(words.take(2), list[str])
        assert_type(words.first(), str)
        assert_type(words.max(key=len), str)
        assert_type(words.is_empty(), bool)
        assert_type(words.partition(lambda word, n: len(word) % n).direct().named("words"), TSet[str])
        {wrong}
"""


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("", ""),
        ("words.keyed_reduce(operator.add)", "Invalid self argument"),
        ("words.map(lambda word: word.nothing)", "has no attribute"),
        ("words.map_to_tuple(len)", "incompatible type"),
        ("words.top('3')", "incompatible type"),
        ("words.map_values(len)", "Invalid self argument"),
        ("words.map_partitions(placed)", "incompatible type"),
        ("words.compute(sized)", "incompatible type"),
        ("pairs.join(words)", "incompatible type"),
    ],
)
def test_types_are_followed_by_a_checker(tmp_path, wrong, error):
    file = tmp_path / "typed.py"
    file.write_text(textwrap.dedent(TYPED).replace("{wrong}", wrong))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    if error:
        assert done.returncode == 1
        assert error in done.stdout
        assert done.stdout.count(": error:") == 1, done.stdout
    else:
        assert done.returncode == 0, done.stdout


def test_a_plan_fits_the_terminal_and_repeats_nothing(run_workers):
    def job(env):
        words = TSetContext(env).parallelize(["a b", "b c"], 2).flat_map(str.split)
        return words.count_by_value().explain()

    lines = run_workers(2, job)[0].splitlines()
    assert max(len(line) for line in lines) <= 120
    edges = lines[lines.index("edges") + 1 :]
    assert edges[0].split() == ["from", "to", "operator"]
    assert edges[1].count("flat_map (") == 1
