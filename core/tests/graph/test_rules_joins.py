"""Rules that decide what keyed operators send: broadcast_join and colocate."""

from __future__ import annotations

import math
import operator
from collections import Counter

import attrs
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.config.job import GraphConfig
from twister2.graph import Graph, Stored
from twister2.graph.compile import BROADCAST_MB
from twister2.graph.rewrite import RULES
from twister2.graph.typed import RecordCompute
from twister2.spec.declarations import Declarations
from twister2.spec.errors import OperatorError
from twister2.spec.hashing import task_of_key
from twister2.spec.tasks import END, Source
from twister2_testkit.graphs import EXECUTORS, KeepRecords, run_workers

pytestmark = pytest.mark.timeout(300)

SUBSETS = st.sets(st.sampled_from(sorted(RULES)))
HOW = st.sampled_from(["inner", "left", "right", "full"])
SMALL, LARGE = 1, 1 << 40

KEYS = {
    "pairs": st.sampled_from([None, math.nan, 0, 1, 2, 1.0, True, -1, "a", "b", (1, "x"), (None, math.nan)]),
    "arrow": st.sampled_from([None, math.nan, 0.0, 1.0, 2.0, -1.0, 0.5]),
}


def parts_of(form):
    """Partitions of (key, number), some of them empty."""
    pair = st.tuples(KEYS[form], st.integers(0, 9))
    return st.lists(st.lists(pair, max_size=8), min_size=1, max_size=4)


class Parts(Source):
    """The pairs of a partition, as lists or as Arrow batches, each in two."""

    def __init__(self, pairs, form="pairs", name="v"):
        half = len(pairs) // 2
        self.batches = [part for part in (pairs[:half], pairs[half:]) if part]
        if form == "arrow":
            self.batches = [
                pa.record_batch({"k": pa.array([k for k, _ in part], pa.float64()), name: [v for _, v in part]})
                for part in self.batches
            ]

    def poll(self):
        return self.batches.pop() if self.batches else END


class Same(RecordCompute):
    narrow = True
    declares = Declarations(keeps_keys=True, never_more=True)

    def __init__(self, index):
        pass

    def record(self, record, emit):
        emit(record)


class Wide(Same):
    narrow = False


class Indifferent(Wide):
    declares = Declarations(indifferent=True)


class Particular(Same):
    declares = Declarations(keeps_keys=True, indifferent=False)


class Turned(RecordCompute):
    """Pairs the other way round: does not keep keys, and does not say so."""

    narrow = True

    def __init__(self, index):
        pass

    def record(self, record, emit):
        emit((record[1], record[0]))


class Kept(KeepRecords):
    narrow = True


def normal(value):
    """Equal for what operators take for equal."""
    if isinstance(value, dict):
        return (normal(value["k"]), (value.get("l"), value.get("r")))
    if isinstance(value, (tuple, list)):
        return tuple(map(normal, value))
    if isinstance(value, (bool, int, float)):
        return "nan" if value != value else float(value)
    return value


def plain_join(left, right, how):
    """The join of two lists of pairs."""
    found = Counter()
    for key, value in left:
        partners = [other for its, other in right if normal(its) == normal(key)]
        for other in partners or ([None] if how in ("left", "full") else []):
            found[normal((key, (value, other)))] += 1
    if how in ("right", "full"):
        keys = {normal(key) for key, _ in left}
        found.update(normal((key, (None, other))) for key, other in right if normal(key) not in keys)
    return found


def flat(parts):
    return [pair for part in parts for pair in part]


def add_side(graph, name, parts, form, size=None):
    declares = Declarations(n_bytes=size)
    graph.add_source(name, lambda index: Parts(parts[index], form, name[0]), len(parts), declares=declares)


