"""Rule predicates: sources that filter in the place of the steps behind them."""

from __future__ import annotations

import operator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.graph import Graph
from twister2.graph.rewrite import RULES
from twister2.graph.typed import RecordCompute
from twister2.spec.declarations import Declarations
from twister2.spec.tasks import END, Source
from twister2_testkit.graphs import EXECUTORS, KeepRecords, run_workers

pytestmark = pytest.mark.timeout(300)

RELATIONS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, ">=": operator.ge}


def fits(row, predicate):
    return all(row[name] is not None and RELATIONS[how](row[name], value) for name, how, value in predicate)


class Rows(Source):
    """Rows (dicts) of a partition."""

    read: list = []  # noqa: RUF012 - what all of them gave

    def __init__(self, rows, columns=None, predicate=()):
        self.rows, self.columns, self.predicate = rows, columns, predicate

    def poll(self):
        if self.rows is None:
            return END
        rows, self.rows = [row for row in self.rows if fits(row, self.predicate)], None
        Rows.read.append((len(rows), self.columns))
        return [row if self.columns is None else {name: row[name] for name in self.columns} for row in rows]


@attrs.frozen
class Table:
    """``make(index)``; reads less when it is asked to. :ivar knows: relations that it can do."""

    parts: list
    columns: tuple | None = None
    predicate: tuple = ()
    knows: tuple = tuple(RELATIONS)

    def __call__(self, index):
        return Rows(self.parts[index], self.columns, self.predicate)

    @property
    def declares(self):
        return Declarations(with_columns=self.with_columns, with_predicate=self.with_predicate)

    def with_columns(self, names):
        return attrs.evolve(self, columns=names)

    def with_predicate(self, predicate):
        if any(how not in self.knows for _, how, _ in predicate):
            return None
        return attrs.evolve(self, predicate=(*self.predicate, *predicate))


class Where(RecordCompute):
    narrow = True

    def __init__(self, predicate):
        self.predicate = predicate

    def record(self, record, emit):
        if fits(record, self.predicate):
            emit(record)


class Pick(RecordCompute):
    def __init__(self, names):
        self.names = names

    def record(self, record, emit):
        emit(tuple(record[name] for name in self.names))


def filtered(
    table,
    predicates,
    names=("a", "b"),
    *,
    operator="net.direct",
    change=lambda graph: None,
    without_rules=(),
    **options,
):
    """A table, a step for each predicate, and a choice of columns."""
    graph = Graph("filtered", without_rules=without_rules)
    graph.add_source("table", table, len(table.parts))
    last = "table"
    for number, predicate in enumerate(predicates):
        name = f"where {number}"
        graph.add_compute(
            name, lambda index, predicate=predicate: Where(predicate), declares=Declarations(predicate=predicate)
        )
        graph.connect(last, name, operator, **options)
        last = name
    graph.add_compute("pick", lambda index: Pick(names), declares=Declarations(reads=names))
    graph.connect(last, "pick", operator, **options)
    graph.add_sink("kept", KeepRecords)
    graph.connect("pick", "kept")
    change(graph)
    return graph


def run(build, n_workers=2, executor="inline"):
    """What was kept, what was read, the plan."""
    Rows.read = []

    def main(env):
        with env.prepare(build()) as prepared:
            outputs = prepared.run()
            return [record for task in outputs["kept"] for record in task], prepared.explain()

    results = run_workers(n_workers, main, executor=executor)
    assert len({text for _, text in results}) == 1, "workers plan differently"
    return sorted((record for records, _ in results for record in records), key=ordered), Rows.read, results[0][1]


def ordered(record):
    """None is smaller than numbers."""
    return tuple((value is not None, value) for value in record)


VALUE = st.one_of(st.none(), st.integers(0, 4))
ROW = st.fixed_dictionaries({"a": VALUE, "b": VALUE, "c": VALUE})
ONE = st.tuples(st.sampled_from("abc"), st.sampled_from(sorted(RELATIONS)), st.integers(0, 4))


