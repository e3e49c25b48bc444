"""Rules that read what vertices declare: sharing sources, leaving out columns, folding before a shuffle."""

from __future__ import annotations

import itertools

import attrs
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.graph import Graph
from twister2.graph.rewrite import RULES
from twister2.graph.typed import KeyedGatherCompute, RecordCompute
from twister2.spec.declarations import Declarations
from twister2.spec.errors import GraphError, OperatorError
from twister2.spec.tasks import END, Source
from twister2_testkit.graphs import EXECUTORS, KeepRecords, run_workers

pytestmark = pytest.mark.timeout(120)

DECLARED = ("share", "columns", "combine", "fuse")
"""The rules that find something to do in these graphs."""
SUBSETS = [some for n in range(len(DECLARED) + 1) for some in itertools.combinations(DECLARED, n)]


class Shown(RecordCompute):
    """Texts, which can be sorted."""

    def record(self, record, emit):
        emit(repr(record))


class Rows(Source):
    """Rows of a table (dicts), of which it notes what it gave."""

    read: list = []  # noqa: RUF012 - what all of them gave

    def __init__(self, index, rows, columns=None):
        self.batches = [rows[index::2]]
        self.columns = columns

    def poll(self):
        if not self.batches:
            return END
        rows = self.batches.pop()
        if self.columns is not None:
            rows = [{name: row[name] for name in self.columns} for row in rows]
        Rows.read.append((len(rows), self.columns))
        return rows


class Pick(RecordCompute):
    """Pairs of two columns; looks at nothing else."""

    def __init__(self, key, value):
        self.key, self.value = key, value

    def record(self, record, emit):
        emit((record[self.key], record[self.value]))


class Same(RecordCompute):
    def __init__(self, index):
        pass

    def record(self, record, emit):
        emit(record)


class Total(KeyedGatherCompute):
    declares = Declarations(folds="sum")

    def __init__(self, index=0):
        pass

    def group(self, key, values, emit):
        emit((key, sum(values)))


def table(graph, name, rows, identity="table", planner=None, **declared):
    """A source of rows that can read fewer columns."""

    def with_columns(columns):
        if planner is None:
            return lambda index: Rows(index, rows, columns)
        return lambda index, planned: Rows(index, planned, columns)

    make = (lambda index: Rows(index, rows)) if planner is None else (lambda index, planned: Rows(index, planned))
    declares = Declarations(identity=identity, with_columns=with_columns, **declared)
    return graph.add_source(name, make, 2, planner=planner, declares=declares)


def pick(graph, source, name, key, value, *, reads=True):
    declares = Declarations(reads=(key, value)) if reads else None
    graph.add_compute(name, lambda index: Pick(key, value), declares=declares)
    graph.connect(source, name)
    return name


def run(build, n_workers=2, executor="inline"):
    """What the sinks got in all, the reports of what was read, the plan."""
    Rows.read = []

    def main(env):
        graph = build()
        text = graph.explain(env)
        outputs = env.run(graph)
        return {name: [record for task in kept for record in task] for name, kept in outputs.items()}, text

    results = run_workers(n_workers, main, executor=executor)
    sinks = {name: sorted(record for outputs, _ in results for record in outputs[name]) for name in results[0][0]}
    assert len({text for _, text in results}) == 1, "workers plan differently"
    return sinks, list(Rows.read), results[0][1]


ROWS = [{"a": k % 3, "b": k, "c": -k} for k in range(20)]


def two_totals(rows=ROWS, reads=(True, True), identities=("table", "table"), planner=None, **graph):
    """Sums of b and of c by a, each from a source of its own, and what they have in common by a join."""
    built = Graph("two", **graph)
    for name, value, read, identity in zip("xy", "bc", reads, identities, strict=True):
        table(built, f"rows {name}", rows, identity, planner)
        pick(built, f"rows {name}", f"pick {name}", "a", value, reads=read)
        built.add_compute(f"total {name}", Total)
        built.connect(f"pick {name}", f"total {name}", "net.keyed_gather", grouped=True)
        built.add_compute(f"same {name}", Same)
        built.connect(f"total {name}", f"same {name}")
        built.add_compute(f"same again {name}", Same)
        built.connect(f"same {name}", f"same again {name}")
        built.add_sink(name, KeepRecords)
        built.connect(f"same again {name}", name)
    built.add_sink("both", KeepRecords)
    built.connect(["pick x", "pick y"], "both", "net.join")
    return built


def test_all_rules_at_once():
    sinks, read, text = run(two_totals)
    sums = {key: sum(row["b"] for row in ROWS if row["a"] == key) for key in range(3)}
    assert sinks["x"] == sorted(sums.items())
    assert sinks["y"] == sorted((key, -value) for key, value in sums.items())
    assert len(sinks["both"]) == sum(sum(row["a"] == key for row in ROWS) ** 2 for key in range(3))
    assert sorted(read) == [(10, ("a", "b", "c"))] * 2, "read once"
    for line in (
        "share: rows x is read in place of rows y: both are 'table'",
        "columns: rows x reads a, b, c only",
        "combine: total x gets values folded by 'sum': keyed_reduce in place of a gather",
        "combine: total y",
    ):
        assert line in text