def run(build, n_workers=2, executor="inline"):
    """What the sinks kept, as a bag; the plan."""

    def main(env):
        with env.prepare(build()) as prepared:
            outputs = prepared.run()
            return [normal(record) for task in outputs["kept"] for record in task], prepared.explain()

    results = run_workers(n_workers, main, executor=executor)
    assert len({text for _, text in results}) == 1, "workers plan differently"
    return Counter(record for records, _ in results for record in records), results[0][1]


def joined(left, right, how="inner", *, form="pairs", bytes_of=(LARGE, SMALL), tasks=None, behind=None, **options):
    """A join of two sources, with a step behind it."""
    without = options.pop("without", ())
    graph = Graph("joined", without_rules=without)
    for name, parts, size in zip(("left", "right"), (left, right), bytes_of, strict=True):
        add_side(graph, name, parts, form, size)
    graph.add_compute("join", behind or Same, tasks)
    graph.connect(["left", "right"], "join", "net.join", how=how, **options)
    graph.add_sink("kept", Kept)
    graph.connect("join", "kept")
    return graph


@settings(max_examples=20, deadline=None, database=None)
@given(
    data=st.data(),
    form=st.sampled_from(["pairs", "arrow"]),
    how=HOW,
    bytes_of=st.sampled_from([(LARGE, SMALL), (SMALL, LARGE), (None, SMALL), (SMALL, None), (SMALL, SMALL)]),
    n_workers=st.integers(1, 3),
    executor=st.sampled_from(EXECUTORS),
    without=SUBSETS,
)
def test_joins_are_the_same_with_every_subset(data, form, how, bytes_of, n_workers, executor, without):
    left, right = data.draw(parts_of(form)), data.draw(parts_of(form))
    tasks = data.draw(st.sampled_from([None, 1, 2, 3]))
    expected = plain_join(flat(left), flat(right), how)
    for left_out in ((), without, tuple(RULES)):
        found, _ = run(
            lambda left_out=left_out: joined(
                left, right, how, form=form, bytes_of=bytes_of, tasks=tasks, without=left_out
            ),
            n_workers,
            executor,
        )
        assert found == expected, left_out


def by_first(pair, n):
    return 0


TWO = [[(1, 1), (2, 2)], [(1, 3), (3, 4)]]