@settings(max_examples=20, deadline=None, database=None)
@given(
    parts=st.lists(st.lists(ROW, max_size=6), min_size=1, max_size=3),
    predicates=st.lists(st.lists(ONE, min_size=1, max_size=2).map(tuple), max_size=3),
    knows=st.sets(st.sampled_from(sorted(RELATIONS))).map(tuple),
    n_workers=st.integers(1, 3),
    executor=st.sampled_from(EXECUTORS),
    without=st.sets(st.sampled_from(sorted(RULES))),
)
def test_answers_are_the_same_with_every_subset(parts, predicates, knows, n_workers, executor, without):
    rows = [row for part in parts for row in part if all(fits(row, predicate) for predicate in predicates)]
    expected = sorted(((row["a"], row["b"]) for row in rows), key=ordered)
    for left_out in ((), without, tuple(RULES)):
        table = Table(parts, knows=knows)
        found, _, _ = run(
            lambda table=table, left_out=left_out: filtered(table, predicates, without_rules=left_out),
            n_workers,
            executor,
        )
        assert found == expected, left_out


PARTS = [[{"a": k % 3, "b": k, "c": -k} for k in range(task, 20, 2)] for task in range(2)]
TWICE = [(("a", "==", 1),), (("b", "<", 10), ("c", "!=", -4))]


def test_the_source_reads_what_passes_all_steps():
    found, read, text = run(lambda: filtered(Table(PARTS), TWICE))
    assert found == sorted((k % 3, k) for k in range(10) if k % 3 == 1 and k != 4)
    assert sum(count for count, _ in read) == len(found)
    assert "predicates: table gives only rows with a == 1 and b < 10 and c != -4" in text
    assert "where 0" not in text.split("rules")[0]
    assert {columns for _, columns in read} == {("a", "b")}, "then nobody looks at c"


def test_as_many_steps_as_the_source_can_do():
    found, read, text = run(lambda: filtered(Table(PARTS, knows=("==",)), TWICE))
    assert found == sorted((k % 3, k) for k in range(10) if k % 3 == 1 and k != 4)
    assert "table gives only rows with a == 1\n" in text
    assert sum(count for count, _ in read) == sum(k % 3 == 1 for k in range(20))


def test_a_source_that_says_nothing_of_columns_any_more_is_read_whole():
    """What a new ``make`` does not declare is not known: the columns of the one before would lose the predicate."""

    @attrs.frozen
    class Forgetful(Table):
        def with_predicate(self, predicate):
            table = Table(self.parts, predicate=predicate)
            return lambda index: table(index)

    found, read, _ = run(lambda: filtered(Forgetful(PARTS), TWICE[:1]))
    assert found == sorted((k % 3, k) for k in range(20) if k % 3 == 1)
    assert {columns for _, columns in read} == {None}


def second_reader(graph):
    graph.add_sink("other", KeepRecords)
    graph.connect("table", "other")


def placed(graph):
    graph.place("where 0", [0, 0])


def asking(graph):
    graph.vertices["where 0"] = attrs.evolve(graph.vertices["where 0"], memory_mb=5, asks=frozenset({"memory_mb"}))


@pytest.mark.parametrize("change", [second_reader, placed, asking])
def test_steps_that_stay(change):
    found, read, text = run(lambda: filtered(Table(PARTS), TWICE, change=change))
    assert found == sorted((k % 3, k) for k in range(10) if k % 3 == 1 and k != 4)
    assert "predicates:" not in text
    assert sum(count for count, _ in read) == 20


def test_an_operator_between_that_moves_rows():
    _, read, text = run(lambda: filtered(Table(PARTS), TWICE, operator="net.partition", partitioner="round_robin"))
    assert "predicates:" not in text
    assert sum(count for count, _ in read) == 20


def test_a_source_shared_by_two_readers_of_what_passed():
    def build():
        graph = filtered(Table(PARTS), TWICE[:1])
        graph.add_sink("other", KeepRecords)
        graph.connect("where 0", "other")
        return graph

    found, read, text = run(build)
    assert found == sorted((k % 3, k) for k in range(20) if k % 3 == 1)
    assert "predicates: table" in text
    assert sum(count for count, _ in read) == len(found)
