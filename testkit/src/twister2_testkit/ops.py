"""Conformance of communication operators: what every ``twister2.ops`` plugin must do.

A plugin's tests subclass :class:`OperatorSuite`::

    class TestNet(OperatorSuite):
        capabilities = OpsCapabilities(partition=True, keyed_reduce=True, why={"*": "..."})
        def make_operators(self):
            return NetPlugin().ops_create(config=NetConfig())

Test methods take no fixtures, so that they can be run against faulty operators (:mod:`twister2_testkit.mutants.ops`).
"""

from __future__ import annotations

import operator as python_operator
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import KeyHashError, OperatorError, Twister2Error, UserCodeError
from twister2.spec.hashing import task_of_key
from twister2.spec.ops import OperatorInfo
from twister2_testkit.capabilities import Capabilities, ConformanceSuite, needs
from twister2_testkit.fakes import LocalCluster, LocalEnv
from twister2_testkit.ops_drive import Exchange, Mark, batches, check_ends, context_of, drive, flat, run_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.ops import Operators


@attrs.frozen(kw_only=True)
class OpsCapabilities(Capabilities):
    """Which operators of the standard names a catalogue has, and which forms of batch they take.

    :ivar arrays: numpy arrays. :ivar arrow: Arrow record batches. :ivar ranges: the selector ``range``.
    """

    direct: bool = False
    partition: bool = False
    keyed_partition: bool = False
    keyed_reduce: bool = False
    count_by_value: bool = False
    reduce: bool = False
    allreduce: bool = False
    gather: bool = False
    broadcast: bool = False
    barrier: bool = False
    arrays: bool = False
    arrow: bool = False
    ranges: bool = False


few = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
records = st.one_of(st.integers(-50, 50), st.text(max_size=3), st.none(), st.booleans())
keys = st.one_of(st.integers(-20, 20), st.text(max_size=2), st.tuples(st.integers(0, 3), st.text(max_size=1)))