class TestBroadcastJoin:
    @pytest.mark.parametrize(
        ("how", "bytes_of", "side"),
        [
            ("inner", (LARGE, SMALL), "right"),
            ("inner", (SMALL, LARGE), "left"),
            ("left", (LARGE, SMALL), "right"),
            ("left", (SMALL, LARGE), None),
            ("right", (SMALL, LARGE), "left"),
            ("right", (LARGE, SMALL), None),
            ("full", (LARGE, SMALL), None),
            ("full", (SMALL, LARGE), None),
            ("inner", (None, SMALL), "right"),
            ("inner", (None, None), None),
            ("inner", (LARGE, None), None),
            ("inner", (LARGE, LARGE), None),
            ("inner", (SMALL, SMALL), None),
        ],
    )
    def test_which_side_goes_to_all(self, how, bytes_of, side):
        found, text = run(lambda: joined(TWO, TWO, how, bytes_of=bytes_of))
        assert found == plain_join(flat(TWO), flat(TWO), how)
        assert (f"the {side} side" in text) if side else "broadcast_join" not in text

    def test_the_reason_is_told_with_numbers(self):
        text = run(lambda: joined(TWO, TWO, bytes_of=(50 << 20, 1 << 20)))[1]
        assert (
            "broadcast_join: join: the right side, right, about 1.0 MiB of at most 8.0 MiB, goes to all 2 tasks; "
            "left, about 50.0 MiB, stays where it is" in text
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"algorithm": "sort"},
            {"order": True},
            {"partitioner": by_first},
            {"broadcast": None},
            {"bytes_of": (LARGE, 9 << 20)},
            {"behind": Wide},
            {"behind": Particular},
            {"tasks": 3},
            {"tasks": 1},
            {"without": ["broadcast_join"]},
        ],
        ids=lambda options: "+".join(options),
    )
    def test_when_it_does_not_apply(self, options):
        found, text = run(lambda: joined(TWO, TWO, **options))
        assert "broadcast_join" not in text
        assert found == plain_join(flat(TWO), flat(TWO), "inner")

    @pytest.mark.parametrize("key", ["k", ["k"]])
    def test_keys_by_name(self, key):
        keys = {"left_key": key, "right_key": key}
        found, text = run(lambda: joined(TWO, TWO, form="arrow", **keys))
        assert "broadcast_join:" in text
        assert found == plain_join(flat(TWO), flat(TWO), "inner")

    def test_a_step_that_says_it_is_indifferent(self):
        assert "broadcast_join:" in run(lambda: joined(TWO, TWO, behind=Indifferent))[1]

    def test_a_sink_that_does_not_say_how_it_takes_records(self):
        def build():
            graph = joined(TWO, TWO)
            graph.vertices["kept"] = attrs.evolve(graph.vertices["kept"], narrow=False)
            return graph

        assert "broadcast_join" not in run(build)[1]

    def test_a_step_that_gets_partitions_of_a_stored_set(self):
        def main(env):
            graph = Graph("kept")
            add_side(graph, "numbers", TWO, "pairs")
            stored = graph.keep("numbers")
            env.run(graph)
            graph = joined(TWO, TWO)
            graph.give("join", "numbers", stored)
            with env.prepare(graph) as prepared:
                return prepared.explain()

        assert "broadcast_join" not in run_workers(2, main)[0]

    def test_what_spreads_records_anew_ends_the_question(self):
        def build():
            graph = joined(TWO, TWO)
            graph.add_compute("wide", Wide)
            graph.connect("join", "wide", "net.keyed_partition")
            graph.add_sink("other", Kept)
            graph.connect("wide", "other")
            return graph

        assert "broadcast_join:" in run(build)[1]

    @pytest.mark.parametrize(("how", "side"), [("full", "left"), ("left", "left"), ("right", "right"), ("inner", "up")])
    def test_a_side_that_would_give_wrong_answers_is_refused(self, how, side):
        with pytest.raises(OperatorError, match="cannot go to all targets"):
            run(lambda: joined(TWO, TWO, how, broadcast=side))

    def test_a_side_and_a_partitioner_contradict_each_other(self):
        with pytest.raises(OperatorError, match="give one of the two"):
            run(lambda: joined(TWO, TWO, broadcast="left", partitioner=by_first))

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_a_side_that_the_program_chose(self, side):
        found, text = run(lambda: joined(TWO, TWO, broadcast=side, bytes_of=(None, None), behind=Wide))
        assert found == plain_join(flat(TWO), flat(TWO), "inner")
        assert f"broadcast='{side}'" in text

    def test_the_limit_is_an_option_of_the_job(self):
        assert GraphConfig().broadcast_mb == BROADCAST_MB


