"""The part of the operator suite about keyed_gather and join: what plain Python says, for any keys and placements."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import KeyHashError, OperatorError, UserCodeError
from twister2.spec.hashing import task_of_key
from twister2_testkit.capabilities import needs
from twister2_testkit.ops_base import OperatorChecks, bag, everything, feeds_of, few, keys, placements
from twister2_testkit.ops_drive import Exchange, Mark, batches, flat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOW = ("inner", "left", "right", "full", "semi", "anti")
_NAN = float("nan")
_pairs = st.tuples(st.one_of(keys, st.none(), st.just(_NAN), st.floats(-2, 2, width=16)), st.integers(0, 9))


def named(key: Any) -> Any:
    """A key as a key of a dict: all NaNs are one."""
    return "NaN" if key is not None and key != key else key


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """Values by key, in order."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for key, value in pairs:
        found[named(key)].append(value)
    return dict(found)


def joined(left: Iterable[tuple[Any, Any]], right: Iterable[tuple[Any, Any]], how: str) -> list[Any]:
    """What a join of pairs must give, in any order."""
    lefts, rights = grouped(left), grouped(right)
    found: list[Any] = []
    for key in {**lefts, **rights}:
        if how in ("semi", "anti"):
            found += [(key, one) for one in lefts.get(key, ()) if (key in rights) == (how == "semi")]
        elif key in lefts and key in rights:
            found += [(key, (one, other)) for one in lefts[key] for other in rights[key]]
        elif key in lefts and how in ("left", "full"):
            found += [(key, (one, None)) for one in lefts[key]]
        elif key in rights and how in ("right", "full"):
            found += [(key, (None, other)) for other in rights[key]]
    return found


def _named_all(records: Iterable[tuple[Any, Any]]) -> list[Any]:
    # equal keys may come back as another of them, 1 as 1.0 or True: values tell whether the right ones met
    return [(hash(named(key)), value) for key, value in records]


@st.composite
def _joins(draw: Any) -> tuple[Any, ...]:
    sides = [draw(placements(most=3)), draw(placements(most=3))]
    feeds = [draw(feeds_of(_pairs, len(side))) for side in sides]
    return sides, feeds, draw(placements()), draw(st.sampled_from(HOW))