@settings(max_examples=20, deadline=None, database=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.integers(-99, 99), "c": st.integers()}), max_size=20
    ),
    reads=st.tuples(st.booleans(), st.booleans()),
    identities=st.sampled_from([("t", "t"), ("t", "u"), (None, None)]),
    n_workers=st.integers(1, 3),
    executor=st.sampled_from(EXECUTORS),
    without=st.sets(st.sampled_from(sorted(RULES))),
)
def test_answers_are_the_same_with_every_subset(rows, reads, identities, n_workers, executor, without):
    # equal identities are a promise: the rows are the same
    found = [
        run(lambda left_out=left_out: two_totals(rows, reads, identities, without_rules=left_out), n_workers, executor)
        for left_out in ((), without, tuple(RULES))
    ]
    assert found[0][0] == found[1][0] == found[2][0]


@pytest.mark.parametrize("without", SUBSETS, ids=lambda without: "+".join(without) or "all")
def test_each_rule_is_switched_off_by_its_name(without):
    _, read, text = run(lambda: two_totals(without_rules=without))
    for rule in RULES:
        assert (f"  {rule}: " in text) == (rule in DECLARED and rule not in without), rule
    assert len(read) == (4 if "share" in without else 2)
    assert all(columns is None for _, columns in read) == ("columns" in without)


class TestShare:
    def test_other_identities_are_other_sources(self):
        assert len(run(lambda: two_totals(identities=("table", "other")))[1]) == 4

    def test_nothing_declared_is_nothing_known(self):
        assert len(run(lambda: two_totals(identities=(None, None)))[1]) == 4

    def test_what_planners_gave_must_be_the_same(self):
        calls = itertools.count()
        _, read, _ = run(lambda: two_totals(planner=lambda: ROWS))
        assert len(read) == 2
        _, read, _ = run(lambda: two_totals(planner=lambda: [*ROWS, {"a": next(calls), "b": 1, "c": 1}]))
        assert len(read) == 4

    def test_a_source_of_another_size_or_place_stays(self):
        def sized(change):
            def build():
                graph = two_totals(reads=(False, False))
                change(graph)
                return graph

            return build

        def elsewhere(graph):
            graph.place("rows y", [1, 1])

        def asking(graph):
            graph.vertices["rows y"] = attrs.evolve(
                graph.vertices["rows y"], memory_mb=5, asks=frozenset({"memory_mb"})
            )

        for change in (elsewhere, asking):
            assert len(run(sized(change))[1]) == 4, change

    def test_a_source_joined_with_itself(self):
        def build():
            graph = Graph("self")
            for name in "xy":
                table(graph, name, [{"a": 1, "b": 2}, {"a": 2, "b": 3}])
                pick(graph, name, f"pick {name}", "a", "b")
            graph.add_sink("joined", KeepRecords)
            graph.connect(["pick x", "pick y"], "joined", "net.join")
            return graph

        sinks, read, _ = run(build)
        assert sinks["joined"] == [(1, (2, 2)), (2, (3, 3))]
        assert len(read) == 2


