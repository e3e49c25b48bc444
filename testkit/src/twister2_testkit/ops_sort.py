"""The part of the operator suite about sort and distinct, held against plain Python."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import attrs
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import KeyHashError, OperatorError, UserCodeError
from twister2_testkit.capabilities import needs
from twister2_testkit.ops_alike import AlikeChecks, whole
from twister2_testkit.ops_base import bag, everything, feeds_of, few, keys, placements
from twister2_testkit.ops_drive import Exchange, Mark, batches, flat

_NAN = float("nan")
_pairs = st.tuples(st.integers(-4, 4), st.sampled_from("abcd"))


def compare_last(one: tuple[int, str], other: tuple[int, str]) -> int:
    """A comparator: by the second part, the largest first."""
    return (one[1] < other[1]) - (one[1] > other[1])


class SortChecks(AlikeChecks):
    """What sort and distinct do."""

    # -- sort ------------------------------------------------------------------------------------------------------

    @needs("sort")
    def test_sorted_as_python_sorts(self) -> None:
        @few
        @given(placements(), placements(), st.data())
        def check(sources: Any, targets: Any, data: Any) -> None:
            feeds = data.draw(feeds_of(_pairs, len(sources)))
            records = everything(feeds)

            def run(**options: Any) -> list[Any]:
                return whole(self.once("sort", sources, targets, feeds, **options))

            assert run() == sorted(records)
            assert run(descending=True) == sorted(records, reverse=True)
            first, last = (lambda pair: pair[0]), (lambda pair: pair[1])
            assert run(key=first) == sorted(records, key=first), "equal keys change their order"
            assert run(key=first, descending=True) == sorted(records, key=first, reverse=True)
            mixed = sorted(sorted(records, key=last, reverse=True), key=first)
            assert run(key=[first, last], descending=[False, True]) == mixed
            assert run(comparator=compare_last) == sorted(records, key=last, reverse=True)

        check()

    @needs("sort")
    def test_sorted_by_what_dicts_have(self) -> None:
        rows: list[dict[str, Any]] = [
            {"n": number * 7 % 5, "t": chr(97 + number % 3), "at": number} for number in range(60)
        ]
        feeds = [[rows[:20]], [rows[20:40], rows[40:]]]
        got = whole(self.once("sort", (0, 1), (0, 1), feeds, key=["t", "n"], descending=[True, False]))
        assert got == sorted(sorted(rows, key=lambda row: row["n"]), key=lambda row: row["t"], reverse=True)
        with pytest.raises(OperatorError, match="absent"):
            self.once("sort", (0,), (0,), feeds[:1], key="absent")

    @needs("sort")
    def test_what_is_missing_comes_last(self) -> None:
        feeds = [[[3.0, _NAN, None, -1.0]], [[None, 2.0, _NAN, 7.0]]]
        for descending, numbers in ((False, [-1.0, 2.0, 3.0, 7.0]), (True, [7.0, 3.0, 2.0, -1.0])):
            for targets in ((0,), (0, 1), (1, 0, 1)):
                got = whole(self.once("sort", (0, 1), targets, feeds, descending=descending))
                assert got[:4] == numbers
                assert [repr(record) for record in got[4:]] == ["nan", "nan", "None", "None"]

    @needs("sort", "arrays")
    def test_sorted_arrays_stay_arrays(self) -> None:
        chance = numpy.random.default_rng(5)
        cases: list[Any] = [
            chance.integers(-5, 5, 400), chance.integers(0, 250, 400).astype("u1"), chance.normal(size=400),
            chance.normal(size=400).astype("f4"), chance.integers(0, 2, 400).astype(bool),
            chance.integers(0, 999, 400).astype("M8[s]"), chance.integers(0, 99, 400).astype("S3"),
            chance.integers(0, 99, 400).astype("U3"), chance.integers(-9, 9, 400).astype(">i4"),
        ]  # fmt: skip
        for array in cases:
            for descending in (False, True):
                feeds = [[array[:100].copy(), array[100:150].copy()], [array[150:].copy()]]
                got = self.once("sort", (0, 1), (1, 0, 1), feeds, descending=descending)
                parts = [one for target in sorted(got) for one in batches(got[target])]
                assert all(part.dtype == array.dtype for part in parts)
                found = numpy.concatenate(parts)
                expected = sorted(array.tolist(), reverse=descending)
                assert found.tolist() == expected, (array.dtype, descending)

    @needs("sort", "arrays")
    def test_sorted_structures(self) -> None:
        chance = numpy.random.default_rng(6)
        array = numpy.zeros(500, [("k", "i4"), ("name", "S9"), ("at", "i8")])
        array["k"], array["at"] = chance.integers(-3, 3, 500), range(500)
        array["name"] = chance.integers(0, 30, 500).astype("S9")
        feeds = [[array[:200].copy()], [array[200:].copy()]]
        rows: list[Any] = array.tolist()
        for key, descending in ((["k"], [True]), (["name", "k"], [False, True]), (["k", "name"], [True, True])):
            got = self.once("sort", (0, 1), (0, 1, 0), feeds, key=key, descending=descending)
            expected = rows
            for name, down in reversed(list(zip(key, descending, strict=True))):
                expected = sorted(expected, key=itemgetter(["k", "name", "at"].index(name)), reverse=down)
            assert [row.item() for row in whole(got)] == expected
        with pytest.raises(OperatorError, match="absent"):
            self.once("sort", (0,), (0,), [[array[:5].copy()]], key="absent")

    @needs("sort", "arrow")
    def test_sorted_arrow_batches_stay_arrow(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        compute = pytest.importorskip("pyarrow.compute")
        chance = numpy.random.default_rng(7)
        n = 300
        table = pyarrow.RecordBatch.from_pydict(
            {
                "i": [None if one % 13 == 0 else one for one in chance.integers(-9, 30, n).tolist()],
                "f": [_NAN if one > 2 else one for one in chance.normal(size=n).tolist()],
                "s": pyarrow.array([f"t{one}" for one in chance.integers(0, 9, n)]).dictionary_encode(),
                "at": list(range(n)),
            }
        )
        feeds = [[table.slice(0, 100)], [table.slice(100, 50), table.slice(150)]]
        for key, down in ((["i"], [False]), (["i"], [True]), (["f", "i"], [False, True]), (["s", "i"], [True, False]),
                          (["s"], [False]), (["i", "s"], [False, True])):  # fmt: skip
            got = self.once("sort", (0, 1), (0, 1, 1), feeds, key=key, descending=down)
            parts = [part for target in sorted(got) for part in batches(got[target])]
            assert all(part.schema == table.schema for part in parts)
            found = [place for part in parts for place in part.column("at").to_pylist()]
            order = [(name, "descending" if one else "ascending") for name, one in zip(key, down, strict=True)]
            plain = pyarrow.table(
                {name: table.column(name) for name in ("i", "f")} | {"s": table.column("s").cast("string")}
            )
            assert found == compute.sort_indices(plain, sort_keys=order).to_pylist(), (key, down)

    @needs("sort")
    def test_records_without_an_order_are_a_clear_error(self) -> None:
        for targets in ((0,), (0, 1)):
            with pytest.raises(OperatorError, match="cannot be compared"):
                self.once("sort", (0,), targets, [[[1, "a", 2]]])
            with pytest.raises(UserCodeError, match="ZeroDivisionError"):
                self.once("sort", (0,), targets, [[[1, 0]]], key=lambda number: 1 / number)
            assert whole(self.once("sort", (0, 1), targets, [[], [[]]])) == []
        wrong: list[dict[str, Any]] = [{"key": 3}, {"descending": [True, False]}, {"comparator": 1}, {"key": []}]
        for options in wrong:
            with pytest.raises(OperatorError):
                self.once("sort", (0,), (0,), [[]], **options)
        with pytest.raises(OperatorError):
            self.once("sort", (0,), (0,), [[]], key=["a", "b"], descending=[True])

    @needs("sort", "spills")
    def test_sorting_more_than_memory(self) -> None:
        texts = [[[f"r {number * 7919 % 10_007} {side}" for number in range(start, start + 500)]
                  for start in range(0, 8_000, 500)] for side in range(2)]  # fmt: skip
        pairs = [[[(number * 31 % 40, f"{side} {number} {'x' * 40}") for number in range(start, start + 500)]
                  for start in range(0, 6_000, 500)] for side in range(2)]  # fmt: skip
        arrays = [[numpy.array([(number * 31 % 97, number, b"x" * 60) for number in range(start, start + 500)],
                               [("k", "i8"), ("at", "i8"), ("v", "S60")]) for start in range(0, 6_000, 500)]
                  for _ in range(2)]  # fmt: skip
        for feeds, options in (
            (texts, {}), (pairs, {"key": lambda pair: pair[0], "descending": True}),
            (pairs, {"comparator": compare_last}), (arrays, {"key": ["k", "at"], "descending": [True, False]}),
        ):  # fmt: skip
            exchange = Exchange(name="sort", sources=(0, 1), targets=(0, 1), feeds=feeds, options=options)
            self.held_alike(exchange, lambda got: [str(record) for target in sorted(got) for record in got[target]])

    @needs("sort", "streams")
    def test_streams_are_sorted_between_flush_marks(self) -> None:
        flush = Mark(HeaderKind.FLUSH, 1)
        feeds = [[[3, 9, 1], flush, [2]], [[8, 0], flush, [7, 1]]]
        exchange = Exchange(
            name="sort", sources=(0, 1), targets=(0, 1), feeds=feeds, mode="stream", options={"bounds": [5]},
        )  # fmt: skip
        got = self.run(exchange)[0]
        for target, expected in ((0, [[0, 1, 3], [1, 2]]), (1, [[8, 9], [7]])):
            kinds = [item.kind for item in got[target]]
            cut = kinds.index(HeaderKind.FLUSH)
            assert [flat(got[target][:cut]), flat(got[target][cut:])] == expected
        with pytest.raises(OperatorError):
            self.run(attrs.evolve(exchange, options={}))

    # -- distinct --------------------------------------------------------------------------------------------------

    @needs("distinct")
    def test_distinct_records_are_those_of_plain_python(self) -> None:
        @few
        @given(placements(), placements(), st.data())
        def check(sources: Any, targets: Any, data: Any) -> None:
            feeds = data.draw(feeds_of(st.one_of(keys, st.none()), len(sources)))
            got = whole(self.once("distinct", sources, targets, feeds))
            assert len(got) == len(set(got))
            assert set(got) == set(everything(feeds))
            feeds = data.draw(feeds_of(_pairs, len(sources)))
            got = whole(self.once("distinct", sources, targets, feeds, key=lambda pair: pair[0]))
            first: dict[int, Any] = {}
            for pair in everything(feeds):
                first.setdefault(pair[0], pair)
            assert bag(got) == bag(list(first.values())), "not the first of the first source"

        check()

    @needs("distinct")
    def test_distinct_awkward_records(self) -> None:
        got = whole(self.once("distinct", (0, 1), (0, 1), [[[_NAN, 1, None]], [[1.0, float("nan"), True, None]]]))
        assert sorted(map(repr, got)) == ["1", "None", "nan"]
        rows = [{"a": number % 3, "b": "x"} for number in range(20)]
        got = whole(self.once("distinct", (0, 1), (0, 1), [[rows], [rows]]))
        assert sorted(row["a"] for row in got) == [0, 1, 2]
        with pytest.raises(KeyHashError):
            self.once("distinct", (0,), (0, 1), [[[[1], [2]]]])

    @needs("distinct", "arrow", "arrays")
    def test_distinct_columns(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        chance = numpy.random.default_rng(3)
        a, b = chance.integers(0, 9, 500), [None if one == 3 else f"t{one}" for one in chance.integers(0, 5, 500)]
        table = pyarrow.RecordBatch.from_pydict({"a": a, "b": b})
        feeds: list[Any] = [[table.slice(0, 200)], [table.slice(200)]]
        got = whole(self.once("distinct", (0, 1), (0, 1, 1), feeds))
        assert bag(got) == bag([{"a": one, "b": two} for one, two in set(zip(a.tolist(), b, strict=True))])
        got = whole(self.once("distinct", (0, 1), (0, 1), feeds, key="b"))
        assert bag([row["b"] for row in got]) == bag(list(set(b)))
        feeds = [[a[:200].copy()], [a[200:].copy()]]
        assert sorted(whole(self.once("distinct", (0, 1), (0, 1), feeds))) == sorted(set(a.tolist()))
        array = numpy.zeros(500, [("a", "i4"), ("at", "i8")])
        array["a"], array["at"] = a, range(500)
        feeds = [[array[:200].copy()], [array[200:].copy()]]
        got = whole(self.once("distinct", (0, 1), (0, 1), feeds, key="a"))
        first: dict[int, int] = {}
        for one, at in array.tolist():
            first.setdefault(one, at)
        assert dict(row.item() for row in got) == first

    @needs("distinct", "spills")
    def test_distinct_records_of_more_than_memory(self) -> None:
        texts = [[[f"record {number * 7919 % 6_007} {'y' * 30}" for number in range(start, start + 500)]
                  for start in range(0, 8_000, 500)] for _ in range(2)]  # fmt: skip
        arrays = [[numpy.array([(number * 31 % 4001, number, b"x" * 60) for number in range(start, start + 500)],
                               [("k", "i8"), ("at", "i8"), ("v", "S60")]) for start in range(0, 8_000, 500)]
                  for _ in range(2)]  # fmt: skip
        for feeds, options in ((texts, {}), (arrays, {"key": "k"})):
            exchange = Exchange(name="distinct", sources=(0, 1), targets=(0, 1), feeds=feeds, options=options)
            self.held_alike(exchange, lambda got: {target: bag(list(map(str, got[target]))) for target in got})