class TestSizes:
    """How the size of what comes out of steps is known."""

    def sized(self, step, declares, operator="net.direct", **options):
        def build():
            graph = Graph("sized")
            add_side(graph, "left", TWO, "pairs", LARGE)
            add_side(graph, "right", TWO, "pairs", SMALL)
            graph.add_compute("step", step, declares=declares)
            graph.connect("right", "step", operator, **options)
            graph.add_compute("join", Same)
            graph.connect(["left", "step"], "join", "net.join")
            graph.add_sink("kept", Kept)
            graph.connect("join", "kept")
            return graph

        return "broadcast_join:" in run(build)[1]

    def test_a_step_that_gives_no_more_than_it_gets(self):
        assert self.sized(Same, Declarations(never_more=True))
        assert not self.sized(Same, Declarations())

    def test_operators_that_give_no_more(self):
        told = Declarations(never_more=True)
        assert self.sized(Same, told, "net.keyed_reduce", reducer="sum")
        assert self.sized(Same, told, "net.keyed_partition")
        assert not self.sized(Same, told, "net.broadcast")

    def test_sizes_that_planners_tell(self):
        @attrs.frozen
        class Planned:
            sizes: list

        def build():
            graph = Graph("planned")
            for name, size in (("left", LARGE), ("right", SMALL)):
                make = lambda index, planned, name=name: Parts(TWO[index], name=name)  # noqa: E731
                graph.add_source(name, make, 2, planner=lambda size=size: Planned([size, size]))
            graph.add_compute("join", Same)
            graph.connect(["left", "right"], "join", "net.join")
            graph.add_sink("kept", Kept)
            graph.connect("join", "kept")
            return graph

        assert "the right side, right, about 2 bytes" in run(build)[1]
        for text in run_workers(2, lambda env: build().explain(env)):
            assert "the right side, right, about 2 bytes" in text
            assert "not known here" not in text

    def test_a_planner_that_fails_leaves_sizes_open_until_the_graph_is_run(self):
        def main(env):
            graph = Graph("fails")
            graph.add_source("left", lambda index, planned: Parts([]), 2, planner=lambda: 1 // 0)
            add_side(graph, "right", TWO, "pairs", SMALL)
            graph.add_compute("join", Same)
            graph.connect(["left", "right"], "join", "net.join")
            graph.add_sink("kept", Kept)
            graph.connect("join", "kept")
            return graph.explain(env)

        for text in run_workers(2, main):
            assert "how much there is of left is not known here" in text

    @pytest.mark.parametrize("n_workers", [1, 2, 3])
    def test_stored_sets_are_as_large_as_they_are_on_all_workers(self, n_workers):
        large, small = [[(k % 7, k) for k in range(9000)], [(1, 1)], []], [[(1, "a")], [], [(2, "b")]]

        def main(env):
            graph = Graph("kept")
            stored = []
            for name, parts in (("large", large), ("small", small)):
                add_side(graph, name, parts, "pairs")
                stored.append(graph.keep(name))
            env.run(graph)
            graph = Graph("joined")
            names = [graph.add_stored(one) for one in stored]
            graph.add_compute("join", Same)
            graph.connect(names, "join", "net.join")
            graph.add_sink("kept", Kept)
            graph.connect("join", "kept")
            with env.prepare(graph) as prepared:
                outputs = prepared.run()
                return [normal(record) for task in outputs["kept"] for record in task], prepared.explain()

        results = run_workers(n_workers, main)
        assert len({text for _, text in results}) == 1
        assert "the right side, kept small" in results[0][1]
        found = Counter(record for records, _ in results for record in records)
        assert found == plain_join(flat(large), flat(small), "inner")


# -- colocate --------------------------------------------------------------------------------------------------------

AGGREGATED = {"aggregates": "sum", "pairs": True}
BEFORE = st.sampled_from(
    [
        None,
        ("net.keyed_partition", {}),
        ("net.keyed_partition", {"partitioner": "range"}),
        ("net.keyed_reduce", {"reducer": max}),
        ("net.keyed_gather", {"grouped": False}),
        ("net.aggregate", AGGREGATED),
        ("net.partition", {"key": lambda pair: pair[1]}),
    ]
)
STEP = st.sampled_from([Same, Wide, Turned])
FOLDED = {"zero": list, "add": lambda found, one: [*found, one], "merge": operator.add, "pairs": True}
AFTERS = {
    "net.keyed_gather": {},
    "net.keyed_partition": {},
    "net.co_group": {},
    "net.keyed_reduce": {"reducer": lambda a, b: max(a, b, key=repr)},
    "net.aggregate": FOLDED,
}
AFTER = st.sampled_from([None, *AFTERS])
COMPARABLE = st.sampled_from([-1, 0, 1, 2, 3, 0.5])


def chained(sides, befores, steps, sizes, how, tasks, after, without):
    """A join of two sides, each brought in some way before it; then another keyed operator."""
    graph = Graph("chained", without_rules=without)
    names = []
    for name, parts, before, step, count in zip(("left", "right"), sides, befores, steps, sizes, strict=True):
        add_side(graph, name, parts, "pairs", SMALL if name == "right" else LARGE)
        names.append(name)
        if before is not None:
            graph.add_compute(f"{name} lies", Same, count)
            graph.connect(name, f"{name} lies", before[0], **before[1])
            graph.add_compute(f"{name} step", step, count)
            graph.connect(f"{name} lies", f"{name} step")
            names[-1] = f"{name} step"
    graph.add_compute("join", Same, tasks)
    graph.connect(names, "join", "net.join", how=how)
    last = "join"
    if after is not None:
        graph.add_compute("after", Same, tasks)
        sources = ["join", "join"] if after == "net.co_group" else "join"
        graph.connect(sources, "after", after, **AFTERS[after])
        last = "after"
    graph.add_sink("kept", Kept)
    graph.connect(last, "kept")
    return graph


def unordered(records, after):
    """Values of groups come in any order: those of a key behind keyed_gather, those of each side behind co_group."""

    def in_order(record):
        key, found = record
        if after in ("net.keyed_gather", "net.aggregate"):
            return key, sorted(map(repr, found))
        if after == "net.co_group":
            return key, [sorted(map(repr, side)) for side in found]
        return record

    return Counter(repr(in_order(record)) for record in records.elements())


@settings(max_examples=20, deadline=None, database=None)
@given(
    data=st.data(),
    befores=st.tuples(BEFORE, BEFORE),
    steps=st.tuples(STEP, STEP),
    sizes=st.tuples(st.integers(2, 3), st.integers(2, 3)),
    how=HOW,
    tasks=st.integers(1, 3),
    after=AFTER,
    n_workers=st.integers(1, 3),
    without=SUBSETS,
)
def test_what_lies_by_key_gives_the_same_with_every_subset(
    data, befores, steps, sizes, how, tasks, after, n_workers, without
):
    parts = st.lists(st.lists(st.tuples(COMPARABLE, COMPARABLE), max_size=6), min_size=1, max_size=3)
    sides = data.draw(parts), data.draw(parts)
    found = [
        run(lambda left_out=left_out: chained(sides, befores, steps, sizes, how, tasks, after, left_out), n_workers)[0]
        for left_out in ((), without, tuple(RULES))
    ]
    assert unordered(found[0], after) == unordered(found[1], after) == unordered(found[2], after)


HASHED = ("net.keyed_partition", {})


def explained(env, options):
    """The plan of an aggregate of these options, with groups behind it."""
    graph = Graph("aggregated")
    add_side(graph, "left", TWO, "pairs", LARGE)
    graph.add_compute("found", Same, 2)
    graph.connect("left", "found", "net.aggregate", **options)
    graph.add_sink("kept", Kept)
    graph.connect("found", "kept", "net.keyed_gather")
    with env.prepare(graph) as prepared:
        return prepared.explain()


class TestColocate:
    def text(self, befores=(HASHED, HASHED), steps=(Same, Same), sizes=(2, 2), tasks=2, after=None, without=()):
        return run(lambda: chained((TWO, TWO), befores, steps, sizes, "inner", tasks, after, without))[1]

    def test_both_sides(self):
        text = self.text()
        assert "colocate: join takes left step and right step in place: by key in 2 partitions already" in text
        assert "in_place=0 and 1" in text
        assert "broadcast_join" not in text, "what lies by key is not sent anyway"

    def test_one_side(self):
        assert "colocate: join takes left step in place" in self.text((HASHED, None))
        assert "in_place=0" in self.text((HASHED, None))

    @pytest.mark.parametrize("operator", AFTERS)
    def test_behind_a_join(self, operator):
        assert "colocate: after takes join in place" in self.text((HASHED, None), after=operator)

    @pytest.mark.parametrize(
        "before",
        [("net.keyed_reduce", {"reducer": max}), ("net.aggregate", AGGREGATED), ("net.aggregate", FOLDED)],
    )
    def test_in_front_of_a_join(self, before):
        assert "colocate: join takes left step in place" in self.text((before, None))

    @pytest.mark.parametrize("other", [{"key": operator.itemgetter(0)}, {}, {"pairs": False}])
    def test_results_that_do_not_lie_by_the_key_of_a_pair(self, other):
        """A key of one's own; and one result of all, which every target gets."""
        options = {name: value for name, value in FOLDED.items() if name != "pairs"} | other
        assert all("colocate:" not in text for text in run_workers(2, lambda env: explained(env, options)))
        assert all("colocate:" in text for text in run_workers(2, lambda env: explained(env, FOLDED)))

    def test_behind_a_join_of_which_one_side_went_to_all(self):
        text = self.text((None, None), after="net.keyed_gather")
        assert "broadcast_join:" in text
        assert "colocate" not in text

    @pytest.mark.parametrize(
        "different",
        [
            {"sizes": (3, 3)},
            {"steps": (Turned, Turned)},
            {"befores": (("net.keyed_partition", {"partitioner": "range"}),) * 2},
            {"befores": (("net.keyed_partition", {"key": operator.itemgetter(1)}),) * 2},
            {"befores": (("net.partition", {}),) * 2},
            {"without": ("colocate",)},
        ],
        ids=lambda options: "+".join(options),
    )
    def test_when_it_does_not_apply(self, different):
        assert "colocate" not in self.text(**different)

    def test_a_source_may_say_how_its_pairs_lie(self):
        parts = [[(k, k) for k in range(40) if task_of_key(k, 3) == task] for task in range(3)]

        def build():
            graph = Graph("declared")
            graph.add_source("pairs", lambda index: Parts(parts[index]), 3, declares=Declarations(partitioned=()))
            graph.add_sink("kept", Kept)
            graph.connect("pairs", "kept", "net.keyed_gather")
            return graph

        found, text = run(build)
        assert "colocate: kept takes pairs in place" in text
        assert found == Counter(normal((k, [k])) for k in range(40))

    @pytest.mark.parametrize("in_place", [(1,), (0, 5), ("a",)])
    def test_inputs_that_cannot_lie_so_are_refused(self, in_place):
        with pytest.raises(OperatorError, match="in_place"):
            run(lambda: joined(TWO, [*TWO, []], tasks=2, in_place=in_place))

    @pytest.mark.parametrize("n_workers", [1, 2, 3])
    def test_stored_sets_remember_how_they_lie(self, n_workers):
        sides = [[[(k % 11, f"{name}{k}") for k in range(task, 50, 3)] for task in range(3)] for name in "lr"]

        def keep(env, operator, into, parts):
            graph = Graph("keep")
            add_side(graph, "pairs", parts, "pairs")
            graph.keep("pairs", operator, into=into)
            env.run(graph)

        def main(env):
            stored = [Stored("left"), Stored("right")]
            for one, parts in zip(stored, sides, strict=True):
                keep(env, "net.keyed_partition", one, parts)
            graph = Graph("join")
            graph.add_sink("kept", Kept)
            graph.connect([graph.add_stored(one) for one in stored], "kept", "net.join")
            found = []
            with env.prepare(graph) as prepared:
                for operator in ("net.keyed_partition", "net.direct", "net.keyed_partition"):
                    keep(env, operator, stored[0], sides[0])  # other records by the same name
                    outputs = prepared.run()
                    records = [normal(record) for task in outputs["kept"] for record in task]
                    found.append((records, prepared.explain()))
            return found

        results = run_workers(n_workers, main)
        expected = plain_join(flat(sides[0]), flat(sides[1]), "inner")
        for runs, inputs in zip(zip(*results, strict=True), ("0 and 1", "1", "0 and 1"), strict=True):
            assert Counter(record for records, _ in runs for record in records) == expected
            assert f"in_place={inputs}\n" in runs[0][1] or f"in_place={inputs} " in runs[0][1]
