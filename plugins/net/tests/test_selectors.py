"""Selectors: columns are placed like single records, heavy keys are spread, two-phase objects go on where they were."""

from __future__ import annotations

import re
from collections import Counter

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twister2_net as net
from twister2.spec.errors import OperatorError, UserCodeError
from twister2.spec.hashing import stable_hash, task_of_key
from twister2_net.exchange.parts import split
from twister2_net.selectors import hashing
from twister2_net.selectors.hashing import Hash, key_targets
from twister2_net.selectors.key_columns import PAIR_KEY
from twister2_net.selectors.ranges import Range
from twister2_net.selectors.round_robin import RoundRobin
from twister2_net.selectors.skew import Sketch, Skewed
from twister2_testkit.fakes import LocalCluster

pyarrow = pytest.importorskip("pyarrow")


def everywhere(function, n=2):
    return LocalCluster(n, "loopback", deadline_s=20.0).run(function)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 300])
def test_columns_are_placed_like_single_records(n):
    ints = [3, -1, 2**60, 0, 7, 7, -(2**63)] * 20
    floats = [0.5, -0.0, 1.0, 2.5e300, -7.25] * 20
    words = ["a", "bb", "a", "", "é"] * 20
    table = numpy.zeros(len(ints), [("key", "i8"), ("value", "f8")])
    table["key"] = ints
    arrow = pyarrow.RecordBatch.from_pydict({"word": words, "float": floats})
    nulls = pyarrow.RecordBatch.from_pydict({"x": [1, None, 3]})
    cases = [
        (Hash(n, "x", 0, None), numpy.array(ints), ints),
        (Hash(n, "x", 0, None), ints, ints),
        (Hash(n, "x", 0, None), floats, floats),
        (Hash(n, "x", 0, None), [*ints, "text", 2**70], [*ints, "text", 2**70]),
        (Hash(n, "x", 0, PAIR_KEY), table, ints),
        (Hash(n, "x", 0, None, ("value",)), table, [0.0] * len(ints)),
        (Hash(n, "x", 0, PAIR_KEY), numpy.array([floats, floats]).T, floats),
        (Hash(n, "x", 0, PAIR_KEY), [(word, 1) for word in words], words),
        (Hash(n, "x", 0, None), arrow, words),
        (Hash(n, "x", 0, None, ("float",)), arrow, floats),
        (Hash(n, "x", 0, None, ("word", "float")), arrow, list(zip(words, floats, strict=True))),
        (Hash(n, "x", 0, None), nulls, [1, None, 3]),
    ]
    for selector, batch, keys in cases:
        found = [int(target) for target in selector.assign(batch)]
        assert found == [task_of_key(key, n) for key in keys]


@given(st.lists(st.integers(-100, 100)), st.lists(st.integers(-100, 100), max_size=5))
@settings(deadline=None)
def test_ranges_of_columns_are_those_of_single_records(values, bounds):
    bounds.sort()
    selector = Range(len(bounds) + 1, "x", 0, None, bounds)
    one_by_one = [int(target) for target in selector.assign(list(values))]
    assert [int(target) for target in selector.assign(numpy.array(values, "i8"))] == one_by_one
    selector.descending = True
    assert [int(target) for target in selector.assign(numpy.array(values, "i8"))] == [
        len(bounds) - t for t in one_by_one
    ]


@given(st.lists(st.integers(0, 6), max_size=200), st.integers(7, 9) | st.integers(7, 300))
@settings(deadline=None)
def test_all_ways_to_cut_a_batch_agree(targets, n):
    records = [(number, target) for number, target in enumerate(targets)]
    forms = [targets, numpy.array(targets, "u1")]
    for form in forms:
        for count in {n, 7}:
            parts = dict(split(records, form, count))
            assert parts == {
                target: [record for record in records if record[1] == target] for target in sorted(set(targets))
            }
    two = [target % 2 for target in targets]
    for form in (two, numpy.array(two, "u1")):
        cut = {target: list(part) for target, part in split(list(range(len(two))), form, 2)}
        assert cut == {t: [at for at, target in enumerate(two) if target == t] for t in sorted(set(two))}


def test_round_robin_goes_on_from_batch_to_batch():
    for forms in ((list, list), (numpy.array, list), (numpy.array, numpy.array)):
        selector = RoundRobin(3, "x", 1)
        found = [int(target) for form in forms for target in selector.assign(form(range(4)))]
        assert found == [1, 2, 0, 1, 2, 0, 1, 2]


