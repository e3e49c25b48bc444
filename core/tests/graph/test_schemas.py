"""Schemas that are known before anything runs, and who is told them."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from twister2.graph import Graph, Stored
from twister2.graph.catalog import Catalog
from twister2.graph.logical import logical_plan
from twister2.graph.schemas import schemas, with_schemas
from twister2.graph.typed import RecordCompute
from twister2.spec.declarations import Declarations
from twister2.spec.tasks import END, Source
from twister2_testkit.graphs import KeepRecords, run_workers

LEFT = pa.schema({"k": pa.int64(), "v": pa.string()})
RIGHT = pa.schema({"k": pa.int64(), "v": pa.float64(), "w": pa.bool_()})


class Nothing(Source):
    def poll(self):
        return END


class Step(RecordCompute):
    def record(self, record, emit):
        emit(record)


def nothing(index, planned=None):
    return Nothing()


def step(index):
    return Step()


SAME = Declarations(schema=lambda schema: schema)


def build(stored=None):
    """Files and a table, through steps, to a join."""
    graph = Graph("test")
    graph.add_source("files", nothing, 2, planner=lambda: SimpleNamespace(schema=LEFT))
    graph.add_source("table", nothing, 2, declares=Declarations(schema=RIGHT))
    graph.add_source("unknown", nothing, 2)
    graph.add_compute("sorted", step, declares=SAME)
    graph.connect("files", "sorted", "net.sort", key="k")
    graph.add_compute("first", step, declares=Declarations(schema=lambda schema: pa.schema(list(schema)[:1])))
    graph.connect("table", "first")
    graph.add_compute("any", step)
    graph.connect("table", "any")
    graph.add_compute("union", step, declares=SAME)
    graph.connect(["sorted", "first"], "union", "net.union")
    graph.add_compute("joined", step, declares=SAME)
    graph.connect(["sorted", "table"], "joined", "net.join", name="both")
    graph.add_compute("half", step, declares=SAME)
    graph.connect(["unknown", "first"], "half", "net.join", name="right", right_schema=RIGHT)
    for name in ("any", "union", "half"):
        graph.add_sink(f"sink of {name}", KeepRecords)
        graph.connect(name, f"sink of {name}")
    graph.keep("joined", into=stored)
    return graph


def test_schemas_go_from_sources_to_who_needs_them():
    def main(env):
        catalog = Catalog(lambda name: env.backend("ops", name))
        plan = logical_plan(build(), 2, catalog, {"files": SimpleNamespace(schema=LEFT)})
        known = schemas(plan, catalog)
        options = {edge.name: edge.options for edge in with_schemas(plan, catalog, known).edges}
        blind = schemas(logical_plan(build(), 2, catalog), catalog)
        return known, options, blind

    ((known, options, blind),) = run_workers(1, main)
    joined = pa.schema({"k": pa.int64(), "v": pa.string(), "v_right": pa.float64(), "w": pa.bool_()})
    assert known["files"] == known["sorted"] == LEFT
    assert known["first"] == pa.schema({"k": pa.int64()})
    assert known["joined"] == joined
    assert not {"unknown", "any", "union", "half"} & set(known)
    assert options["both"] == {"left_schema": LEFT, "right_schema": RIGHT}
    assert options["right"] == {"right_schema": RIGHT}, "what the program says is left"
    assert set(blind) & {"files", "table", "sorted"} == {"table"}


@pytest.mark.parametrize("other", ["public", {"k": int}, lambda: LEFT])
def test_what_a_planner_calls_schema_may_be_something_else(other):
    def main(env):
        catalog = Catalog(lambda name: env.backend("ops", name))
        return schemas(logical_plan(build(), 2, catalog, {"files": SimpleNamespace(schema=other)}), catalog)

    (known,) = run_workers(1, main)
    assert not {"files", "sorted", "joined"} & set(known)


def test_kept_sets_have_the_schema_of_what_filled_them():
    def main(env):
        stored = Stored("kept")
        env.run(build(stored))
        return stored.schema.names

    assert run_workers(2, main) == [["k", "v", "v_right", "w"]] * 2