class KeyedChecks(OperatorChecks):
    """What keyed_gather and join do."""

    def groups(self, got: Any) -> dict[Any, list[Any]]:
        """The groups of all targets, each key once, at the target of its hash."""
        found: dict[Any, list[Any]] = {}
        for target, items in got.items():
            for key, values in flat(items):
                assert task_of_key(key, len(got)) == target, f"{key!r} came to target {target}"
                assert named(key) not in found, f"{key!r} came twice"
                found[named(key)] = list(values)
                assert list(values) == found[named(key)], "values can be read once only"
                assert len(values) == len(found[named(key)])
        return found

    def join(self, sides: Any, feeds: Any, targets: Sequence[int], **options: Any) -> dict[int, list[Any]]:
        """Run a join; records by target."""
        exchange = Exchange(
            name="join", sources=tuple(sides[0]) + tuple(sides[1]), targets=tuple(targets),
            feeds=[*feeds[0], *feeds[1]], options=options, inputs=(len(sides[0]), len(sides[1])),
        )  # fmt: skip
        return {target: flat(items) for target, items in self.run(exchange)[0].items()}

    # -- keyed_gather ----------------------------------------------------------------------------------------------

    @needs("keyed_gather")
    def test_gathered_values_are_those_of_plain_python(self) -> None:
        @few
        @given(placements(), placements(), st.data())
        def check(sources: Any, targets: Any, data: Any) -> None:
            feeds = data.draw(feeds_of(_pairs, len(sources)))
            expected = grouped(everything(feeds))
            got = self.groups(self.once("keyed_gather", sources, targets, feeds))
            assert {key: sorted(values) for key, values in got.items()} == {
                key: sorted(values) for key, values in expected.items()
            }
            got = self.groups(self.once("keyed_gather", sources, targets, feeds, ordered=True))
            in_order = grouped(pair for feed in feeds for batch in feed for pair in batch)
            assert got == in_order, "values do not come in the order of sources"

        check()

    @needs("keyed_gather")
    def test_gathered_pairs_of_a_key_are_together(self) -> None:
        feeds = [[[(number * 7 % 13, number) for number in range(start, start + 40)]] for start in (0, 40, 80)]
        for order in (None, True, lambda key: -key):
            got = self.once("keyed_gather", (0, 1, 1), (0, 1), feeds, grouped=False, order=order)
            assert bag([pair for items in got.values() for pair in flat(items)]) == bag(everything(feeds))
            for items in got.values():
                seen = [key for key, _ in flat(items)]
                runs = [key for index, key in enumerate(seen) if index == 0 or seen[index - 1] != key]
                assert len(runs) == len(set(runs)), "pairs of a key are apart"
                if order is not None:
                    assert runs == sorted(runs, key=None if order is True else order)
                for source in range(3):
                    for key in runs:
                        mine = [value for one, value in flat(items) if one == key and value // 40 == source]
                        assert mine == sorted(mine), "values of one source have changed their order"

    @needs("keyed_gather")
    def test_groups_come_in_the_order_asked_for(self) -> None:
        feeds = [[[(key, 1) for key in ("b", "d", "a")]], [[(key, 2) for key in ("c", "a", "e", "d")]]]
        got = self.once("keyed_gather", (0, 1), (1,), feeds, order=True)
        assert [key for key, _ in flat(got[0])] == ["a", "b", "c", "d", "e"]
        got = self.once("keyed_gather", (0, 1), (1,), feeds, order=lambda key: -ord(key))
        assert [key for key, _ in flat(got[0])] == ["e", "d", "c", "b", "a"]
        numbers = [[[(key, 0) for key in (3.0, _NAN, -1.0, float("nan"), 2)]]]
        got = self.once("keyed_gather", (0,), (0,), numbers, order=True)
        assert [repr(key) for key, _ in flat(got[0])] == ["-1.0", "2", "3.0", "nan"], "NaN is one key, the last"

    @needs("keyed_gather")
    def test_gathering_without_records_and_with_one_key(self) -> None:
        assert self.groups(self.once("keyed_gather", (0, 1), (0, 1), [[], []])) == {}
        feeds: list[Any] = [[[("k", number) for number in range(5000)]], [], [[]]]
        got = self.once("keyed_gather", (0, 1, 1), (0, 1), feeds)
        assert self.groups(got) == {"k": list(range(5000))}

    @needs("keyed_gather")
    def test_gathering_awkward_keys(self) -> None:
        awkward = [None, _NAN, (1, _NAN), 1, 1.0, True, numpy.int64(1), numpy.float64("nan"), "", b"", 0.0, -0.0]
        pairs = [(key, number) for number, key in enumerate(awkward)]
        got = self.once("keyed_gather", (0, 1), (0, 1), [[pairs], [[((1, float("nan")), 99)]]])
        found = sorted(sorted(values) for items in got.values() for _, values in flat(items))
        assert found == [[0], [1, 7], [2, 99], [3, 4, 5, 6], [8], [9], [10, 11]]
        for bad in ([1], {}, object()):
            with pytest.raises(KeyHashError) as caught:
                self.once("keyed_gather", (0, 1), (0, 1), [[[(1, 1)], [(bad, 1)]], []])
            assert caught.value.remedy
        for bad in (7, "ab", (1, 2, 3)):
            with pytest.raises(OperatorError) as refused:
                self.once("keyed_gather", (0,), (0,), [[[bad]]])
            assert repr(bad) in str(refused.value)
        for mixed in (["x", 1], [None, 1]):
            with pytest.raises(OperatorError) as unordered:
                self.once("keyed_gather", (0,), (0,), [[[(key, 0) for key in mixed]]], order=True)
            assert unordered.value.remedy

    @needs("keyed_gather")
    def test_a_key_of_100_mb(self) -> None:
        giant = b"k" * (100 << 20)
        got = self.once("keyed_gather", (0,), (1, 0), [[[(giant, 1)], [("small", 0), (giant, 2)]]])
        found = {len(key): list(values) for items in got.values() for key, values in flat(items)}
        assert found == {100 << 20: [1, 2], 5: [0]}

    @needs("keyed_gather")
    def test_orders_that_raise_name_the_key(self) -> None:
        def picky(key: Any) -> Any:
            if key == "poison":
                raise ZeroDivisionError("no poison please")
            return key

        with pytest.raises(UserCodeError) as caught:
            self.once("keyed_gather", (0,), (0,), [[[("good", 1), ("poison", 2)]]], order=picky)
        assert "poison" in str(caught.value)
        assert "picky" in caught.value.details["traceback"]

    @needs("keyed_gather", "arrays")
    def test_gathering_arrays(self) -> None:
        rows = numpy.array([[3, 30], [1, 10], [3, 31], [2, 20], [1, 11]])
        got = self.once("keyed_gather", (0, 1), (0, 1), [[rows.copy()], [rows[:2].copy()]], grouped=False)
        arrays = [batch for items in got.values() for batch in batches(items)]
        assert all(array.dtype == rows.dtype for array in arrays)
        assert sorted(map(tuple, numpy.concatenate(arrays).tolist())) == sorted(map(tuple, [*rows, *rows[:2]]))
        for items in got.values():
            column = [key for key, _ in flat(items)]
            assert column == sorted(column)
        assert self.groups(self.once("keyed_gather", (0,), (0,), [[rows.copy()]])) == {
            3: [30, 31],
            1: [10, 11],
            2: [20],
        }

    @needs("keyed_gather", "arrow")
    def test_gathering_columns(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        rows = {"k": [2.0, None, _NAN, 2.0, 0.0, -0.0, None, _NAN], "v": list(range(8))}
        batch = pyarrow.RecordBatch.from_pydict(rows, schema=pyarrow.schema({"k": "float64", "v": "int64"}))
        feeds = [[batch.slice(0, 5), batch.slice(5)], [batch.slice(2, 3)]]
        got = self.once("keyed_gather", (0, 1), (0, 1), feeds, key="k", ordered=True)
        found = {named(row["k"]): row["v"] for items in got.values() for row in flat(items)}
        assert found == {2.0: [0, 3, 3], None: [1, 6], "NaN": [2, 7, 2], 0.0: [4, 5, 4]}
        got = self.once("keyed_gather", (0, 1), (0,), feeds, grouped=False)
        ranks = [2 if key is None else 1 if key != key else 0 for key in (row["k"] for row in flat(got[0]))]
        assert ranks == sorted(ranks), "null comes last, NaN before it"
        assert bag([row["v"] for row in flat(got[0])]) == bag([*range(8), 2, 3, 4])
        assert [batch for batch in batches(got[0]) if batch.schema != feeds[0][0].schema] == []

    # -- join ------------------------------------------------------------------------------------------------------

    @needs("join")
    def test_joins_are_those_of_plain_python(self) -> None:
        @few
        @given(_joins())
        def check(case: tuple[Any, ...]) -> None:
            sides, feeds, targets, how = case
            expected = bag(_named_all(joined(everything(feeds[0]), everything(feeds[1]), how)))
            for algorithm in ("hash", "sort"):
                # keys of several types have no order: text of them has
                order = {"order": _text} if algorithm == "sort" else {}
                got = self.join(sides, feeds, targets, how=how, algorithm=algorithm, **order)
                assert all(
                    task_of_key(key, len(targets)) == target for target, records in got.items() for key, _ in records
                )
                found = [record for records in got.values() for record in records]
                assert bag(_named_all(found)) == expected, (how, algorithm)

        check()

    @needs("join")
    def test_sorted_joins_are_in_order(self) -> None:
        left = [[[(number * 7 % 20, "l") for number in range(20)]]]
        right = [[[(number, "r") for number in range(25, 5, -1)]]]
        for how in HOW:
            got = self.join([(0,), (1,)], [left, right], (0, 1), how=how, algorithm="sort")
            for records in got.values():
                seen = [key for key, _ in records]
                assert seen == sorted(seen)
            assert bag([one for records in got.values() for one in records]) == bag(
                joined(left[0][0], right[0][0], how)
            )

    @needs("join")
    def test_joins_by_functions_of_records(self) -> None:
        people = [{"name": "Ada", "city": 1}, {"name": "Bob", "city": 2}, {"name": "Cyd", "city": None}]
        cities = [("Rome", 1), ("Oslo", 3), ("Nowhere", None)]
        for how, many in (("inner", 2), ("left", 3), ("right", 3), ("full", 4)):
            got = self.join(
                [(0,), (1,)], [[[people]], [[cities]]], (1, 0), how=how,
                left_key=lambda person: person["city"], right_key=lambda city: city[1],
            )  # fmt: skip
            found = [record for records in got.values() for record in records]
            assert len(found) == many
            for key, (person, city) in found:
                assert person is None or person["city"] == key
                assert city is None or city[1] == key
        with pytest.raises(UserCodeError) as caught:
            self.join([(0,), (1,)], [[[people]], [[cities]]], (0,), left_key=lambda person: person["shoe"])
        assert "Ada" in str(caught.value)

    @needs("join")
    def test_joins_with_an_empty_side_and_with_one_key(self) -> None:
        pairs = [("k", number) for number in range(30)]
        for how in HOW:
            for left, right in ((pairs, []), ([], pairs), ([], []), (pairs, pairs)):
                got = self.join([(0, 1), (0,)], [[[left], []], [[right]]], (0, 1), how=how)
                found = [record for records in got.values() for record in records]
                assert bag(found) == bag(joined(left, right, how))

    @needs("join")
    def test_wrong_joins_are_refused(self) -> None:
        wrong: list[dict[str, Any]] = [{"how": "outer"}, {"algorithm": "loop"}, {"left_key": 3}, {"order": "up"}]
        for options in wrong:
            with pytest.raises(OperatorError) as caught:
                self.join([(0,), (0,)], [[[]], [[]]], (0,), **options)
            assert next(iter(options)) in str(caught.value)
            assert caught.value.remedy
        with pytest.raises(OperatorError):
            self.once("join", (0,), (0,), [[]])
        with pytest.raises(KeyHashError):
            self.join([(0,), (0,)], [[[[([], 1)]]], [[]]], (0,))

    @needs("join", "arrow")
    def test_joins_of_columns(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        keys = [1, 2, None, 2, 5, 7]
        left = pyarrow.RecordBatch.from_pydict({"id": pyarrow.array(keys, "int32"), "v": [f"l{i}" for i in range(6)]})
        right = pyarrow.RecordBatch.from_pydict(
            {"v": [f"r{i}" for i in range(5)], "ref": pyarrow.array([2, None, 9, 7, 2], "int64")}
        )
        lefts = [(row["id"], row["v"]) for row in left.to_pylist()]
        rights = [(row["ref"], row["v"]) for row in right.to_pylist()]
        for how in HOW:
            for algorithm in ("hash", "sort"):
                exchange = Exchange(
                    name="join", sources=(0, 1, 1), targets=(0, 1), inputs=(2, 1),
                    feeds=[[left.slice(0, 4)], [left.slice(4)], [right]],
                    options={"how": how, "algorithm": algorithm, "right_key": "ref"},
                )  # fmt: skip
                got = self.run(exchange)[0]
                rows = [row for items in got.values() for row in flat(items)]
                alone = how in ("semi", "anti")
                found = [(row["id"], row["v"] if alone else (row["v"], row["v_right"])) for row in rows]
                assert bag(found) == bag(joined(lefts, rights, how))
                assert not alone or all(set(row) == {"id", "v"} for row in rows)
                if algorithm == "sort":
                    for items in got.values():
                        seen = [(row["id"] is None, row["id"] or 0) for row in flat(items)]
                        assert seen == sorted(seen)

    # -- streams ---------------------------------------------------------------------------------------------------

    @needs("keyed_gather", "join", "streams")
    def test_on_streams_nothing_is_kept_across_marks(self) -> None:
        flush = [Mark(HeaderKind.FLUSH, number) for number in range(3)]
        feeds: list[Any] = [[[("k", 1)], flush[0], flush[1], [("k", 3)], flush[2]] for _ in range(2)]
        exchange = Exchange(name="keyed_gather", sources=(0, 1), targets=(0,), feeds=feeds, mode="stream")
        assert _between(self.run(exchange)[0][0]) == [[("k", [1, 1])], [], [("k", [3, 3])], []]
        feeds = [
            [[("k", "l1")], flush[0], [("k", "l2")], flush[1], flush[2], [("k", "l4")]],
            [flush[0], [("k", "r2")], flush[1], [("k", "r3")], flush[2]],
        ]
        for how, ends in (("inner", [[], []]), ("full", [[("k", (None, "r3"))], [("k", ("l4", None))]])):
            exchange = Exchange(
                name="join", sources=(0, 1), targets=(1,), feeds=feeds, inputs=(1, 1), mode="stream",
                options={"how": how},
            )  # fmt: skip
            first = [] if how == "inner" else [("k", ("l1", None))]
            assert _between(self.run(exchange)[0][0]) == [first, [("k", ("l2", "r2"))], *ends]


def _text(key: Any) -> str:
    return str(hash(named(key)))


def _between(items: Sequence[Any]) -> list[list[Any]]:
    """Records before each flush mark, and those before the end."""
    found: list[list[Any]] = [[]]
    for item in items:
        if item.kind == HeaderKind.FLUSH:
            found.append([])
        elif item.kind == HeaderKind.DATA:
            found[-1] += item.value
    return found