def placements(n_workers: int = 3, most: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Worker ids of some tasks: more or fewer tasks than workers."""
    return st.lists(st.integers(0, n_workers - 1), min_size=1, max_size=most).map(tuple)


def feeds_of(record: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[list[list[list[Any]]]]:
    """Batches of each of n sources; empty feeds and empty batches included."""
    batch = st.lists(record, max_size=12)
    return st.lists(st.lists(batch, max_size=6), min_size=n, max_size=n)


@st.composite
def exchanges(draw: Any, record: st.SearchStrategy[Any]) -> tuple[Any, ...]:
    """Sources, targets and feeds."""
    sources = draw(placements())
    return sources, draw(placements()), draw(feeds_of(record, len(sources)))


def everything(feeds: Sequence[Sequence[Any]]) -> list[Any]:
    """All records of all feeds."""
    return [record for feed in feeds for batch in feed if not isinstance(batch, Mark) for record in batch]


def bag(values: Sequence[Any]) -> Counter[str]:
    """Records without their order, told apart by type too."""
    return Counter(map(repr, values))


class OperatorSuite(ConformanceSuite):
    """What operators must do."""

    capabilities: ClassVar[Capabilities] = OpsCapabilities()
    deadline_s: ClassVar[float] = 20.0
    transport: ClassVar[str] = "inproc"

    def make_operators(self) -> Operators:
        """The catalogue under test."""
        raise TypeError(f"{type(self).__name__} must override make_operators()")

    def run(self, exchange: Exchange) -> list[dict[int, list[Item]]]:
        """Run an exchange, and check the ends of every run."""
        runs = run_exchange(self.make_operators, exchange, transport=self.transport, deadline_s=self.deadline_s)
        for received in runs:
            assert set(received) == set(range(len(exchange.targets)))
            check_ends(received)
        return runs

    def once(self, name: str, sources: Sequence[int], targets: Sequence[int], feeds: Any, **options: Any) -> Any:
        """Run an exchange once with these options; items by target."""
        return self.run(
            Exchange(name=name, sources=tuple(sources), targets=tuple(targets), feeds=feeds, options=options)
        )[0]

    # -- the catalogue ---------------------------------------------------------------------------------------------

    def test_catalogue_says_what_operators_are(self) -> None:
        catalog = self.make_operators().catalog()
        assert catalog, "an empty catalogue"
        for name, info in catalog.items():
            assert isinstance(info, OperatorInfo)
            assert info.name == name
            assert info.summary
            assert info.modes <= {"batch", "stream"}
            assert info.modes
            for option in info.options.values():
                assert option.help, f"{name} has an option without help"

    def test_open_capabilities_are_in_the_catalogue(self) -> None:
        catalog = self.make_operators().catalog()
        for name in self.capabilities.names():
            if name not in ("arrays", "arrow", "ranges") and self.capabilities.is_open(name):
                assert name in catalog

    def test_wrong_names_and_options_are_refused(self) -> None:
        catalog = self.make_operators().catalog()

        def create(name: str, options: dict[str, Any]) -> None:
            with pytest.raises(OperatorError) as caught:
                self.once(name, (0,), (0,), [[]], **options)
            assert caught.value.remedy
            assert name in caught.value.what

        create("no_such_operator", {})
        for name, info in catalog.items():
            required: dict[str, Any] = {option: "sum" for option, declared in info.options.items() if declared.required}
            create(name, {**required, "no_such_option": 1})
            if required:
                create(name, {})

    # -- passing on ------------------------------------------------------------------------------------------------

    @needs("partition")
    def test_partition_delivers_every_record_once(self) -> None:
        @few
        @given(exchanges(records))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            for partitioner in ("hash", "round_robin"):
                got = self.once("partition", sources, targets, feeds, partitioner=partitioner)
                assert bag([record for items in got.values() for record in flat(items)]) == bag(everything(feeds))

        check()

    @needs("partition")
    def test_partition_keeps_the_order_of_each_source(self) -> None:
        feeds = [[[(source, number * 10 + part) for part in range(10)] for number in range(40)] for source in range(3)]
        got = self.once("partition", (0, 1, 1), (0, 1), feeds, partitioner=lambda record, n: record[1] % n)
        for target, items in got.items():
            for source in range(3):
                mine = [record for record in flat(items) if record[0] == source]
                assert mine == [(source, number) for number in range(400) if number % 2 == target]

    @needs("partition")
    def test_hash_places_by_the_stable_hash(self) -> None:
        values = [*range(200), *map(str, range(200)), None, True, 2.0, (1, "x"), b"b"]
        got = self.once("partition", (0, 1), (0, 1, 1), [[values], [values[::-1]]], partitioner="hash")
        for target, items in got.items():
            assert {repr(record) for record in flat(items)} == {
                repr(record) for record in values if task_of_key(record, 3) == target
            }

    @needs("partition")
    def test_round_robin_spreads_evenly(self) -> None:
        got = self.once("partition", (0, 1), (0, 1, 1), [[[1] * 30] * 2, [[2] * 60]], partitioner="round_robin")
        assert [len(flat(items)) for _, items in sorted(got.items())] == [40, 40, 40]

    @needs("partition")
    def test_skew_and_a_giant_record(self) -> None:
        giant = "g" * (5 << 20)
        feeds = [[[giant]], [[number] for number in range(50)], []]
        got = self.once("partition", (0, 1, 1), (0, 1, 1), feeds, partitioner=lambda record, n: 0)
        assert bag(flat(got[0])) == bag([giant, *range(50)])
        assert flat(got[1]) == flat(got[2]) == []

    @needs("partition")
    def test_wrong_targets_are_refused_with_the_record(self) -> None:
        for answer in (-1, 2, 1.5, None, "0", True):
            with pytest.raises(OperatorError) as caught:
                self.once(
                    "partition", (0,), (0, 1), [[["first", "bad"]]],
                    partitioner=lambda record, n, answer=answer: answer if record == "bad" else 0,
                )  # fmt: skip
            assert "bad" in str(caught.value), f"the answer {answer!r} was not blamed on its record"

    @needs("partition", "ranges")
    def test_ranges_by_given_bounds(self) -> None:
        feeds = [[list(range(0, 300, 2))], [list(range(1, 300, 2))]]
        got = self.once("partition", (0, 1), (0, 1, 1), feeds, partitioner="range", bounds=[100, 250])
        assert [sorted(flat(items)) for _, items in sorted(got.items())] == [
            list(range(100)),
            list(range(100, 250)),
            list(range(250, 300)),
        ]

    @needs("partition", "ranges")
    def test_ranges_from_a_sample_are_in_order_and_even(self) -> None:
        numbers = [(number * 7919) % 4001 for number in range(4001)]
        feeds = [[numbers[:10], numbers[10:3000]], [numbers[3000:]], []]
        for descending in (False, True):
            got = self.once(
                "partition", (0, 1, 0), (1, 0, 1), feeds, partitioner="range", key=lambda record: record,
                descending=descending,
            )  # fmt: skip
            parts = [sorted(flat(items)) for _, items in sorted(got.items(), reverse=descending)]
            assert [number for part in parts for number in part] == sorted(numbers)
            assert all(800 < len(part) < 2000 for part in parts), [len(part) for part in parts]
        assert flat(self.once("partition", (0,), (0, 0), [[]], partitioner="range")[0]) == []

    @needs("direct")
    def test_direct_goes_from_each_source_to_its_target(self) -> None:
        feeds = [[[source, number] for number in range(20)] for source in range(3)]
        got = self.once("direct", (0, 1, 1), (1, 1, 0), feeds)
        for target, items in got.items():
            assert batches(items) == feeds[target]
        with pytest.raises(OperatorError):
            self.once("direct", (0,), (0, 0), [[]])

    @needs("gather")
    def test_gather_brings_everything_to_one(self) -> None:
        feeds = [[[source * 100 + number] for number in range(30)] for source in range(3)]
        got = self.once("gather", (0, 1, 2), (1,), feeds)
        for source in range(3):
            from_it = [item.value[0] for item in got[0] if item.source == source and item.kind == HeaderKind.DATA]
            assert from_it == [source * 100 + number for number in range(30)]
        assert len(flat(got[0])) == 90

    @needs("broadcast")
    def test_broadcast_brings_everything_to_all(self) -> None:
        feeds = [[[number] for number in range(200)]]
        got = self.once("broadcast", (1,), (0, 1, 1, 2), feeds)
        for items in got.values():
            assert flat(items) == list(range(200))

    @needs("barrier")
    def test_barrier_ends_when_all_have_finished(self) -> None:
        got = self.once("barrier", (0, 1, 1), (0, 1), [[], [], []])
        assert [batches(items) for items in got.values()] == [[], []]

    # -- keys ------------------------------------------------------------------------------------------------------

    @needs("keyed_partition")
    def test_pairs_of_a_key_meet(self) -> None:
        @few
        @given(exchanges(st.tuples(keys, st.integers())))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            got = self.once("keyed_partition", sources, targets, feeds)
            for target, items in got.items():
                assert all(task_of_key(key, len(targets)) == target for key, _ in flat(items))
            assert bag([pair for items in got.values() for pair in flat(items)]) == bag(everything(feeds))

        check()

    @needs("keyed_reduce")
    def test_keyed_reduce_is_what_plain_python_says(self) -> None:
        @few
        @given(exchanges(st.tuples(keys, st.integers(-100, 100))))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case

            def times(a: Any, b: Any) -> Any:
                return a * b

            for reducer, function in (("sum", python_operator.add), (max, max), (times, times)):
                expected: dict[Any, Any] = {}
                for key, value in everything(feeds):
                    expected[key] = function(expected[key], value) if key in expected else value
                got = self.once("keyed_reduce", sources, targets, feeds, reducer=reducer)
                pairs = [(target, pair) for target, items in got.items() for pair in flat(items)]
                assert all(task_of_key(key, len(targets)) == target for target, (key, _) in pairs)
                assert len(pairs) == len(expected), "a key came twice, or not at all"
                assert dict(pair for _, pair in pairs) == expected

        check()

    @needs("count_by_value")
    def test_counts_are_those_of_counter(self) -> None:
        @few
        @given(exchanges(keys))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            got = self.once("count_by_value", sources, targets, feeds)
            pairs = [pair for items in got.values() for pair in flat(items)]
            assert len(pairs) == len(dict(pairs))
            assert dict(pairs) == Counter(everything(feeds))

        check()

    @needs("keyed_reduce")
    def test_awkward_keys(self) -> None:
        nan = float("nan")
        pairs = [(None, 1), (nan, 1), (float("nan"), 1), (1, 1), (1.0, 1), (True, 1), (numpy.int64(1), 1), ("", 1)]
        got = self.once("keyed_reduce", (0, 1), (0, 1), [[pairs], [pairs]], reducer="sum")
        found = {repr(key): value for items in got.values() for key, value in flat(items)}
        assert found == {"None": 2, "nan": 4, "1": 8, "''": 2} or found.get("nan") == 4
        assert sum(found.values()) == 16
        for bad in ([1], {}, object()):
            with pytest.raises(KeyHashError) as caught:
                self.once("keyed_reduce", (0, 1), (0, 1), [[[(1, 1)], [(bad, 1)]], []], reducer="sum")
            assert caught.value.remedy

    @needs("keyed_reduce")
    def test_records_that_are_no_pairs_are_refused(self) -> None:
        for bad in (7, "ab", None, (1, 2, 3)):
            with pytest.raises(OperatorError) as caught:
                self.once("keyed_reduce", (0,), (0,), [[[bad]]], reducer="sum")
            assert repr(bad) in str(caught.value)

    # -- one value -------------------------------------------------------------------------------------------------

    @needs("allreduce")
    def test_allreduce_is_the_same_everywhere(self) -> None:
        @few
        @given(exchanges(st.floats(-1e6, 1e6)))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            runs = self.run(
                Exchange(
                    name="allreduce", sources=sources, targets=targets, feeds=feeds, options={"reducer": "sum"}, runs=2
                )
            )
            answers = [flat(items) for received in runs for items in received.values()]
            assert all(answer == answers[0] for answer in answers), "the answer differs between targets or runs"
            values = everything(feeds)
            assert answers[0] == ([pytest.approx(sum(values), rel=1e-9, abs=1e-6)] if values else [])

        check()

    @needs("reduce")
    def test_reduce_with_and_without_records(self) -> None:
        feeds: list[Any] = [[[3, 1]], [], [[4], []]]
        assert flat(self.once("reduce", (0, 1, 2), (1,), feeds, reducer=max)[0]) == [4]
        assert flat(self.once("reduce", (0, 1, 2), (1,), feeds, reducer="sum", initial=100)[0]) == [108]
        assert flat(self.once("reduce", (0, 1), (0,), [[], []], reducer="sum")[0]) == []
        assert flat(self.once("reduce", (0, 1), (0,), [[], []], reducer="sum", initial=5)[0]) == [5]

    # -- forms of batch --------------------------------------------------------------------------------------------

    @needs("partition", "arrays")
    def test_arrays_arrive_as_arrays(self) -> None:
        arrays = [numpy.arange(start, start + 30, dtype="i4") for start in (-15, 0, 1 << 30)]
        for partitioner in ("hash", "round_robin"):
            feeds = [[array.copy() for array in arrays], [arrays[0].copy()]]
            got = self.once("partition", (0, 1), (0, 1), feeds, partitioner=partitioner)
            parts = [batch for items in got.values() for batch in batches(items)]
            assert all(part.dtype == numpy.dtype("i4") for part in parts)
            assert sorted(numpy.concatenate(parts)) == sorted(numpy.concatenate([*arrays, arrays[0]]))
            if partitioner == "hash":
                for target, items in got.items():
                    assert all(task_of_key(int(value), 2) == target for value in flat(items))
        rows = numpy.arange(40.0).reshape(20, 2)
        got = self.once("partition", (0,), (0, 1), [[rows.copy()]], partitioner=lambda row, n: int(row[0]) % 4 // 2)
        assert sorted(numpy.concatenate([b for i in got.values() for b in batches(i)]).tolist()) == rows.tolist()

    @needs("partition", "arrays")
    def test_an_array_changed_after_it_was_sent_changes_nothing(self) -> None:
        sent: list[Any] = []

        def change() -> None:
            for array in sent:
                try:
                    array[:] = -1
                except ValueError:
                    continue  # read-only now: that is one way to keep the promise

        class Feed(list[Any]):
            def __iter__(self) -> Any:
                for start in range(0, 60, 10):
                    array = numpy.arange(start, start + 10)
                    sent.append(array)
                    yield array

        for targets in ((0,), (1,)):
            sent.clear()
            received: list[Any] = []

            def worker(env: LocalEnv, targets: Any = targets, received: list[Any] = received) -> None:
                exchange = Exchange(name="partition", sources=(0,), targets=targets, feeds=[Feed()])
                with env.network.step("exchange") as step:
                    operator = self.make_operators().create(context_of(exchange, env, step))
                    if env.worker_id == 0:
                        for array in Feed():
                            while not operator.send(0, array):
                                operator.progress()
                                env.network.progress()
                            change()
                    got = drive(operator, env, attrs.evolve(exchange, feeds=[[]]))
                    operator.close()
                for items in got.values():
                    received += flat(items)

            LocalCluster(2, self.transport, deadline_s=self.deadline_s).run(worker)
            assert sorted(map(int, received)) == list(range(60))

    @needs("partition", "arrow")
    def test_arrow_batches_arrive_as_arrow_batches(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        table = {"key": [f"k{number % 7}" for number in range(50)], "value": list(range(50))}
        whole = pyarrow.RecordBatch.from_pydict(table)
        feeds = [[whole.slice(0, 20)], [whole.slice(20)]]
        got = self.once("partition", (0, 1), (0, 1), feeds, partitioner="hash", columns=("key",))
        for target, items in got.items():
            for batch in batches(items):
                assert batch.schema == whole.schema
                assert all(task_of_key(key, 2) == target for key in batch.column("key").to_pylist())
        found = sorted((row for items in got.values() for row in flat(items)), key=lambda row: row["value"])
        assert found == whole.to_pylist()

    # -- life ------------------------------------------------------------------------------------------------------

    @needs("partition")
    def test_a_clogged_target_makes_its_sources_wait(self) -> None:
        """A target that takes nothing must make ``send`` refuse, and nothing may be lost when it wakes."""
        count = 400
        refused = [0, 0]

        def worker(env: LocalEnv) -> list[Any]:
            exchange = Exchange(name="partition", sources=(0,), targets=(1,), feeds=[[]])
            with env.network.step("exchange") as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                if env.worker_id == 0:
                    self._stuff(operator, env, count, refused)
                else:
                    env.network.wait_until(lambda: refused[0] > 0, "the source to be refused", self.deadline_s / 2)
                got = drive(operator, env, exchange)
                operator.close()
                return flat(got.get(0, []))

        results = LocalCluster(2, self.transport, deadline_s=self.deadline_s).run(worker)
        assert refused[0] > 0
        assert refused[1] < count // 2, "most batches were taken although nobody received any"
        assert results[1] == [number for number in range(count) for _ in range(1000)]

    def _stuff(self, operator: Any, env: LocalEnv, count: int, refused: list[int]) -> None:
        number = 0

        def more() -> bool:
            nonlocal number
            while number < count and operator.send(0, [number] * 1000):
                number += 1
            if number < count and not refused[0]:
                refused[1] = number
                # only a refusal that lasts counts: credit may be on its way
                for _ in range(50):
                    operator.progress()
                    env.network.progress()
                if operator.send(0, [number] * 1000):
                    number += 1
                else:
                    refused[0] = 1
            operator.progress()
            return number == count

        env.network.wait_until(more, "room")

    def test_reset_and_use_again(self) -> None:
        cases: list[tuple[str, dict[str, Any], Callable[[dict[int, list[Item]]], Any], Any]] = [
            ("partition", {}, lambda got: sorted(flat(got[0]) + flat(got[1])), sorted([*range(60), *range(50)])),
            ("allreduce", {"reducer": "sum"}, lambda got: [flat(got[0]), flat(got[1])], [[2995], [2995]]),
            ("count_by_value", {}, lambda got: sum(count for _, count in flat(got[0]) + flat(got[1])), 110),
            ("broadcast", {}, lambda got: [sorted(flat(got[1]))], [sorted([*range(60), *range(50)])]),
        ]
        tried = 0
        for name, options, look, expected in cases:
            if not self.capabilities.is_open(name):
                continue
            tried += 1
            feeds = [[list(range(60))], [list(range(50))]]
            exchange = Exchange(name=name, sources=(0, 1), targets=(0, 1), feeds=feeds, options=options, runs=3)
            for received in self.run(exchange):
                assert look(received) == expected, f"{name} gave another answer when used again"
        if not tried:
            pytest.skip("capability partition, allreduce, count_by_value, broadcast: none is open")

    @needs("partition")
    def test_close_in_the_middle(self) -> None:
        def worker(env: LocalEnv) -> int:
            exchange = Exchange(name="partition", sources=(0, 1), targets=(0, 1), feeds=[[], []])
            with env.network.step("exchange") as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                operator.send(env.worker_id, list(range(100)))
                operator.progress()
                operator.close()
                operator.close()
            env.barrier()
            return env.memory.use().reserved

        assert LocalCluster(2, self.transport, deadline_s=self.deadline_s).run(worker) == [0, 0]

    @needs("partition")
    def test_marks_are_aligned_and_stay_in_place(self) -> None:
        def feed(source: int, delay: int) -> list[Any]:
            before = [[("before", source, number)] for number in range(10 + delay)]
            return [*before, Mark(HeaderKind.BARRIER, 7), *[[("after", source, number)] for number in range(10)]]

        feeds = [feed(0, 0), feed(1, 60), feed(2, 5)]
        got = self.once("partition", (0, 1, 1), (0, 1), feeds, partitioner="round_robin")
        for items in got.values():
            at = [index for index, item in enumerate(items) if item.kind == HeaderKind.BARRIER]
            assert len(at) == 1, "a target gets one barrier, once it has come from all sources"
            assert items[at[0]].value == 7
            assert {record[0] for record in flat(items[: at[0]])} == {"before"}
            assert {record[0] for record in flat(items[at[0] :])} == {"after"}
        marks = [Mark(HeaderKind.WATERMARK, 5), Mark(HeaderKind.WATERMARK, 20)]
        got = self.once("partition", (0, 1), (0, 1), [marks, [Mark(HeaderKind.WATERMARK, 10)]])
        for items in got.values():
            seen = [item.value for item in items if item.kind == HeaderKind.WATERMARK]
            assert seen == sorted(set(seen)), "watermarks go forward"
            assert set(seen) <= {5, 10, 20}
            assert seen

    # -- user functions --------------------------------------------------------------------------------------------

    def test_a_user_function_that_raises_names_the_record(self) -> None:
        def picky(*values: Any) -> Any:
            if "poison" in str(values):
                raise ZeroDivisionError("no poison please")
            return 0 if isinstance(values[-1], int) else values[0]

        cases: dict[str, tuple[dict[str, Any], list[Any]]] = {
            "partition": ({"partitioner": picky}, ["good", "poison", "good"]),
            "keyed_reduce": ({"reducer": picky}, [("k", "good"), ("k", "poison"), ("k", "good")]),
            "reduce": ({"reducer": picky}, ["good", "good", "poison"]),
        }
        for name, (options, batch) in cases.items():
            if not self.capabilities.is_open(name):
                continue
            with pytest.raises(UserCodeError) as caught:
                self.once(name, (0, 1), (0,), [[batch], [["good"]] if name != "keyed_reduce" else []], **options)
            error: Twister2Error = caught.value
            assert "poison" in str(error), f"{name} does not name the record"
            assert "ZeroDivisionError" in error.details["traceback"]
            assert "picky" in error.details["traceback"]


def suite_tests(suite: type[OperatorSuite]) -> dict[str, Callable[[OperatorSuite], None]]:
    """The test methods of a suite, by name."""
    names = [name for name in dir(suite) if name.startswith("test_")]
    return {name: getattr(suite, name) for name in names}


__all__ = ["OperatorSuite", "OpsCapabilities", "suite_tests"]
