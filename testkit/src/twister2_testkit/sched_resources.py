"""Conformance suites for task schedulers that look at more than numbers of tasks: what tasks ask for, where data lies.

:mod:`twister2_testkit.mutants.sched_resources` holds schedulers that they must reject.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.errors import GraphError
from twister2_testkit.sched import PROPERTY, SchedSuite, check_complete, placed, request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.plan import Placement
    from twister2.spec.sched import ScheduleRequest

_EPSILON = 1e-6


def asking(
    asked: ScheduleRequest, wishes: Mapping[str, Mapping[str, Any]], workers: Sequence[WorkerInfo] = ()
) -> ScheduleRequest:
    """A request with wishes, by vertex: ``{"map": {"cpus": 2}}``; with other workers where some are given."""
    vertices = tuple(
        attrs.evolve(vertex, **wishes[vertex.name], asks=frozenset(wishes[vertex.name]))
        if vertex.name in wishes
        else vertex
        for vertex in asked.vertices
    )
    return attrs.evolve(asked, vertices=vertices, workers=tuple(workers) or asked.workers)


def machine(number: int, cpus: float = 1.0, memory_mb: int = 0, gpus: int = 0) -> WorkerInfo:
    """A worker on a host of its own."""
    return WorkerInfo(number, number, NodeFacts(f"host{number}"), cpus=cpus, memory_mb=memory_mb, gpus=gpus)


def loads(asked: ScheduleRequest, placement: Placement, wish: str) -> list[float]:
    """What each worker was given of what was asked for."""
    sums = [0.0] * len(asked.workers)
    for vertex in asked.vertices:
        if wish in vertex.asks:
            for worker in placement.workers[vertex.name]:
                sums[worker] += getattr(vertex, wish)
    return sums


@st.composite
def wishful(draw: st.DrawFn) -> ScheduleRequest:
    """Vertices that ask for something or nothing, workers of all sizes; nothing is fixed."""
    numbers = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    names = [f"v{k}" for k in range(len(numbers))]
    wish = st.fixed_dictionaries(
        {}, optional={"cpus": st.sampled_from([0.1, 0.5, 1.0, 2.0]), "memory_mb": st.integers(0, 60)}
    )
    same = {(a, b) for a, b in itertools.pairwise(names) if draw(st.booleans())}
    edges = [(a, b, "net.direct" if (a, b) in same else "net.partition") for a, b in itertools.pairwise(names)]
    workers = [
        machine(k, draw(st.sampled_from([0.5, 1.0, 4.0])), draw(st.sampled_from([0, 50, 100])))
        for k in range(draw(st.integers(1, 4)))
    ]
    asked = request(list(zip(names, numbers, strict=True)), edges, len(workers))
    return asking(asked, {name: draw(wish) for name in names}, workers)


class FittingSuite(SchedSuite):
    """Of schedulers that give tasks what they ask for, on workers that differ."""

    @PROPERTY
    @given(asked=wishful())
    def test_no_worker_is_overdrawn(self, asked: ScheduleRequest) -> None:
        try:
            placement = self.make_scheduler().schedule(asked)
        except GraphError as error:
            if not any(vertex.name in str(error) for vertex in asked.vertices if vertex.asks):
                pytest.fail(f"the error names no vertex: {error}")
            return
        check_complete(asked, placement)
        for worker, load in zip(asked.workers, loads(asked, placement, "cpus"), strict=True):
            assert load <= worker.cpus + _EPSILON, f"{load} CPUs on a worker of {worker.cpus}"
        for worker, load in zip(asked.workers, loads(asked, placement, "memory_mb"), strict=True):
            assert not worker.memory_mb or load <= worker.memory_mb, f"{load} MiB on a worker of {worker.memory_mb}"

    @PROPERTY
    @given(asked=wishful())
    def test_it_places_wishes_the_same_every_time(self, asked: ScheduleRequest) -> None:
        found = []
        for _ in range(2):
            try:
                found.append(placed(self.make_scheduler().schedule(asked)))
            except GraphError as error:
                found.append({str(error): []})
        assert found[0] == found[1]

    def test_defaults_are_no_wishes(self) -> None:
        asked = asking(request([("a", 20)]), {}, [machine(0, 1.0, 10), machine(1, 1.0, 10)])
        assert all(vertex.cpus == 1.0 and not vertex.asks for vertex in asked.vertices)
        check_complete(asked, self.make_scheduler().schedule(asked))

    def test_what_fits_one_worker_only_goes_there(self) -> None:
        workers = [machine(0, 1.0, 100), machine(1, 8.0, 100), machine(2, 1.0, 900), machine(3, 1.0, 100, gpus=2)]
        wishes: dict[str, dict[str, Any]] = {"wide": {"cpus": 8.0}, "deep": {"memory_mb": 900}, "fast": {"gpus": 2}}
        asked = asking(request([("wide", 1), ("deep", 1), ("fast", 1)]), wishes, workers)
        placement = self.make_scheduler().schedule(asked)
        assert placed(placement) == {"wide": [1], "deep": [2], "fast": [3]}

    def test_what_fits_exactly_is_placed(self) -> None:
        asked = asking(
            request([("a", 4)]), {"a": {"cpus": 0.5, "memory_mb": 50}}, [machine(0, 1.0, 100), machine(1, 1.0, 100)]
        )
        assert sorted(self.make_scheduler().schedule(asked).workers["a"]) == [0, 0, 1, 1]

    @pytest.mark.parametrize(
        ("wish", "word"), [({"memory_mb": 101}, "memory"), ({"cpus": 1.5}, "CPU"), ({"gpus": 1}, "GPU")]
    )
    def test_what_fits_nowhere_is_an_error_that_says_what_is_missing(self, wish: dict[str, Any], word: str) -> None:
        asked = asking(request([("little", 1), ("greedy", 1)]), {"greedy": wish}, [machine(0, 1.0, 100)])
        with pytest.raises(GraphError, match=word) as caught:
            self.make_scheduler().schedule(asked)
        assert "greedy" in str(caught.value)
        assert "little" not in str(caught.value)

    def test_chains_stay_together_where_that_fits(self) -> None:
        chain = request([("a", 2), ("b", 2)], [("a", "b", "net.direct")])
        wishes = {"a": {"memory_mb": 60}, "b": {"memory_mb": 30}}
        asked = asking(chain, wishes, [machine(0, 1.0, 60), machine(1, 1.0, 100), machine(2, 1.0, 90)])
        workers = self.make_scheduler().schedule(asked).workers
        assert workers["a"] == workers["b"]
        assert sorted(workers["a"]) == [1, 2]


def reading(
    hosts: Mapping[int, Sequence[str]],
    sizes: Sequence[int],
    distances: Mapping[tuple[int, str], float],
    n_workers: int = 2,
    then: Sequence[tuple[str, int, str]] = (),
) -> ScheduleRequest:
    """A source ``read`` with a task for each size, near the hosts of each; further vertices by name, number, operator
    from ``read``. Worker ``k`` is on ``host<k>``.
    """
    vertices = [("read", len(sizes)), *((name, number) for name, number, _ in then)]
    asked = request(vertices, [("read", name, operator) for name, _, operator in then], n_workers)
    first, *others = asked.vertices
    first = attrs.evolve(first, hosts={index: tuple(names) for index, names in hosts.items()})
    return attrs.evolve(
        asked,
        vertices=(first, *others),
        workers=tuple(machine(k) for k in range(n_workers)),
        sizes={"read": tuple(sizes)},
        distances=dict(distances),
    )


def apart(n_workers: int, seconds: float = 0.5) -> dict[tuple[int, str], float]:
    """Distances of workers on hosts of their own, all equally far from each other."""
    return {(k, f"host{j}"): 0.0 if j == k else seconds for k in range(n_workers) for j in range(n_workers)}


@st.composite
def readings(draw: st.DrawFn) -> ScheduleRequest:
    """Sources with any data anywhere; some hosts nobody could measure."""
    n_workers = draw(st.integers(1, 5))
    names = [f"host{k}" for k in range(7)]
    sizes = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=12))
    hosts = {k: draw(st.lists(st.sampled_from(names), max_size=3, unique=True)) for k in range(len(sizes))}
    distances = {
        (k, name): draw(st.sampled_from([0.0, 0.25, 4.0]))
        for k in range(n_workers)
        for name in names
        if draw(st.integers(0, 4))
    }
    then = [("map", len(sizes), "net.direct")] if draw(st.booleans()) else []
    return reading({k: found for k, found in hosts.items() if found}, sizes, distances, n_workers, then)


class LocalitySuite(SchedSuite):
    """Of schedulers that place sources near their data."""

    def test_it_asks_for_distances(self) -> None:
        assert "distances" in self.make_scheduler().needs

    @PROPERTY
    @given(asked=readings())
    def test_data_anywhere_is_read_by_somebody(self, asked: ScheduleRequest) -> None:
        placement = self.make_scheduler().schedule(asked)
        check_complete(asked, placement)
        assert placed(self.make_scheduler().schedule(asked)) == placed(placement)
        if len(asked.vertices) > 1:
            assert placement.workers["map"] == placement.workers["read"]

    def test_data_is_read_where_it_lies(self) -> None:
        homes = [2, 0, 1, 1, 2, 0]
        asked = reading({k: [f"host{home}"] for k, home in enumerate(homes)}, [100] * 6, apart(3), 3)
        assert list(self.make_scheduler().schedule(asked).workers["read"]) == homes

    def test_any_copy_will_do(self) -> None:
        copies = {0: ["host0", "host1"], 1: ["host0"], 2: ["host1", "host2"], 3: ["host1"], 4: ["host2"], 5: ["host2"]}
        asked = reading(copies, [100] * 6, apart(3), 3)
        workers = self.make_scheduler().schedule(asked).workers["read"]
        assert all(f"host{worker}" in copies[k] for k, worker in enumerate(workers)), workers
        assert sorted(workers) == [0, 0, 1, 1, 2, 2]

    def test_no_worker_reads_everything(self) -> None:
        asked = reading({k: ["host1"] for k in range(8)}, [100] * 8, apart(4), 4)
        workers = self.make_scheduler().schedule(asked).workers["read"]
        counts = [workers.count(worker) for worker in range(4)]
        assert max(counts) <= 4, counts
        assert counts[1] == max(counts), "the worker on the spot reads less than others"

    def test_bytes_are_balanced_and_not_tasks(self) -> None:
        sizes = [900, 100, 100, 100, 100, 100, 100, 100, 100, 100]
        asked = reading({k: ["host9"] for k in range(10)}, sizes, {(k, "host9"): 1.0 for k in range(2)}, 2)
        workers = self.make_scheduler().schedule(asked).workers["read"]
        read = [sum(size for size, at in zip(sizes, workers, strict=True) if at == worker) for worker in range(2)]
        assert max(read) <= 1100, read

    def test_near_is_better_than_far(self) -> None:
        for near in range(3):
            distances = {(k, "elsewhere"): 0.25 if k == near else 4.0 for k in range(3)}
            asked = reading({0: ["elsewhere"]}, [100], distances, 3)
            assert self.make_scheduler().schedule(asked).workers["read"] == (near,)

    def test_of_several_copies_the_nearest_counts(self) -> None:
        distances = {(0, "a"): 0.0, (0, "b"): 8.0, (1, "a"): 2.0, (1, "b"): 2.0}
        for hosts in (["a", "b"], ["b", "a"]):
            assert self.make_scheduler().schedule(reading({0: hosts}, [100], distances, 2)).workers["read"] == (0,)

    def test_what_was_measured_goes_before_names(self) -> None:
        # Two names of one machine: the distance says so, the names do not.
        distances = {(0, "alias"): 4.0, (1, "alias"): 0.0}
        assert self.make_scheduler().schedule(reading({0: ["alias"]}, [1], distances)).workers["read"] == (1,)

    def test_what_follows_one_to_one_stays_with_its_source(self) -> None:
        then = [("map", 4, "net.direct"), ("count", 2, "net.keyed_reduce")]
        asked = reading({k: [f"host{3 - k}"] for k in range(4)}, [10] * 4, apart(4), 4, then)
        workers = self.make_scheduler().schedule(asked).workers
        assert workers["map"] == workers["read"] == (3, 2, 1, 0)
