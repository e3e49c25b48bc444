"""The part of the operator suite about co_group, cross, zip and number, held against plain Python."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.errors import OperatorError, UserCodeError
from twister2_testkit.capabilities import needs
from twister2_testkit.ops_alike import SMALL, AlikeChecks, whole
from twister2_testkit.ops_base import bag, everything, feeds_of, few, placements
from twister2_testkit.ops_drive import Exchange, flat

if TYPE_CHECKING:
    from collections.abc import Sequence

_pairs = st.tuples(st.integers(-4, 4), st.sampled_from("abcd"))
_SIDES = ("left", "right")


class SetChecks(AlikeChecks):
    """What operators of several inputs do, and number."""

    def two(self, name: str, sides: Any, feeds: Any, targets: Sequence[int], **options: Any) -> Any:
        """Run an operator of two inputs."""
        exchange = Exchange(
            name=name, sources=tuple(sides[0]) + tuple(sides[1]), targets=tuple(targets),
            feeds=[*feeds[0], *feeds[1]], options=options, inputs=(len(sides[0]), len(sides[1])),
        )  # fmt: skip
        return self.run(exchange)[0]

    # -- co_group --------------------------------------------------------------------------------------------------

    @needs("co_group")
    def test_co_groups_are_those_of_plain_python(self) -> None:
        @few
        @given(st.lists(placements(most=2), min_size=1, max_size=3), placements(), st.data())
        def check(sides: Any, targets: Any, data: Any) -> None:
            feeds = [data.draw(feeds_of(_pairs, len(side))) for side in sides]
            exchange = Exchange(
                name="co_group", sources=tuple(worker for side in sides for worker in side), targets=targets,
                feeds=[feed for some in feeds for feed in some], inputs=tuple(map(len, sides)),
            )  # fmt: skip
            got = [(key, tuple(sorted(values) for values in groups)) for key, groups in whole(self.run(exchange)[0])]
            expected: dict[Any, tuple[list[Any], ...]] = defaultdict(lambda: tuple([] for _ in sides))
            for number, some in enumerate(feeds):
                for key, value in everything(some):
                    expected[key][number].append(value)
            assert sorted(got) == sorted((key, tuple(map(sorted, groups))) for key, groups in expected.items())

        check()

    @needs("co_group")
    def test_co_groups_by_functions_and_names(self) -> None:
        sides = [[[[{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]]], [[["xx", "y", "zz"]]]]
        got = dict(whole(self.two("co_group", ((0,), (1,)), sides, (0, 1), keys=["id", len])))
        assert got == {1: ([{"id": 1, "v": "a"}], ["y"]), 2: ([{"id": 2, "v": "b"}], ["xx", "zz"])}
        with pytest.raises(OperatorError):
            self.two("co_group", ((0,), (1,)), sides, (0,), keys=[len])
        with pytest.raises(UserCodeError):
            self.two("co_group", ((0,), (1,)), [[[[1]]], [[]]], (0,), key=len)

    @needs("co_group", "spills")
    def test_co_groups_of_more_than_memory(self) -> None:
        feeds = [[[(number * 7919 % 2_000, f"{side} {number}") for number in range(start, start + 100)]
                  for start in range(0, 5_000, 100)] for side in range(3)]  # fmt: skip
        exchange = Exchange(
            name="co_group", sources=(0, 1, 0), targets=(0, 1), feeds=feeds, inputs=(1, 1, 1),
        )  # fmt: skip
        self.held_alike(
            exchange,
            lambda got: {
                target: bag([(key, tuple(map(list, groups))) for key, groups in records])
                for target, records in got.items()
            },
        )

    # -- cross -----------------------------------------------------------------------------------------------------

    @needs("cross")
    def test_crosses_are_those_of_plain_python(self) -> None:
        @few
        @given(
            placements(most=2), placements(most=3), placements(), st.sampled_from(["auto", "left", "right"]), st.data()
        )
        def check(left: Any, right: Any, targets: Any, broadcast: str, data: Any) -> None:
            feeds = [data.draw(feeds_of(st.integers(0, 9), len(side))) for side in (left, right)]
            got = whole(self.two("cross", (left, right), feeds, targets, broadcast=broadcast))
            expected = [(one, other) for one in everything(feeds[0]) for other in everything(feeds[1])]
            assert bag(got) == bag(expected)

        check()

    @needs("cross", "spills")
    def test_crosses_of_more_than_memory(self) -> None:
        left = [[f"left {number} {'l' * 200}" for number in range(start, start + 100)] for start in range(0, 3000, 100)]
        right = [[f"right {number} {'r' * 90_000}" for number in (start, start + 1)] for start in range(0, 6, 2)]
        exchange = Exchange(name="cross", sources=(0, 1), targets=(0, 1), feeds=[left, right], inputs=(1, 1))
        self.held_alike(
            exchange, lambda got: bag([(one[:12], other[:12]) for some in got.values() for one, other in some])
        )

    @needs("cross")
    def test_crosses_need_two_inputs(self) -> None:
        with pytest.raises(OperatorError, match="two"):
            self.once("cross", (0,), (0,), [[]])
        with pytest.raises(OperatorError):
            self.two("cross", ((0,), (0,)), ([[]], [[]]), (0,), broadcast="both")

    # -- zip -------------------------------------------------------------------------------------------------------

    @needs("zip")
    def test_zips_are_those_of_plain_python(self) -> None:
        @few
        @given(st.integers(1, 4), st.data())
        def check(n: int, data: Any) -> None:
            left, right, targets = (data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)) for _ in range(3))
            feeds = data.draw(feeds_of(st.integers(), n))
            others = [[[record + 1] for batch in feed for record in batch] for feed in feeds]  # one by one
            got = self.two("zip", (left, right), (feeds, others), targets)
            for target in range(n):
                assert flat(got[target]) == [(record, record + 1) for batch in feeds[target] for record in batch]

        check()
        sides = [[[list(range(first, first + 50))] for first in (0, 100)], [[[f"{n}"] for n in range(50)]] * 2]
        got = self.two("zip", ((0, 1), (1, 0)), sides, (0, 1))
        assert [flat(got[target]) for target in (0, 1)] == [
            [(first + n, f"{n}") for n in range(50)] for first in (0, 100)
        ]

    @needs("zip")
    def test_zips_of_different_lengths_name_both(self) -> None:
        with pytest.raises(OperatorError) as caught:
            self.two("zip", ((0, 1), (1, 0)), ([[[1]], [[1, 2], [3]]], [[[1]], [[4] * 5]]), (0, 1))
        assert " 3 " in str(caught.value)
        assert " 5 " in str(caught.value)
        for sides, targets in ((((0,), (0, 1)), (0,)), (((0,), (0,)), (0, 0))):
            feeds: Any = [[[]] * len(side) for side in sides]
            with pytest.raises(OperatorError):
                self.two("zip", sides, feeds, targets)

    @needs("zip", "spills")
    def test_zips_of_more_than_memory(self) -> None:
        left = [[f"left {number} {'l' * 90}" for number in range(start, start + 100)] for start in range(0, 9000, 100)]
        right: list[Any] = [[number] * 1000 for number in range(9)]
        feeds: list[Any] = [left, right]
        exchange = Exchange(name="zip", sources=(0, 1), targets=(1,), feeds=feeds, inputs=(1, 1))
        got, _, after = self.held(attrs.evolve(exchange, memory_bytes=SMALL))
        assert got[0] == list(zip(everything([left]), everything([feeds[1]]), strict=True))
        assert all(use.reserved == 0 for use in after)

    # -- number ----------------------------------------------------------------------------------------------------

    @needs("number")
    def test_numbers_count_on_from_source_to_source(self) -> None:
        @few
        @given(st.integers(1, 4), st.integers(-3, 10), st.data())
        def check(n: int, start: int, data: Any) -> None:
            sources, targets = (data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)) for _ in range(2))
            feeds = data.draw(feeds_of(st.text(max_size=2), n))
            got = self.once("number", sources, targets, feeds, start=start)
            assert whole(got) == list(enumerate(everything(feeds), start))
            assert [len(flat(got[target])) for target in range(n)] == [sum(map(len, feed)) for feed in feeds]

        check()
        with pytest.raises(OperatorError):
            self.once("number", (0,), (0,), [[]], start="a")

    @needs("number", "spills")
    def test_numbers_of_more_than_memory(self) -> None:
        feeds = [[[f"record {number} {'n' * 60}" for number in range(start, start + 500)]
                  for start in range(0, 6_000, 500)] for _ in range(2)]  # fmt: skip
        self.held_alike(Exchange(name="number", sources=(0, 1), targets=(1, 0), feeds=feeds), dict)