def test_only_small_keys_are_kept_alive():
    targets = key_targets(11)
    targets.clear()
    large = ["x" * 1000, None, float("nan"), (1, float("nan")), ("x" * 1000, 1), (None,), ((1,), 2), tuple(range(9))]
    targets.of(["small", 7, (1, "two", 3.0), *large])
    assert set(targets) == {"small", 7, (1, "two", 3.0)}


class Word(str):
    """Text that is told apart by more than its type."""

    __slots__ = ()


@pytest.mark.parametrize("n", [1, 7, 300])
def test_texts_go_where_each_goes(n):
    texts = ["", *(f"key {number}" for number in range(20_000)), "ä", "\ud800", "x" * 1000]
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    for keys in (texts, encoded, [*map(Word, texts)], [*texts, 1], [*texts, b"x"]):
        assert list(Hash(n, "x", 0, None).assign(keys)) == [task_of_key(key, n) for key in keys]


@pytest.mark.parametrize("kind", ["S6", "U6"])
def test_columns_of_text_go_where_their_values_go_and_each_is_hashed_once(kind, monkeypatch):
    column = (numpy.arange(3000) % 1000).astype(kind)
    monkeypatch.setattr(hashing, "_REMEMBERED", 500)  # fewer than there are: none is remembered in vain
    single = []
    monkeypatch.setattr(hashing, "stable_hash", lambda key: single.append(key) or stable_hash(key))
    targets = key_targets(13)
    targets.clear()
    found = Hash(13, "x", 0, None).assign(column)
    assert [int(target) for target in found] == [task_of_key(key, 13) for key in column.tolist()]
    assert not single, "keys were hashed one by one"


def test_a_sketch_finds_what_is_heavy():
    sketch = Sketch(8)
    for number in range(1000):
        sketch.add("heavy" if number % 3 == 0 else number)
    assert set(sketch.heavy(0.2)) == {"heavy"}
    sketch.fade()
    assert set(sketch.heavy(0.2)) == {"heavy"}


@pytest.mark.parametrize("form", [list, numpy.array, lambda keys: pyarrow.RecordBatch.from_pydict({"k": list(keys)})])
def test_skew_spreads_heavy_keys_and_leaves_the_others(form):
    keys = [7 if number % 4 else number * 13 for number in range(4000)]
    selector = Skewed(4, "x", 0, None)
    found = [int(target) for target in selector.assign(form(keys))]
    counts = Counter(found)
    assert max(counts.values()) < 1.6 * 1000, "one target has most of the heavy key"
    light = [(key, target) for key, target in zip(keys, found, strict=True) if key != 7]
    assert all(target == task_of_key(key, 4) for key, target in light)
    assert len({target for key, target in zip(keys, found, strict=True) if key == 7}) >= 3


def test_skew_delivers_everything_and_is_refused_where_keys_must_meet():
    def main(env):
        return net.partition(env, [1] * 500 + list(range(100)), "skew")

    assert sorted(record for part in everywhere(main) for record in part) == sorted(([1] * 500 + list(range(100))) * 2)
    for name in ("skew", "round_robin"):
        with pytest.raises(OperatorError, match="spread a key"):
            everywhere(lambda env, name=name: net.keyed_partition(env, [(1, 1)], name))


class Turn:
    """Records in turn, but only what was committed counts."""

    def __init__(self, n=0, source=0):
        self.n, self.at, self.done = n, source, source
        self.committed = 0

    def prepare(self, n_targets, source):
        return Turn(n_targets, source)

    def next(self, record):
        if record == "bad":
            raise ZeroDivisionError("bad record")
        self.at += 1
        return (self.at - 1) % self.n

    def commit(self):
        self.done = self.at
        self.committed += 1


def test_two_phase_selectors_see_a_refused_batch_again():
    """Batches that are refused are not looked at: the turn goes on as if nothing had been refused."""

    def main(env):
        with net.operator(env, "partition", sources=[0], targets=[1, 1], partitioner=Turn()) as op:
            found = op.run({source: [list(range(7)) for _ in range(3000)] for source in op.local_sources}, 15.0)
            blocked = op.counters.blocked_s
        return {target: [r for item in items for r in item.value] for target, items in found.items()}, blocked

    (_, blocked), (got, _) = everywhere(main)
    stream = [number for _ in range(3000) for number in range(7)]
    assert got == {0: stream[::2], 1: stream[1::2]}
    assert blocked >= 0
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        everywhere(lambda env: net.partition(env, [1, "bad"], Turn()))
    with pytest.raises(OperatorError, match="prepare, next and commit"):
        everywhere(lambda env: net.partition(env, [1], 7))


