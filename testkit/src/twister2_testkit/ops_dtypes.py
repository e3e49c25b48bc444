"""The part of the operator suite about the dtypes of arrays: every kind, in either byte order, and structured ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.spec.hashing import task_of_key
from twister2_testkit.capabilities import needs
from twister2_testkit.ops_base import OperatorChecks, bag
from twister2_testkit.ops_drive import batches, flat

_NUMBERS = ("i1", "u1", "i2", "u4", "i8", "u8", "f2", "f4", "f8")
_ORDERED = (*_NUMBERS, "?", "S3", "U3", "M8[s]", "m8[ms]")
_PLAIN = (*_ORDERED, "c8", "c16")
_PAIRS: tuple[Any, ...] = (
    [("k", "i4"), ("v", "f8")],
    [("k", "U2"), ("v", "i8")],
    [("k", "S2"), ("v", "u2")],
    numpy.dtype({"names": ["k", "v"], "formats": ["i2", "f4"], "offsets": [2, 8], "itemsize": 16}),
)
_some = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@attrs.frozen
class Sent:
    """An array of few different values, in a byte order, cut into what two sources send."""

    array: Any
    feeds: list[list[Any]]

    @property
    def records(self) -> list[Any]:
        """Its records as plain Python."""
        values: list[Any] = self.array.tolist()
        return values


@st.composite
def _arrays(draw: Any, dtypes: tuple[Any, ...]) -> Sent:
    given_dtype = numpy.dtype(draw(st.sampled_from(dtypes)))
    dtype = given_dtype.newbyteorder(draw(st.sampled_from("<>")))
    chance = numpy.random.default_rng(draw(st.integers(0, 1 << 20)))
    numbers = chance.integers(0, 9, 40)
    array = numpy.zeros(40, dtype)
    if dtype.names:
        array["k"], array["v"] = (chance.integers(0, 5, 40).astype(dtype["k"]), numbers.astype(dtype["v"]))
    else:
        array[:] = (numbers > 4) if dtype.kind == "b" else numbers.astype(dtype)
    first, second = sorted((draw(st.integers(0, 40)), draw(st.integers(0, 40))))
    return Sent(array, [[array[:first].copy(), array[first:second].copy()], [array[second:].copy()]])


def plain(record: Any) -> Any:
    """A record as plain Python: what ``tolist`` makes of it."""
    return record.item() if isinstance(record, (numpy.generic, numpy.ndarray)) else record


class DtypeChecks(OperatorChecks):
    """What operators do with arrays whose memory is not this machine's own form."""

    def passed(self, name: str, dtypes: tuple[Any, ...], copies: int = 1, **options: Any) -> None:
        """Everything arrives, as it was sent."""
        targets = (0,) if name == "gather" else (0, 1)

        @_some
        @given(_arrays(dtypes))
        def check(sent: Sent) -> None:
            got = self.once(name, (0, 1), targets, sent.feeds, **options)
            assert bag([plain(one) for items in got.values() for one in flat(items)]) == bag(sent.records * copies)
            for items in got.values():
                assert all(one.dtype.newbyteorder("=") == sent.array.dtype.newbyteorder("=") for one in batches(items))

        check()

    @needs("arrays")
    def test_dtypes_pass(self) -> None:
        """Every dtype, in either byte order, through every operator that passes batches on."""
        copies = {"direct": 1, "pipe": 1, "gather": 1, "union": 1, "allgather": 2, "broadcast": 2}
        names = [name for name in copies if self.capabilities.is_open(name)]
        if not names:
            pytest.skip("capability direct, gather...: none is open")
        for name in names:
            self.passed(name, _PLAIN + _PAIRS, copies[name])

    @needs("arrays", "partition")
    def test_dtypes_are_partitioned(self) -> None:
        self.passed("partition", _PLAIN + _PAIRS, partitioner="round_robin")
        self.passed("partition", _PLAIN + _PAIRS, partitioner="hash")
        self.passed("partition", _PLAIN, partitioner=lambda record, n: len(str(record)) % n)

    @needs("arrays", "partition")
    def test_dtypes_are_placed_as_their_values_are(self) -> None:
        @_some
        @given(_arrays((*_NUMBERS, "U3", "S3")))
        def check(sent: Sent) -> None:
            got = self.once("partition", (0, 1), (0, 1), sent.feeds, partitioner="hash")
            for target, items in got.items():
                assert all(task_of_key(plain(record), 2) == target for record in flat(items))

        check()

    @needs("arrays", "partition", "ranges")
    def test_dtypes_are_cut_into_ranges(self) -> None:
        self.passed("partition", _ORDERED, partitioner="range")

    @needs("arrays", "keyed_partition")
    def test_dtypes_of_pairs(self) -> None:
        @_some
        @given(_arrays(_PAIRS))
        def check(sent: Sent) -> None:
            got = self.once("keyed_partition", (0, 1), (0, 1), sent.feeds)
            keys = [{plain(pair)[0] for pair in flat(items)} for items in got.values()]
            assert not keys[0] & keys[1]
            assert bag([plain(pair) for items in got.values() for pair in flat(items)]) == bag(sent.records)

        check()

    @needs("arrays", "keyed_reduce")
    def test_dtypes_of_pairs_are_combined(self) -> None:
        @_some
        @given(_arrays(_PAIRS), st.sampled_from(["sum", "max"]))
        def check(sent: Sent, reducer: str) -> None:
            expected: dict[Any, Any] = {}
            for key, value in sent.records:
                have = expected.get(key)
                both = value if have is None else have + value if reducer == "sum" else max(have, value)
                expected[key] = both
            got = self.once("keyed_reduce", (0, 1), (0, 1), sent.feeds, reducer=reducer)
            assert {plain(key): plain(value) for items in got.values() for key, value in flat(items)} == expected

        check()

    @needs("arrays", "count_by_value")
    def test_dtypes_are_counted(self) -> None:
        @_some
        @given(_arrays(_PLAIN + _PAIRS))
        def check(sent: Sent) -> None:
            got = self.once("count_by_value", (0, 1), (0, 1), sent.feeds)
            found = {plain(record): count for items in got.values() for record, count in flat(items)}
            assert found == Counter(sent.records)

        check()

    @needs("arrays", "allreduce")
    def test_dtypes_are_reduced(self) -> None:
        @_some
        @given(_arrays(_NUMBERS), st.sampled_from(["sum", "max", "min"]))
        def check(sent: Sent, reducer: str) -> None:
            got = self.once("allreduce", (0, 1), (0, 1), sent.feeds, reducer=reducer)
            combine: Any = {"sum": sum, "max": max, "min": min}[reducer]
            expected = combine(sent.records)
            assert [plain(one) for items in got.values() for one in flat(items)] == [expected] * 2

        check()

    @needs("arrays", "sort", "distinct")
    def test_dtypes_are_sorted_and_told_apart(self) -> None:
        @_some
        @given(_arrays((*_ORDERED, *_PAIRS)))
        def check(sent: Sent) -> None:
            got = self.once("sort", (0, 1), (0, 1), sent.feeds)
            assert [plain(one) for target in (0, 1) for one in flat(got[target])] == sorted(sent.records)
            got = self.once("distinct", (0, 1), (0, 1), sent.feeds)
            assert bag([plain(one) for items in got.values() for one in flat(items)]) == bag(list(set(sent.records)))

        check()
