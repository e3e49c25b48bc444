"""Key columns of every type of Arrow and numpy: joined, sorted and grouped by value, or refused by name and type.

Each key is drawn from the few ascending values of its type. Its place among them, its *rank*, travels beside it, so
that what was done with the keys is compared with the same done with small integers.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

import twister2_net as net
from twister2.spec.batch import records
from twister2.spec.errors import Twister2Error
from twister2_net.selectors.row_hash import RowHash
from twister2_net.spilling.record_order import RecordOrder
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.seeds import drawn_seed

NAN, INF = math.nan, math.inf
HUGE = 2**62
HOWS = ("inner", "left", "right", "full")


def of(kind, *values):
    return pa.array(values, kind)


def ticks(kind, *values):
    return pa.array(values, pa.int64() if kind.bit_width == 64 else pa.int32()).view(kind)


FLOATS = (-INF, -2.25, 0.0, 1.5, INF, NAN)
TIMES = (-HUGE, -1_500_000_001, -1, 0, 1, 1_000_000_000, HUGE)
TEXTS = ("", "a", "aa", "b", "ä", "€")
BYTES = (b"", b"\0", b"a", b"ab", b"\xff")

ARROW = {
    "bool": of(pa.bool_(), False, True),
    "int8": of(pa.int8(), -128, -1, 0, 127),
    "int16": of(pa.int16(), -(2**15), 0, 7),
    "int32": of(pa.int32(), -(2**31), 0, 7),
    "int64": of(pa.int64(), -(2**63), -1, 0, 2**53, 2**53 + 1, 2**63 - 1),
    "uint8": of(pa.uint8(), 0, 1, 255),
    "uint16": of(pa.uint16(), 0, 1, 2**16 - 1),
    "uint32": of(pa.uint32(), 0, 1, 2**32 - 1),
    "uint64": of(pa.uint64(), 0, 2**53, 2**53 + 1, 2**64 - 1),
    "float16": pa.array(np.array(FLOATS, np.float16)),
    "float32": of(pa.float32(), *FLOATS),
    "float64": of(pa.float64(), *FLOATS),
    "decimal128": of(pa.decimal128(10, 2), *map(Decimal, ("-1.50", "0.00", "0.10", "2.00"))),
    "decimal256": of(pa.decimal256(50, 2), *map(Decimal, ("-1.50", "0.00", f"{10**40}.10"))),
    "date32": ticks(pa.date32(), -5_000_000, -1, 0, 5_000_000),
    "date64": ticks(pa.date64(), *(day * 86_400_000 for day in (-5_000_000, -1, 0, 1))),
    "time32": ticks(pa.time32("ms"), 0, 1, 86_399_999),
    "time64": ticks(pa.time64("ns"), 0, 1, 1000, 1001),
    "timestamp[s]": ticks(pa.timestamp("s"), *TIMES),
    "timestamp[ns]": ticks(pa.timestamp("ns"), *TIMES),
    "timestamp[us, UTC]": ticks(pa.timestamp("us", "UTC"), *TIMES),
    "timestamp[ms, zone]": ticks(pa.timestamp("ms", "Europe/Berlin"), *TIMES),
    "duration[s]": ticks(pa.duration("s"), *TIMES),
    "duration[ns]": ticks(pa.duration("ns"), *TIMES),
    "string": of(pa.string(), *TEXTS),
    "large_string": of(pa.large_string(), *TEXTS),
    "string_view": of(pa.string_view(), *TEXTS),
    "binary": of(pa.binary(), *BYTES),
    "large_binary": of(pa.large_binary(), *BYTES),
    "binary_view": of(pa.binary_view(), *BYTES),
    "fixed_size_binary": of(pa.binary(2), b"\0\0", b"ab", b"\xff\xff"),
    "dictionary of text": of(pa.string(), *TEXTS).dictionary_encode(),
    "dictionary of numbers": of(pa.int64(), 1, 2, 3).dictionary_encode(),
    "null": pa.nulls(0),
}
OTHERS = {
    "list": of(pa.list_(pa.int64()), [1], [1, 2], [2]),
    "large list": of(pa.large_list(pa.string()), ["a"], ["b"]),
    "fixed list": of(pa.list_(pa.int64(), 2), [1, 2], [2, 1]),
    "struct": of(pa.struct({"x": pa.int64()}), {"x": 1}, {"x": 2}),
    "map": of(pa.map_(pa.string(), pa.int64()), [("a", 1)], [("b", 1)]),
    "interval": of(pa.month_day_nano_interval(), (1, 2, 3), (4, 5, 6)),
    "run ends": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array([5, 6])),
}
NUMPY = {
    **{kind: [0, 1, 7] for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i8", ">u2")},
    **{kind: FLOATS for kind in ("f2", "f4", "f8", ">f8", "g")},
    "c16": [complex(-1, 2), 0j, complex(0, 1), 2 + 0j],
    "M8[s]": [-5, 0, 3],
    "M8[ns]": [-5, 0, 3],
    "m8[D]": [-5, 0, 3],
    "S3": [b"", b"a", b"abc"],
    "U3": ["", "a", "äbc"],
    "V2": [b"\0\0", b"ab", b"zz"],
    "O": ["", "a", "b"],
}
NUMPY["?"] = [False, True]


def taken(values, ranks):
    """Those of these ranks; views are not taken from by every release of pyarrow."""
    if values.type in (pa.string_view(), pa.binary_view()):
        return pa.array([None if rank is None else values[rank].as_py() for rank in ranks], values.type)
    return values.take(pa.array(ranks, pa.int64()))


def chance():
    return random.Random(drawn_seed())


def table(values, ranks, name):
    column = taken(values, ranks)
    return pa.table({"k": column, f"{name}rank": pa.array(ranks, pa.int64()), name: range(len(ranks))})


def mine(env, whole):
    """What a worker has of a table or an array."""
    half = len(whole) // env.n_workers
    start = env.worker_id * half
    stop = len(whole) if env.worker_id == env.n_workers - 1 else start + half
    return whole.slice(start, stop - start) if isinstance(whole, pa.Table) else whole[start:stop]


def every(env, operation, *sides, **options):
    """The rows that a worker gets."""
    got = operation(env, *(mine(env, side) for side in sides), **options)
    return [row for batch in got.batches() for row in rows_of(batch)]


def rows_of(batch):
    """The rows of a batch as dicts, of the key only whether it is there: Python does not know all times."""
    names = [name for name in batch.schema.names if name not in ("k", "wide")]
    rows = batch.select(names).to_pylist()
    for row, there in zip(rows, batch.column("k").is_valid().to_pylist(), strict=True):
        row["k"] = there or None
    return rows


def run(function, workers=2, memory=0):
    """The rows of all workers, in order of workers; of several lists of rows by their names."""
    parts = LocalCluster(workers, "loopback", memory_bytes=memory, deadline_s=60).run(function)
    if isinstance(parts[0], dict):
        return {name: [row for part in parts for row in part[name]] for name in parts[0]}
    return [row for part in parts for row in part]


def joins(left, right, how):
    """Rows of a join by ranks: pairs of row numbers, None for none."""
    found = Counter()
    for at, rank in enumerate(left):
        partners = [number for number, other in enumerate(right) if other == rank]
        found.update((at, number) for number in partners)
        if not partners and how in ("left", "full"):
            found[(at, None)] += 1
    if how in ("right", "full"):
        found.update((None, number) for number, rank in enumerate(right) if rank not in left)
    return found


def order(ranks, *, descending, nan):
    """Row numbers in order of ranks: NaN last but one, None last."""

    def place(at):
        rank = ranks[at]
        kind = 2 if rank is None else 1 if rank == nan else 0
        return kind, 0 if kind else -rank if descending else rank

    return sorted(range(len(ranks)), key=place)


def nan_of(values):
    last = values[len(values) - 1].as_py() if len(values) and pa.types.is_floating(values.type) else 0
    return len(values) - 1 if last != last else -1


SPILLED = ("float16", "date64", "timestamp[ns]", "dictionary of text", "null")


@pytest.mark.parametrize(("kind", "spilled"), [*((kind, False) for kind in ARROW), *((kind, True) for kind in SPILLED)])
def test_columns_of_arrow(kind, spilled):
    values, pick = ARROW[kind], chance()
    size, memory = (200, 1 << 20) if spilled else (30, 0)
    ranks = [[pick.choice([None, *range(len(values))]) for _ in range(size)] for _ in range(2)]
    if len(values):
        ranks[1] = [None if rank == 0 else rank for rank in ranks[1]]  # so that there are keys without partners
    if spilled and len(values):  # few rows have a partner: what is joined is wide
        ranks = [[0 if rank is None else rank for rank in ranks[0]], [0, None, None, 0, None]]
    elif spilled:
        ranks[1] = [None] * 3
    ways = [("full", "hash"), ("left", "sort")] if spilled else list(itertools.product(HOWS, ("hash", "sort")))
    left, right = (table(values, some, name) for some, name in zip(ranks, "lr", strict=True))
    if spilled:
        left = left.append_column("wide", pa.array(["." * 8000] * size))
    nan = nan_of(values)

    def main(env):
        found = {}
        for how, algorithm in ways:
            found[how, algorithm] = every(env, net.join, left, right, how=how, algorithm=algorithm)
        for descending in (False, True):
            found["sort", descending] = every(env, net.sort, left, key="k", descending=descending)
        found["distinct"] = every(env, net.distinct, left, key="k")
        wanted = {"n": "count", "rank": ("lrank", "min")}
        found["aggregate"] = every(env, net.aggregate, left, aggregates=wanted, key="k")
        found["gather"] = every(env, net.keyed_gather, left, key="k")
        found["pairs"] = every(env, net.keyed_gather, left, key="k", grouped=False)
        found["spilled"] = [env.memory.use().spilled]
        return found

    found = run(main, memory=memory)
    assert all(found["spilled"]) is spilled
    for how, algorithm in ways:
        rows = found[how, algorithm]
        assert Counter((row["l"], row["r"]) for row in rows) == joins(*ranks, how), (how, algorithm)
        for row in rows:
            rank = row["lrank"] if row["l"] is not None else row["rrank"]
            assert (row["k"] is None) == (rank is None)
    for descending in (False, True):
        wanted = order(ranks[0], descending=descending, nan=nan)
        assert [row["l"] for row in found["sort", descending]] == wanted, descending
    firsts = {rank: at for at, rank in reversed(list(enumerate(ranks[0])))}
    assert sorted(row["l"] for row in found["distinct"]) == sorted(firsts.values())
    counts = Counter(ranks[0])
    assert {row["rank"]: row["n"] for row in found["aggregate"]} == counts
    assert {rank: len(row["l"]) for row in found["gather"] for rank in set(row["lrank"])} == counts
    assert Counter(row["lrank"] for row in found["pairs"]) == counts


@pytest.mark.parametrize("kind", OTHERS)
def test_columns_of_arrow_that_are_no_keys(kind):
    values, pick = OTHERS[kind], chance()
    ranks = [pick.randrange(len(values)) for _ in range(30)]
    whole = pa.table({"k": pa.concat_arrays([values.slice(rank, 1) for rank in ranks]), "l": range(30)})
    counts = Counter(ranks)
    tried = {
        "join": lambda env: every(env, net.join, whole, whole),
        "join by order": lambda env: every(env, net.join, whole, whole, algorithm="sort"),
        "sort": lambda env: every(env, net.sort, whole, key="k"),
        "sort by two": lambda env: every(env, net.sort, whole, key=["l", "k"]),
        "distinct": lambda env: every(env, net.distinct, whole, key="k"),
        "distinct rows": lambda env: every(env, net.distinct, whole),
        "aggregate": lambda env: every(env, net.aggregate, whole, aggregates={"n": "count"}, key="k"),
        "aggregate by two": lambda env: every(env, net.aggregate, whole, aggregates={"n": "count"}, key=["l", "k"]),
        "gather": lambda env: every(env, net.keyed_gather, whole, key="k"),
        "gather in order": lambda env: every(env, net.keyed_gather, whole, key="k", order=True),
    }
    sizes = {
        "join": sum(count * count for count in counts.values()),
        "sort": 30,
        "distinct rows": 30,
        "aggregate by two": 30,
        "sort by two": 30,
    }
    for name, main in tried.items():
        rows, text = attempted(main)
        if rows is None:
            assert "'k'" in text or "keys k" in text or name == "distinct rows", (name, text)
            assert str(values.type) in text, (name, text)
        else:
            assert len(rows) == sizes.get(name.removesuffix(" by order"), len(counts)), name


def attempted(main):
    """The rows, or the text of the error that says why there are none."""
    try:
        return run(main), ""
    except Twister2Error as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (of(pa.string(), "a", "b"), of(pa.binary(), b"a", b"b")),
        (of(pa.string(), "1", "2"), of(pa.int64(), 1, 2)),
        (of(pa.float64(), 0.1, 0.5), of(pa.decimal128(10, 2), Decimal("0.10"), Decimal("0.50"))),
        (of(pa.int32(), 1, 2), of(pa.decimal128(10, 2), Decimal("1.00"), Decimal("2.00"))),
        (of(pa.bool_(), False, True), of(pa.int64(), 0, 1)),
        (ticks(pa.date32(), 0, 1), ticks(pa.timestamp("s"), 0, 86_400)),
        (ticks(pa.timestamp("s"), 0, 1), ticks(pa.timestamp("s", "UTC"), 0, 1)),
        (ticks(pa.duration("s"), 0, 1), of(pa.int64(), 0, 1)),
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_keys_that_only_look_alike_are_refused(left, right, workers):
    sides = [pa.table({"k": values, name: [0, 1]}) for values, name in ((left, "l"), (right, "r"))]

    def main(env):
        return every(env, net.join, *sides)

    with pytest.raises(Twister2Error) as raised:
        run(main, workers)
    text = str(raised.value)
    assert "cannot compare the keys k and k" in text
    assert str(left.type) in text
    assert str(right.type) in text


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (of(pa.string(), "a", "b"), of(pa.string_view(), "a", "b")),
        (of(pa.string(), "a", "b"), of(pa.large_string(), "a", "b").dictionary_encode()),
        (of(pa.binary(), b"aa", b"b"), of(pa.binary_view(), b"aa", b"b")),
        (
            of(pa.decimal128(5, 1), Decimal("1.0"), Decimal("2.5")),
            of(pa.decimal128(10, 2), Decimal("1.00"), Decimal("2.50")),
        ),
        (ticks(pa.timestamp("s", "UTC"), 0, 1), ticks(pa.timestamp("ns", "Asia/Tokyo"), 0, 10**9)),
        (ticks(pa.duration("ms"), 0, 1000), ticks(pa.duration("s"), 0, 1)),
        (ticks(pa.date32(), 0, 1), ticks(pa.date64(), 0, 86_400_000)),
        (pa.array(np.array([0.5, NAN], "f2")), of(pa.float64(), 0.5, NAN)),
        (of(pa.int8(), 0, 1), pa.array(np.array([0, 1], "f2"))),
    ],
)
@pytest.mark.parametrize("how", ["inner", "full"])
@pytest.mark.parametrize("turned", [False, True])
def test_keys_of_related_types_are_compared_by_value(left, right, how, turned):
    if turned:
        left, right = right, left
    sides = [pa.table({"k": values, name: [0, 1]}) for values, name in ((left, "l"), (right, "r"))]
    rows = run(lambda env: every(env, net.join, *sides, how=how))
    assert sorted((row["l"], row["r"]) for row in rows) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("key", [["k"], ["k", "l"], ["l", "k"]], ids=",".join)
@pytest.mark.parametrize("kind", ARROW)
def test_nulls_go_where_those_of_a_column_without_a_type_go(kind, key):
    targets = RowHash(997, "rows", 0, RecordOrder(key, False, None, "rows"))
    typed, plain = (pa.table({"k": pa.nulls(9, one), "l": range(9)}) for one in (ARROW[kind].type, pa.null()))
    assert list(targets.assign(typed)) == list(targets.assign(plain))


@pytest.mark.parametrize("kind", ARROW)
def test_results_of_pairs_lie_where_the_pairs_would(kind):
    """So that what follows need not send them by key again."""
    values = ARROW[kind]
    ranks = [None, *range(len(values))] * 3
    pairs = pa.table({"k": taken(values, ranks), "rank": pa.array(ranks, pa.int64())})

    def main(env):
        partitioned = every(env, net.keyed_gather, pairs, grouped=False)
        aggregated = every(env, net.aggregate, pairs, aggregates="min", pairs=True)
        return [{row["rank"] for row in rows} for rows in (partitioned, aggregated)]

    parts = LocalCluster(3, "loopback", deadline_s=60).run(main)
    assert [aggregated for _, aggregated in parts] == [partitioned for partitioned, _ in parts]
    assert set().union(*(aggregated for _, aggregated in parts)) == set(ranks)


@pytest.mark.parametrize("kind", ["M8[ns]", "m8[ns]", "M8[us]", "M8[s]", "M8[D]", "i4", "U3"])
def test_results_of_pairs_in_arrays_lie_where_the_pairs_would(kind):
    """Times that Python has no type for are numbers there; so are those in microseconds past the year 9999."""
    ranks = np.arange(60) % 20
    pairs = np.zeros(60, dtype=[("k", kind), ("rank", "i8")])
    late = 285_000_000_000_000_000 if kind == "M8[us]" else 0
    ticks = {"n": 86_400_000_000_000, "u": 86_400_000_000, "s": 86_400}.get(kind[3:4], 1)
    pairs["k"] = (ranks * ticks + late).view(kind) if kind[1:2] == "8" else ranks.astype(kind)
    pairs["rank"] = ranks

    def main(env):
        partitioned = net.keyed_gather(env, mine(env, pairs), grouped=False)
        aggregated = net.aggregate(env, mine(env, pairs), aggregates="min", pairs=True)
        batches = [list(some.batches()) for some in (partitioned, aggregated)]
        return [{int(rank) for batch in some for _, rank in records(batch)} for some in batches]

    parts = LocalCluster(3, "loopback", deadline_s=60).run(main)
    assert [aggregated for _, aggregated in parts] == [partitioned for partitioned, _ in parts]
    assert set().union(*(aggregated for _, aggregated in parts)) == set(range(20))


@pytest.mark.parametrize("kind", ["int64", "timestamp[s]", "string"])
def test_rows_are_equal_to_those_of_a_worker_that_has_only_nulls(kind):
    def main(env):
        here = pa.table({"k": pa.nulls(30, pa.null() if env.worker_id else ARROW[kind].type), "l": range(30)})
        got = {
            "distinct": net.distinct(env, here),
            "aggregate": net.aggregate(env, here, {"n": "count"}, key=["k", "l"]),
        }
        return {name: [row for batch in some.batches() for row in rows_of(batch)] for name, some in got.items()}

    found = run(main)
    assert sorted(row["l"] for row in found["distinct"]) == [*range(30)]
    assert sorted((row["l"], row["n"]) for row in found["aggregate"]) == [(number, 2) for number in range(30)]


@pytest.mark.parametrize("kind", NUMPY)
def test_fields_of_numpy(kind):
    values, pick = (
        np.array(NUMPY[kind], "i8").astype(kind) if kind[0] in "Mm" else np.array(NUMPY[kind], kind),
        chance(),
    )
    ranks = [pick.randrange(len(values)) for _ in range(30)]
    whole = np.zeros(30, [("k", values.dtype), ("rank", "i8"), ("n", "i8")])
    whole["k"], whole["rank"], whole["n"] = values[ranks], ranks, range(30)
    nan = len(values) - 1 if values[-1] != values[-1] else -1
    dicts = lambda got: [{name: row[name] for name in row.dtype.names} if hasattr(row, "dtype") else row for row in got]  # noqa: E731

    def main(env):
        here = mine(env, whole)
        wanted = {"count": "count", "least": ("rank", "min")}
        found = {
            "sort": dicts(net.sort(env, here, key="k", descending=True)),
            "distinct": dicts(net.distinct(env, here, key="k")),
            "aggregate": [] if kind == "V2" else dicts(net.aggregate(env, here, wanted, key="k")),  # no scalar's hash
            "partition": [(int(row["rank"]), env.worker_id) for row in net.partition(env, here, key="k")],
            "gather": [(key, len(some)) for key, some in net.keyed_gather(env, here[["k", "n"]])],
        }
        return found

    counts = Counter(ranks)
    found = run(main)
    assert [int(row["n"]) for row in found["sort"]] == order(ranks, descending=True, nan=nan)
    firsts = {rank: at for at, rank in reversed(list(enumerate(ranks)))}
    assert sorted(int(row["n"]) for row in found["distinct"]) == sorted(firsts.values())
    assert {int(row["least"]): int(row["count"]) for row in found["aggregate"]} == ({} if kind == "V2" else counts)
    assert len(set(found["partition"])) == len(counts), "equal keys are on one worker"
    assert sorted(count for _, count in found["gather"]) == sorted(counts.values())
