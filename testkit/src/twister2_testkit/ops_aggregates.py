"""The part of the operator suite about aggregate, held against plain Python."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import KeyHashError, OperatorError, UserCodeError
from twister2_testkit.capabilities import needs
from twister2_testkit.ops_alike import AlikeChecks, whole
from twister2_testkit.ops_base import bag, everything, feeds_of, few, placements
from twister2_testkit.ops_drive import Exchange, Mark, flat

if TYPE_CHECKING:
    from collections.abc import Callable

_NAN = float("nan")
_pairs = st.tuples(st.integers(-4, 4), st.sampled_from("abcd"))


class AggregateChecks(AlikeChecks):
    """What aggregate does."""

    # -- aggregate -------------------------------------------------------------------------------------------------

    @needs("aggregate")
    def test_aggregates_by_functions_are_those_of_plain_python(self) -> None:
        options = {
            "zero": list, "add": lambda state, value: [*state, value], "merge": lambda one, other: one + other,
            "result": sorted,
        }  # fmt: skip

        @few
        @given(placements(), placements(), st.data())
        def check(sources: Any, targets: Any, data: Any) -> None:
            feeds = data.draw(feeds_of(_pairs, len(sources)))
            records = everything(feeds)
            got = self.once("aggregate", sources, targets, feeds, **options)
            assert [flat(items) for items in got.values()] == [[sorted(records)]] * len(targets)
            groups: dict[Any, list[Any]] = defaultdict(list)
            for key, value in records:
                groups[key].append(value)
            expected = {key: sorted(values) for key, values in groups.items()}
            found = whole(self.once("aggregate", sources, targets, feeds, pairs=True, **options))
            assert len(found) == len(expected)
            assert dict(found) == expected
            found = whole(self.once("aggregate", sources, targets, feeds, key=lambda pair: pair[0], aggregates="count"))
            assert dict(found) == {key: len(values) for key, values in groups.items()}

        check()

    @needs("aggregate")
    def test_aggregates_by_name_are_those_of_plain_python(self) -> None:
        @few
        @given(placements(), placements(), st.data())
        def check(sources: Any, targets: Any, data: Any) -> None:
            feeds = data.draw(feeds_of(st.integers(-1000, 1000), len(sources)))
            values = everything(feeds)
            for name, function in _BY_NAME.items():
                got = self.once("aggregate", sources, targets, feeds, aggregates=name)
                for items in got.values():
                    (result,) = flat(items)
                    assert _close(result, function(values)), (name, result)

        check()

    @needs("aggregate", "arrow", "arrays")
    def test_aggregates_of_columns_are_those_of_plain_python(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        parts_of = [(f"{column} {name}", column, name) for column in "vw" for name in _BY_NAME]
        asked: dict[str, Any] = {name: (column, function) for name, column, function in parts_of} | {"rows": "count"}

        @few
        @given(placements(), placements(), st.integers(0, 2**32), st.sampled_from(["list", "arrow", "array"]))
        def check(sources: Any, targets: Any, seed: int, form: str) -> None:
            chance = numpy.random.default_rng(seed)
            n = 60 * len(sources)
            k, t = chance.integers(0, 5, n), chance.integers(0, 3, n).astype("U1")
            v, w = chance.integers(-9, 9, n), chance.normal(size=n)
            rows = [
                dict(zip("ktvw", row, strict=True)) for row in zip(*(one.tolist() for one in (k, t, v, w)), strict=True)
            ]
            feeds: list[list[Any]] = []
            for start in range(0, n, 60):
                parts = [slice(start, start + 25), slice(start + 25, start + 60)]
                if form == "list":
                    feeds.append([rows[part] for part in parts])
                elif form == "arrow":
                    feeds.append([pyarrow.RecordBatch.from_pydict(
                        {"k": k[part], "t": t[part], "v": v[part], "w": w[part]}) for part in parts])  # fmt: skip
                else:
                    array = numpy.zeros(n, [("k", "i4"), ("t", "U1"), ("v", "i8"), ("w", "f8")])
                    array["k"], array["t"], array["v"], array["w"] = k, t, v, w
                    feeds.append([array[part].copy() for part in parts])
            for key in (["k"], ["k", "t"]):
                got = self.once("aggregate", sources, targets, feeds, key=key, aggregates=asked)
                found = [_row(row) for row in whole(got)]
                groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
                for row in rows:
                    groups[tuple(row[name] for name in key)].append(row)
                assert len(found) == len(groups)
                for row in found:
                    members = groups[tuple(row[name] for name in key)]
                    assert row["rows"] == len(members)
                    for name, column, function in parts_of:
                        expected = _BY_NAME[function]([member[column] for member in members])
                        assert _close(row[name], expected), (form, name)
            (result,) = flat(self.once("aggregate", sources, targets[:1], feeds, aggregates=asked)[0])
            assert result["rows"] == n
            assert _close(result["w variance"], _BY_NAME["variance"](w.tolist()))

        check()

    @needs("aggregate", "arrow")
    def test_aggregates_of_awkward_columns(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        large = pyarrow.RecordBatch.from_pydict({"k": [1, 1, 1, 2], "v": [2**62, 2**62, -(2**62), 5]})
        options: dict[str, Any] = {"key": "k", "aggregates": {"s": ("v", "sum")}}
        got = whole(self.once("aggregate", (0, 1), (0, 1), [[large], [large.slice(2)]], **options))
        assert sorted((row["k"], row["s"]) for row in got) == [(1, 0), (2, 10)]
        with pytest.raises(OperatorError, match="64 bits"):
            self.once("aggregate", (0, 1), (0,), [[large], [large]], **options)
        holes = pyarrow.RecordBatch.from_pydict(
            {"k": [None, _NAN, None, _NAN, 0.0, -0.0], "v": [1.0, None, _NAN, None, 3.0, 4.0]}
        )
        asked = {"n": ("v", "count"), "lo": ("v", "min"), "s": ("v", "sum"), "m": ("v", "mean"), "rows": "count"}
        got = whole(self.once("aggregate", (0, 1), (0, 1), [[holes], [holes]], key="k", aggregates=asked))
        found = {repr(row["k"]): [row[name] for name in asked] for row in got}
        assert found["0.0"] == [4, 3.0, 14.0, 3.5, 4]
        assert found["nan"] == [0, None, 0.0, None, 4]
        assert found["None"][0] == 4
        assert found["None"][1] == 1.0
        assert math.isnan(found["None"][2])
        assert len(found) == 3
        with pytest.raises(OperatorError, match="absent"):
            self.once("aggregate", (0,), (0,), [[holes]], key="k", aggregates={"s": ("absent", "sum")})
        texts = pyarrow.RecordBatch.from_pydict({"k": [1], "v": ["a"]})
        with pytest.raises(OperatorError):
            self.once("aggregate", (0,), (0,), [[texts]], key="k", aggregates={"s": ("v", "mean")})

    @needs("aggregate")
    def test_aggregates_of_nothing_and_of_what_has_none(self) -> None:
        for name, expected in (("sum", 0), ("count", 0), ("min", None), ("mean", None), ("variance", None)):
            got = self.once("aggregate", (0, 1), (0, 1), [[], [[]]], aggregates=name)
            assert [flat(items) for items in got.values()] == [[expected]] * 2
        assert whole(self.once("aggregate", (0, 1), (0, 1), [[], []], aggregates="sum", pairs=True)) == []
        plain = {"zero": 0, "merge": lambda one, other: one + other}
        with pytest.raises(OperatorError, match="returned None"):
            self.once("aggregate", (0,), (0,), [[[1, 2]]], add=lambda state, value: None, **plain)
        with pytest.raises(UserCodeError, match="ZeroDivisionError"):
            self.once("aggregate", (0,), (0,), [[[1, 0]]], add=lambda state, value: state + 1 / value, **plain)
        with pytest.raises(OperatorError):
            self.once("aggregate", (0,), (0,), [[[1, "a"]]], aggregates="sum")
        with pytest.raises(OperatorError):
            self.once("aggregate", (0,), (0,), [[[1, 2]]], aggregates="sum", pairs=True)
        with pytest.raises(KeyHashError):
            self.once("aggregate", (0,), (0,), [[[([], 2)]]], aggregates="sum", pairs=True)
        wrong: list[dict[str, Any]] = [
            {}, {"zero": 0}, {"aggregates": "mode"}, {"aggregates": {}}, {"aggregates": "sum", "zero": 1},
        ]  # fmt: skip
        for options in wrong:
            with pytest.raises(OperatorError):
                self.once("aggregate", (0,), (0,), [[]], **options)

    @needs("aggregate", "spills", "arrow")
    def test_aggregates_of_more_than_memory(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        pairs = [[[(f"key {number * 7919 % 6_000}", 1) for number in range(start, start + 500)]
                  for start in range(0, 8_000, 500)] for _ in range(2)]  # fmt: skip
        exchange = Exchange(
            name="aggregate", sources=(0, 1), targets=(0, 1), feeds=pairs, options={"pairs": True, "aggregates": "sum"}
        )
        self.held_alike(exchange, lambda got: {target: bag(records) for target, records in got.items()})
        tables = [[pyarrow.RecordBatch.from_pydict(
            {"k": [number * 7919 % 12_000 for number in range(start, start + 1000)], "v": [1.0] * 1000})
            for start in range(0, 24_000, 1000)] for _ in range(2)]  # fmt: skip
        asked = {"s": ("v", "sum"), "n": "count", "q": ("v", "variance")}
        exchange = attrs.evolve(exchange, feeds=tables, options={"key": "k", "aggregates": asked})
        self.held_alike(exchange, lambda got: {target: bag(records) for target, records in got.items()})

    @needs("aggregate", "streams")
    def test_aggregates_of_streams_are_made_at_flush_marks(self) -> None:
        flush = Mark(HeaderKind.FLUSH, 1)
        feeds = [[[3, 9, 1], flush, [2]], [[8, 0], flush, [7, 1]]]
        exchange = Exchange(
            name="aggregate", sources=(0, 1), targets=(0, 1), feeds=feeds, mode="stream", options={"aggregates": "sum"},
        )  # fmt: skip
        for items in self.run(exchange)[0].values():
            cut = [item.kind for item in items].index(HeaderKind.FLUSH)
            assert [flat(items[:cut]), flat(items[cut:])] == [[21], [10]]


_BY_NAME: dict[str, Callable[[list[Any]], Any]] = {
    "sum": sum,
    "count": len,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "mean": lambda values: statistics.fmean(values) if values else None,
    "variance": lambda values: statistics.pvariance(values) if values else None,
    "std": lambda values: statistics.pstdev(values) if values else None,
}


def _close(found: Any, expected: Any) -> bool:
    if expected is None or found is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


def _row(row: Any) -> dict[str, Any]:
    return row if isinstance(row, dict) else dict(zip(row.dtype.names, row.item(), strict=True))
