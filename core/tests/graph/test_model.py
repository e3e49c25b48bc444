"""Building and checking graphs: each mistake has an error that names it."""

from __future__ import annotations

import functools

import pytest

from twister2.graph import Catalog, Graph
from twister2.spec.errors import GraphError, PluginNotFoundError
from twister2.spec.tasks import Compute, Sink
from twister2_testkit.world_ops import WorldOperators
from twister2_testkit.world_tasks import Keep


def make(index):
    raise AssertionError("nothing is made while a graph is built")


def line():
    graph = Graph("line")
    graph.add_source("a", make, 2)
    graph.add_compute("b", make)
    graph.add_sink("c", make)
    graph.connect("a", "b", "world.direct")
    graph.connect("b", "c", "world.direct")
    return graph


def catalog():
    return Catalog(lambda name: WorldOperators())


def refused(*words):
    return pytest.raises(GraphError, match=".*".join(words))


def test_a_sound_graph_passes():
    line().validate()
    line().validate(catalog())


def test_an_empty_graph_is_refused():
    with refused("empty"):
        Graph("nothing").validate()


@pytest.mark.parametrize("parallelism", [0, -1, 1.5, True, "2"])
def test_parallelism_is_a_positive_number(parallelism):
    with refused("'a'", "parallelism"):
        Graph().add_source("a", make, parallelism)


def test_two_vertices_of_one_name_are_refused():
    graph = line()
    with refused("'b'"):
        graph.add_sink("b", make)


def test_an_unknown_vertex_is_refused_and_the_known_are_named():
    with refused("'x'") as caught:
        line().connect("a", "x")
    assert "'a', 'b', 'c'" in str(caught.value)


def test_a_vertex_of_another_graph_is_unknown():
    other = Graph().add_source("elsewhere", make, 1)
    with refused("elsewhere"):
        line().connect(other, "b")


def test_self_loops_and_wrong_ends_are_refused():
    graph = line()
    with refused("'b'", "itself"):
        graph.connect("b", "b")
    with refused("sink 'c'"):
        graph.connect("c", "b")
    with refused("source 'a'"):
        graph.connect("b", "a")


def test_a_cycle_is_named():
    graph = line()
    graph.add_compute("d", make)
    graph.connect("b", "d")
    graph.connect("d", "b")
    with refused("cycle") as caught:
        graph.validate()
    assert "b -> d -> b" in str(caught.value) or "d -> b -> d" in str(caught.value)


def test_unconnected_vertices_are_refused():
    graph = line()
    graph.add_sink("alone", make)
    with refused("sink 'alone'", "no input"):
        graph.validate()
    graph = line()
    graph.add_source("mute", make, 1)
    with refused("source 'mute'", "no output"):
        graph.validate()


def test_edges_have_names_of_their_own():
    graph = line()
    assert [edge.name for edge in graph.edges] == ["a->b", "b->c"]
    assert graph.connect("a", "b").name == "a->b #2"
    with refused("'a->b'"):
        graph.connect("a", "c", name="a->b")


def test_an_operator_names_its_plugin():
    with refused("'direct'"):
        line().connect("a", "c", "direct")


def test_operators_and_options_are_checked_against_declarations():
    graph = line()
    graph.connect("a", "c", "world.kyed")
    with refused("'kyed'") as caught:
        graph.validate(catalog())
    assert "did you mean 'keyed'" in str(caught.value)
    graph = line()
    graph.connect("a", "c", "world.keyed", nte=1)
    with refused("'nte'") as caught:
        graph.validate(catalog())
    assert "did you mean 'note'" in str(caught.value)
    graph = line()
    graph.mode = "stream"
    with refused("stream"):
        graph.validate(catalog())


def test_a_missing_plugin_is_the_hosts_error():
    def operators(name):
        raise PluginNotFoundError(f"no {name}", why="not installed", remedy="install it")

    with pytest.raises(PluginNotFoundError):
        line().validate(Catalog(operators))


def test_factories_take_what_they_are_given():
    graph = Graph()
    graph.add_source("a", lambda: None, 1)
    graph.add_sink("b", make)
    graph.connect("a", "b")
    with refused("'a'", r"make\(index\)"):
        graph.validate()
    graph = Graph()
    graph.add_source("a", make, 1, planner=lambda: [])
    graph.add_sink("b", make)
    graph.connect("a", "b")
    with refused("'a'", r"make\(index, planned\)"):
        graph.validate()
    graph = Graph()
    graph.add_source("a", lambda index, planned: None, 1, planner=lambda path: [])
    graph.add_sink("b", make)
    graph.connect("a", "b")
    with refused("planner of 'a'"):
        graph.validate()
    with refused("make of vertex 'c'", "int"):
        graph.add_sink("c", 5)
    with refused("planner of vertex 'd'"):
        graph.add_source("d", make, 1, planner=[1])


def test_a_mode_that_is_none_is_refused():
    with refused("'micro'"):
        Graph(mode="micro")


def test_a_placement_has_a_worker_per_task():
    graph = line()
    graph.place("a", [0, 1, 0])
    with refused("3 workers", "2 tasks", "'a'"):
        graph.validate()


class Narrow(Compute):
    narrow = True

    def process(self, batch, emit, edge):
        emit(batch)


class Silent(Sink):
    def write(self, batch, edge):
        return


def test_declarations_are_read_from_what_makes_the_tasks():
    graph = Graph()
    assert graph.add_compute("a", Narrow).narrow
    assert graph.add_compute("b", functools.partial(functools.partial(Narrow))).narrow
    assert not graph.add_compute("c", make).narrow
    assert graph.add_compute("d", make, narrow=True).narrow
    assert not graph.add_sink("e", Silent).two_phase
    assert graph.add_sink("f", Keep).two_phase
    assert graph.add_sink("g", make).two_phase, "what is not known takes part"
    assert not graph.add_sink("h", make, two_phase=False).two_phase


def test_every_change_makes_earlier_plans_stale():
    graph = Graph()
    seen = {graph.version}
    for change in (
        lambda: graph.add_source("a", make, 1),
        lambda: graph.add_sink("b", make),
        lambda: graph.connect("a", "b"),
        lambda: graph.place("a", [0]),
    ):
        change()
        assert graph.version not in seen
        seen.add(graph.version)


def test_a_kept_output_is_named_for_the_tasks_that_send_to_it():
    graph = Graph("kept")
    graph.add_source("a", lambda index: None, 1)
    graph.keep("a", name="odd")
    graph.keep("a")
    assert [edge.name for edge in graph.edges] == ["odd", "a->keep kept a"]
