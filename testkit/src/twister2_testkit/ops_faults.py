"""The part of the operator suite about bad input: keys, reducers and shapes of data that operators must live with."""

from __future__ import annotations

from typing import Any

import pytest

from twister2.spec.errors import KeyHashError, OperatorError, Twister2Error, UserCodeError
from twister2_testkit.capabilities import needs
from twister2_testkit.ops_base import OperatorChecks
from twister2_testkit.ops_drive import Exchange, flat

_GIANT = 100_000_000
"""Characters of a key, and bytes."""


class FaultChecks(OperatorChecks):
    """A clear error or the right answer; never a hang."""

    @needs("keyed_reduce")
    def test_fault_all_records_to_one_key_and_none_on_some_sources(self) -> None:
        feeds: list[Any] = [[[("k", 1)] * 5000] * 3, [], [[]]]
        got = self.once("keyed_reduce", (0, 1, 2), (0, 1, 2), feeds, reducer="sum")
        assert [pair for items in got.values() for pair in flat(items)] == [("k", 15000)]

    @needs("keyed_reduce", "keyed_partition")
    def test_fault_a_giant_key(self) -> None:
        key = "k" * _GIANT
        pairs = [(key, 1), ("small", 1)]
        got = self.once("keyed_reduce", (0, 1), (0, 1), [[pairs], [pairs]], reducer="sum")
        assert sorted(value for items in got.values() for _, value in flat(items)) == [2, 2]
        got = self.once("keyed_partition", (0, 1), (0, 1), [[pairs], [pairs]])
        assert sorted(len(one) for items in got.values() for one, _ in flat(items)) == [5, 5, _GIANT, _GIANT]

    @needs("join")
    def test_fault_a_giant_key_in_a_join(self) -> None:
        key = "k" * _GIANT
        feeds = [[[(key, "left"), ("small", 1)]], [[(key, "right"), ("other", 2)]]]
        got = self.run(Exchange(name="join", sources=(0, 1), targets=(0, 1), feeds=feeds, inputs=(1, 1)))[0]
        found = [(len(one), both) for items in got.values() for one, both in flat(items)]
        assert found == [(_GIANT, ("left", "right"))]

    @needs("keyed_partition")
    def test_fault_mixed_and_awkward_keys_are_placed_alike(self) -> None:
        nan = float("nan")
        keys = [None, nan, 1, 1.0, True, "1", b"1", (1, None), 2**70, -0.0, 0]
        got = self.once(
            "keyed_partition", (0, 1), (0, 1, 1), [[[(key, 0) for key in keys]], [[(key, 1) for key in keys]]]
        )
        places: dict[str, set[int]] = {}
        for target, items in got.items():
            for key, _ in flat(items):
                places.setdefault("1" if key == 1 else "0" if key == 0 else repr(key), set()).add(target)
        assert all(len(where) == 1 for where in places.values()), places
        for bad in ([1], {}, object()):
            with pytest.raises(KeyHashError) as caught:
                self.once("keyed_partition", (0, 1), (0, 1), [[[(1, 1), (bad, 1)]], []])
            assert caught.value.remedy

    @needs("reduce", "keyed_reduce", "allreduce")
    def test_fault_a_reducer_that_returns_another_type(self) -> None:
        """Python lets it; what does not fit the next call is an error that names the operator, not a wrong answer."""

        def moody(left: Any, right: Any) -> Any:
            return str(left + right)

        for name, batch in (("reduce", [1, 2, 3]), ("allreduce", [1, 2, 3]), ("keyed_reduce", [(1, 1)] * 3)):
            with pytest.raises(UserCodeError) as caught:
                self.once(name, (0, 1), (0,), [[batch], []], reducer=moody)
            error: Twister2Error = caught.value
            assert name in str(error)
            assert "TypeError" in str(error)

    @needs("reduce")
    def test_fault_a_reducer_that_raises_while_workers_are_combined(self) -> None:
        def raising(left: Any, right: Any) -> Any:
            raise ZeroDivisionError("in the tree")

        with pytest.raises(UserCodeError) as caught:
            self.once("reduce", (0, 1, 2), (1,), [[[1]], [[2]], [[3]]], reducer=raising)
        assert "ZeroDivisionError" in str(caught.value)

    @needs("allreduce", "arrays")
    def test_fault_arrays_of_different_shapes(self) -> None:
        import numpy

        feeds = [[numpy.ones((2, 3))], [numpy.ones((2, 4))]]
        with pytest.raises((UserCodeError, OperatorError)) as caught:
            self.once("allreduce", (0, 1), (0, 1), feeds, reducer="sum")
        assert "allreduce" in str(caught.value)

    def test_fault_unknown_algorithms_are_refused(self) -> None:
        catalog = self.make_operators().catalog()
        for name, info in catalog.items():
            if "algorithm" not in info.options:
                continue
            required: dict[str, Any] = {option: "sum" for option, declared in info.options.items() if declared.required}
            with pytest.raises(OperatorError) as caught:
                self.once(name, (0,), (0,), [[]], **required, algorithm="no such")
            assert "no such" in str(caught.value)
            assert caught.value.remedy

    @needs("partition", "allreduce", "keyed_reduce")
    def test_fault_no_records_anywhere(self) -> None:
        cases: list[tuple[str, dict[str, Any]]] = [
            ("partition", {}),
            ("allreduce", {"reducer": "sum"}),
            ("keyed_reduce", {"reducer": "sum"}),
        ]
        for name, options in cases:
            for algorithm in ("", *self.algorithms.get(name, ())):
                more = {"algorithm": algorithm} if algorithm else {}
                got = self.once(name, (0, 2), (1, 2), [[[]], []], **options, **more)
                assert [flat(items) for items in got.values()] == [[], []]