class TestColumns:
    def test_one_who_may_look_at_all_keeps_all(self):
        _, read, text = run(lambda: two_totals(reads=(True, False)))
        assert all(columns is None for _, columns in read)
        assert "columns:" not in text

    def test_an_operator_between_that_moves_records_keeps_all(self):
        def build():
            graph = Graph("moved")
            table(graph, "rows", ROWS)
            graph.add_compute("pick", lambda index: Pick("a", "b"), declares=Declarations(reads=("a", "b")))
            graph.connect("rows", "pick", "net.partition", key=lambda row: row["c"])
            graph.add_sink("kept", KeepRecords)
            graph.connect("pick", "kept")
            return graph

        assert all(columns is None for _, columns in run(build)[1])

    @pytest.mark.parametrize(
        ("declares", "operator", "options", "columns"),
        [
            (Declarations(looks_at=("c",)), "net.direct", {}, ("c", "a", "b")),
            (Declarations(passes_on=True), "net.partition", {"key": "c"}, ("c", "a", "b")),
            (Declarations(passes_on=True), "net.sort", {"key": "a"}, ("a", "b")),
            (Declarations(looks_at=()), "net.direct", {}, ("a", "b")),
            (Declarations(never_more=True), "net.sort", {"key": "a"}, None),
        ],
    )
    def test_rows_on_their_way_to_who_looks_at_them(self, declares, operator, options, columns):
        def build(without=()):
            graph = Graph("way", without_rules=without)
            table(graph, "rows", ROWS)
            graph.add_compute("same", Same, declares=declares)
            graph.connect("rows", "same", operator, **options)
            pick(graph, "same", "pick", "a", "b")
            graph.add_sink("kept", KeepRecords)
            graph.connect("pick", "kept")
            return graph

        sinks, read, _ = run(build)
        assert {looked for _, looked in read} == {columns}
        assert sinks == run(lambda: build(["columns"]))[0]

    def test_a_source_that_cannot_do_it_says_so_with_none(self):
        def build():
            graph = Graph("cannot")
            declares = Declarations(with_columns=lambda columns: None)
            graph.add_source("rows", lambda index: Rows(index, ROWS), 2, declares=declares)
            pick(graph, "rows", "pick", "a", "b")
            graph.add_sink("kept", KeepRecords)
            graph.connect("pick", "kept")
            return graph

        assert all(columns is None for _, columns in run(build)[1])

    @pytest.mark.parametrize(
        ("options", "columns"),
        [
            ({"key": "a", "aggregates": {"n": "count", "s": ("b", "sum")}}, ("a", "b")),
            ({"key": ["c", "a"], "aggregates": {"s": ("c", "max")}}, ("c", "a")),
            ({"aggregates": {"s": ("b", "sum"), "m": ("b", "min")}}, ("b",)),
            ({"aggregates": {"n": "count"}}, None),
            ({"key": lambda row: row["a"], "aggregates": {"n": "count"}}, None),
            ({"key": "a", "aggregates": {"s": (lambda row: row["b"], "sum")}}, None),
            ({"key": "a", "aggregates": "count"}, None),
            ({"key": "a", "zero": 0, "add": lambda n, row: n + row["c"], "merge": max}, None),
        ],
    )
    def test_an_aggregate_of_columns_reads_these(self, options, columns):
        def build(without=()):
            graph = Graph("aggregated", without_rules=without)
            table(graph, "rows", ROWS)
            graph.add_compute("shown", lambda index: Shown(), 1)
            graph.connect("rows", "shown", "net.aggregate", **options)
            graph.add_sink("kept", KeepRecords)
            graph.connect("shown", "kept")
            return graph

        sinks, read, _ = run(build)
        assert sinks == run(lambda: build(["columns"]))[0]
        assert {looked for _, looked in read} == {columns}

    @pytest.mark.parametrize(
        "options", [{"key": 5}, {"aggregates": {"s": 5}}, {"aggregates": {"s": ()}}, {"aggregates": {"s": "b"}}]
    )
    def test_options_that_are_wrong_are_told_by_the_operator(self, options):
        def build():
            graph = Graph("wrong")
            table(graph, "rows", ROWS)
            graph.add_sink("kept", KeepRecords)
            graph.connect("rows", "kept", "net.aggregate", **{"aggregates": {"n": "count"}} | options)
            return graph

        with pytest.raises(OperatorError):
            run(build)

    def test_what_a_planner_gave_reaches_the_source_that_reads_less(self):
        _, read, _ = run(lambda: two_totals(planner=lambda: ROWS))
        assert read == [(10, ("a", "b", "c"))] * 2


class TestCombine:
    @pytest.mark.parametrize("options", [{"grouped": True, "order": None}, {"grouped": False}])
    def test_other_options_keep_the_gather(self, options):
        def build():
            graph = Graph("options")
            table(graph, "rows", ROWS)
            pick(graph, "rows", "pick", "a", "b")
            graph.add_compute("total", Total)
            graph.connect("pick", "total", "net.keyed_gather", **options)
            graph.add_sink("kept", KeepRecords)
            graph.connect("total", "kept")
            return graph

        def main(env):
            return build().explain(env)

        assert "combine:" not in run_workers(1, main)[0]

    def test_less_is_sent(self):
        def main(env, without):
            graph = two_totals([{"a": k % 2, "b": 1, "c": 1} for k in range(1000)], without_rules=without)
            with env.prepare(graph) as prepared:
                prepared.run()
                counters = env.runner.plan(graph).execution.counters()
            return sum(values["records"] for name, values in counters.items() if "->total" in name)

        with_rule = sum(run_workers(2, lambda env: main(env, ())))
        without = sum(run_workers(2, lambda env: main(env, ("combine",))))
        assert with_rule < 20 < 2000 <= without

    def test_columns_are_folded_too(self):
        class Batches(Source):
            def __init__(self, index):
                self.batches = [pa.RecordBatch.from_pydict({"k": [1, 2, 1], "v": [index, 2, 3]})]

            def poll(self):
                return self.batches.pop() if self.batches else END

        def build():
            graph = Graph("arrow")
            graph.add_source("rows", Batches, 2)
            graph.add_compute("total", Total)
            graph.connect("rows", "total", "net.keyed_gather", grouped=True)
            graph.add_sink("kept", KeepRecords)
            graph.connect("total", "kept")
            return graph

        sinks, _, text = run(build)
        assert sinks == {"kept": [(1, 7), (2, 4)]}
        assert "combine:" in text


def test_something_else_than_declarations_is_refused():
    with pytest.raises(GraphError, match="declares is dict"):
        Graph().add_source("a", KeepRecords, declares={"identity": 1})
