"""Conformance of communication operators: what every ``twister2.ops`` plugin must do.

A plugin's tests subclass :class:`OperatorSuite`::

    class TestNet(OperatorSuite):
        capabilities = OpsCapabilities(partition=True, keyed_reduce=True, why={"*": "..."})
        def make_operators(self):
            return NetPlugin().ops_create(config=NetConfig())

Test methods take no fixtures, so that they can be run against faulty operators (:mod:`twister2_testkit.mutants.ops`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy
import pytest

from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import OperatorError, Twister2Error, UserCodeError
from twister2.spec.hashing import task_of_key
from twister2.spec.ops import OperatorInfo
from twister2_testkit.capabilities import needs
from twister2_testkit.fakes import LocalCluster, LocalEnv
from twister2_testkit.ops_drive import Exchange, Mark, batches, context_of, drive, flat

if TYPE_CHECKING:
    from collections.abc import Callable


from twister2_testkit.ops_aggregates import AggregateChecks
from twister2_testkit.ops_base import OpsCapabilities
from twister2_testkit.ops_data import DataChecks
from twister2_testkit.ops_dtypes import DtypeChecks
from twister2_testkit.ops_faults import FaultChecks
from twister2_testkit.ops_keyed import KeyedChecks
from twister2_testkit.ops_life import LifeChecks
from twister2_testkit.ops_pressure import PressureChecks
from twister2_testkit.ops_sets import SetChecks
from twister2_testkit.ops_sort import SortChecks


class OperatorSuite(
    DataChecks,
    DtypeChecks,
    KeyedChecks,
    SortChecks,
    SetChecks,
    AggregateChecks,
    LifeChecks,
    PressureChecks,
    FaultChecks,
):
    """What operators must do."""

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
            if name not in ("arrays", "arrow", "ranges", "streams", "spills") and self.capabilities.is_open(name):
                assert name in catalog

    def test_wrong_names_and_options_are_refused(self) -> None:
        catalog = self.make_operators().catalog()

        def create(name: str, options: dict[str, Any]) -> None:
            with pytest.raises(OperatorError) as caught:
                self.once(name, (0,), (0,), [[]], **options)
            assert caught.value.remedy
            assert name in str(caught.value), "the error names the operator"

        create("no_such_operator", {})
        for name, info in catalog.items():
            required: dict[str, Any] = {option: "sum" for option, declared in info.options.items() if declared.required}
            create(name, {**required, "no_such_option": 1})
            if required:
                create(name, {})

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
        got = self.once("partition", (0, 1), (0, 1), feeds, partitioner="hash", key="key")
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