class Grows(Turn):
    """It changes the batch that it was given."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def prepare(self, n_targets, source):
        self.n = n_targets

    def commit(self):
        self.batch.append(0)


@pytest.mark.parametrize("n", [2, 3])
def test_no_record_is_lost_where_there_are_more_than_targets(n):
    batch = [*range(100)]

    def main(env):
        with net.operator(env, "partition", sources=[0], targets=[0] * n, partitioner=Grows(batch)) as op:
            op.run({source: [batch] for source in op.local_sources}, 15.0)

    with pytest.raises(OperatorError, match="partitioner of the program of partition gave 100 targets for 101 records"):
        everywhere(main, 1)


def test_key_by_the_name_of_a_column():
    def main(env):
        table = numpy.zeros(100, [("value", "f8"), ("key", "i8")])
        table["key"] = numpy.arange(100) + env.worker_id
        with net.operator(env, "keyed_partition", sources=[0, 1], targets=[0, 1], key="key") as op:
            found = op.run({source: [table] for source in op.local_sources})
        keys = [int(key) for items in found.values() for item in items for key in item.value["key"]]
        assert all(task_of_key(key, 2) == env.worker_id for key in keys)
        return len(keys)

    assert sum(everywhere(main)) == 200
    with pytest.raises(OperatorError, match="no_such"):
        everywhere(lambda env: net.partition(env, numpy.zeros(3, [("a", "i8")]), key="no_such"))


PAIRS = [(1, "a"), (2, "b")]


class Alternates:
    """A partitioner that is an object."""

    def prepare(self, n_targets):
        self.n = n_targets

    def next(self, record):
        return 0

    def commit(self, record, target):
        pass


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda env: net.partition(env, [1], "round_robin", key=abs), "option 'key' .* 'round_robin' does not"),
        (lambda env: net.partition(env, [1], lambda r, n: 0, key=abs), "option 'key' .* of the program does not"),
        (lambda env: net.partition(env, [1], Alternates(), key=abs), "option 'key' .* of the program does not"),
        (
            lambda env: net.partition(env, [1], bounds=[1]),
            "option 'bounds' .* 'hash' does not .* give partitioner range",
        ),
        (lambda env: net.partition(env, [1], "skew", bounds=[1]), "option 'bounds' .* 'skew' does not"),
        (lambda env: net.partition(env, [1], descending=True), "option 'descending' .* 'hash' does not"),
        (lambda env: net.partition(env, [1], bounds=[1], algorithm="chain"), "option 'bounds' .* 'hash' does not"),
        (lambda env: net.keyed_partition(env, PAIRS, bounds=[1]), "option 'bounds' .* 'hash' does not"),
        (lambda env: net.keyed_gather(env, PAIRS, bounds=[1]), "option 'bounds' .* 'hash' does not"),
        (lambda env: net.join(env, PAIRS, PAIRS, bounds=[1]), "option 'bounds' .* 'hash' does not"),
    ],
)
def test_an_option_that_nobody_reads_is_refused(call, text):
    with pytest.raises(OperatorError) as caught:
        everywhere(call)
    assert re.search(text, " ".join(str(caught.value).split())), caught.value


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda env: net.partition(env, [1], "range", bounds=[5, 1]), "option 'bounds' .* 1 is less than the bound"),
        (lambda env: net.keyed_gather(env, PAIRS, partitioner="range", bounds=["b", "a"]), "option 'bounds' .* 'a' is"),
        (lambda env: net.partition(env, [1], "range", bounds=[1, "a"]), "two records cannot be compared"),
        (
            lambda env: net.partition(env, [1], "range", bounds=[1, 5], descending="no"),
            "option 'descending' .* 'no' is",
        ),
        (lambda env: net.keyed_gather(env, PAIRS, grouped="no"), "option 'grouped' .* 'no' is text .* True or False"),
    ],
)
def test_a_wrong_option_is_refused(call, text):
    with pytest.raises(OperatorError) as caught:
        LocalCluster(3, "loopback").run(call)
    assert re.search(text, " ".join(str(caught.value).split())), caught.value


def test_records_have_the_key_that_a_keyed_partition_is_given_whatever_the_partitioner():
    def call(env):
        return sorted(net.keyed_partition(env, [-2, 3], lambda record, n: record % n, key=abs))

    assert everywhere(call) == [[-2, -2], [3, 3]]


def test_the_key_of_what_is_gathered_is_read_whatever_the_partitioner():
    def call(env):
        return sorted(
            (key, sorted(values)) for key, values in net.keyed_gather(env, [1, -1], partitioner=lambda p, n: 0, key=abs)
        )

    assert everywhere(call) == [[(1, [-1, -1, 1, 1])], []]
