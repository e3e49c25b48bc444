"""Conformance suite for task schedulers: pure, complete, within the workers, true to what is fixed.

:mod:`twister2_testkit.mutants.sched` holds schedulers that the suite must reject.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.errors import GraphError
from twister2.spec.plan import EdgePlan, VertexPlan
from twister2.spec.sched import ScheduleRequest, TaskScheduler
from twister2_testkit.capabilities import Capabilities, ConformanceSuite, needs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.plan import Placement
    from twister2.spec.tasks import Task

LIMIT = "max_tasks_per_worker"
GROUP = "group"


@attrs.frozen(kw_only=True)
class SchedCapabilities(Capabilities):
    """What a task scheduler can do.

    Two more suites, in :mod:`twister2_testkit.sched_resources`, are for schedulers that fit what tasks ask for, and for
    those that place sources near their data.

    :ivar limits_tasks: keeps the constraint ``max_tasks_per_worker``. :ivar balances: the numbers of tasks of one
        vertex on two equal workers differ by at most one, when nothing is fixed or limited.
    :ivar keeps_groups: keeps the constraint ``group``.
    """

    limits_tasks: bool = False
    balances: bool = False
    keeps_groups: bool = False


PROPERTY = settings(
    deadline=None, max_examples=60, database=None, suppress_health_check=[HealthCheck.differing_executors]
)


def _no_task(index: int) -> Task:
    raise AssertionError("a scheduler makes no tasks")


def request(
    vertices: Sequence[tuple[str, int]],
    edges: Sequence[tuple[str, str, str]] = (),
    n_workers: int = 2,
    fixed: Mapping[str, tuple[int, ...]] | None = None,
    constraints: Mapping[str, Any] | None = None,
) -> ScheduleRequest:
    """A request from names and numbers: ``("map", 4)``, ``("map", "count", "net.keyed_reduce")``,
    ``("left+right", "joined", "net.join")``.
    """
    kinds = {target for _, target, _ in edges}
    return ScheduleRequest(
        tuple(
            VertexPlan(name, "compute" if name in kinds else "source", number, _no_task) for name, number in vertices
        ),
        tuple(_edge(k, *edge, dict(vertices)) for k, edge in enumerate(edges)),
        tuple(WorkerInfo(k, k, NodeFacts(f"host{k % 3}", node=f"node{k % 3}"), cpus=2.0) for k in range(n_workers)),
        dict(fixed or {}),
        dict(constraints or {}),
    )


def _edge(number: int, source: str, target: str, operator: str, parallelism: Mapping[str, int]) -> EdgePlan:
    """``"left+right"`` are two inputs. Operators that join one to one are there for equal parallelisms only."""
    sources = tuple(source.split("+"))
    equal = operator == "net.direct" and {parallelism[one] for one in sources} == {parallelism[target]}
    shape = "one_to_one" if equal else "many_to_many"
    return EdgePlan(number, f"{source}->{target}", sources, target, operator, {}, shape)


_SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@st.composite
def requests(draw: st.DrawFn) -> ScheduleRequest:
    """Small graphs: vertices in a line, by direct or shuffling edges, some joined with an earlier one, some fixed."""
    numbers = draw(_SHAPES)
    vertices = [(f"v{k}", number) for k, number in enumerate(numbers)]
    n_workers = draw(st.integers(1, 7))
    edges = [
        (f"v{k}", f"v{k + 1}", draw(st.sampled_from(["net.direct", "net.partition"])) if same else "net.partition")
        for k, same in enumerate(a == b for a, b in itertools.pairwise(numbers))
    ]
    for k in range(2, len(numbers)):
        if draw(st.integers(0, 3)) == 0:
            edges[k - 1] = (f"v{k - 1}+v{draw(st.integers(0, k - 2))}", f"v{k}", "net.join")
    fixed = {
        name: tuple(draw(st.lists(st.integers(0, n_workers - 1), min_size=number, max_size=number)))
        for name, number in vertices
        if draw(st.integers(0, 4)) == 0
    }
    return request(vertices, edges, n_workers, fixed)


def placed(placement: Placement) -> dict[str, list[int]]:
    """A placement as plain data."""
    return {name: list(workers) for name, workers in placement.workers.items()}


def check_complete(asked: ScheduleRequest, placement: Placement) -> None:
    """Every task of every vertex is on a worker that exists, and what is fixed is kept."""
    assert set(placement.workers) == {vertex.name for vertex in asked.vertices}
    for vertex in asked.vertices:
        workers = placement.workers[vertex.name]
        assert len(workers) == vertex.parallelism, f"{len(workers)} places for {vertex.parallelism} tasks"
        assert all(0 <= worker < len(asked.workers) for worker in workers), f"{vertex.name} on {workers}"
    for name, workers in asked.fixed.items():
        assert tuple(placement.workers[name]) == tuple(workers), f"{name} is fixed on {workers}"


class SchedSuite(ConformanceSuite):
    """What every task scheduler must do.

    :cvar plugin: ``"module:Class"`` of the plugin, importable in other processes too.
    """

    capabilities = SchedCapabilities()
    plugin: ClassVar[str]

    def make_scheduler(self) -> TaskScheduler:
        """The scheduler under test, with its default options."""
        return make_scheduler(self.plugin)

    @PROPERTY
    @given(asked=requests())
    def test_every_task_is_placed_on_a_worker_that_exists(self, asked: ScheduleRequest) -> None:
        check_complete(asked, self.make_scheduler().schedule(asked))

    @PROPERTY
    @given(asked=requests())
    def test_the_same_request_gives_the_same_placement(self, asked: ScheduleRequest) -> None:
        scheduler = self.make_scheduler()
        first = placed(scheduler.schedule(asked))
        assert placed(scheduler.schedule(asked)) == first
        assert placed(self.make_scheduler().schedule(asked)) == first

    def test_other_processes_place_the_same(self) -> None:
        here = placed(self.make_scheduler().schedule(_sample()))
        for seed in ("0", "1", "4242"):
            code = f"from {__name__} import in_another_process; in_another_process({self.plugin!r})"
            paths = os.pathsep.join(path for path in sys.path if path)
            environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths, "TZ": f"UTC+{seed[:1]}"}
            run = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert run.returncode == 0, run.stderr
            assert json.loads(run.stdout) == here, f"another placement with PYTHONHASHSEED={seed}"

    def test_it_changes_nothing_it_was_given(self) -> None:
        asked, same = _sample(), _sample()
        self.make_scheduler().schedule(asked)
        assert asked.fixed == same.fixed
        assert asked.constraints == same.constraints

    def test_tasks_joined_one_to_one_share_a_worker(self) -> None:
        for n_workers, number in ((2, 4), (3, 7), (5, 3)):
            vertices = [("a", number), ("b", number), ("c", number), ("d", 2)]
            edges = [("a", "b", "net.direct"), ("b", "c", "net.direct"), ("c", "d", "net.partition")]
            workers = self.make_scheduler().schedule(request(vertices, edges, n_workers)).workers
            assert workers["a"] == workers["b"] == workers["c"]

    def test_a_chain_follows_what_is_fixed(self) -> None:
        edges = [("a", "b", "net.direct"), ("b", "c", "net.direct")]
        asked = request([("a", 3), ("b", 3), ("c", 3)], edges, 4, {"b": (3, 3, 1)})
        workers = self.make_scheduler().schedule(asked).workers
        assert workers["a"] == workers["b"] == workers["c"] == (3, 3, 1)

    @pytest.mark.parametrize("workers", [(0,), (0, 1, 0), (0, 2), (-1, 0)])
    def test_a_fixed_placement_that_makes_no_sense_is_an_error(self, workers: tuple[int, ...]) -> None:
        with pytest.raises(GraphError, match="lonely"):
            self.make_scheduler().schedule(request([("lonely", 2)], n_workers=2, fixed={"lonely": workers}))

    @needs("balances")
    def test_tasks_are_spread_evenly(self) -> None:
        for n_workers, number in ((4, 8), (4, 10), (3, 2)):
            workers = self.make_scheduler().schedule(request([("a", number)], n_workers=n_workers)).workers["a"]
            counts = Counter({worker: 0 for worker in range(n_workers)}) + Counter(workers)
            loads = [counts[worker] for worker in range(n_workers)]
            assert max(loads) - min(loads) <= 1, loads

    @needs("limits_tasks")
    @PROPERTY
    @example(numbers=[3, 3], n_workers=2, limit=2, shuffles=True)
    @given(numbers=_SHAPES, n_workers=st.integers(1, 6), limit=st.integers(1, 12), shuffles=st.booleans())
    def test_the_limit_is_kept_or_refused(self, numbers: list[int], n_workers: int, limit: int, shuffles: bool) -> None:
        vertices = [(f"v{k}", number) for k, number in enumerate(numbers)]
        operator = "net.partition" if shuffles else "net.direct"
        edges = [(f"v{k}", f"v{k + 1}", operator) for k in range(len(numbers) - 1)]
        asked = request(vertices, edges, n_workers, constraints={LIMIT: limit})
        if sum(numbers) > limit * n_workers:
            with pytest.raises(GraphError, match=LIMIT) as caught:
                self.make_scheduler().schedule(asked)
            assert any(name in str(caught.value) for name, _ in vertices), "the error names no vertex"
            return
        placement = self.make_scheduler().schedule(asked)
        check_complete(asked, placement)
        loads = Counter(worker for workers in placement.workers.values() for worker in workers)
        assert max(loads.values()) <= limit

    @needs("keeps_groups")
    def test_tasks_of_a_group_lie_together_or_it_is_refused(self) -> None:
        together: dict[str, Any] = {GROUP: [["a", "b"], ["b", "c"]]}
        vertices = [("a", 3), ("b", 3), ("c", 3)]

        def place(n_workers: int, fixed: Mapping[str, tuple[int, ...]], limit: int = 0) -> list[list[int]]:
            asked = request(vertices, (), n_workers, fixed, {**together, **({LIMIT: limit} if limit else {})})
            workers = placed(self.make_scheduler().schedule(asked))
            return [workers[name] for name, _ in vertices]

        assert place(2, {"b": (1, 1, 0)}) == [[1, 1, 0]] * 3
        a, b, c = place(3, {}, 3)
        assert a == b == c
        with pytest.raises(GraphError, match="group"):
            place(2, {"a": (0, 1, 0), "c": (0, 1, 1)})
        with pytest.raises(GraphError, match="group"):
            place(5, {}, 2)

    def test_an_unknown_constraint_is_refused(self) -> None:
        with pytest.raises(GraphError, match="phase_of_the_moon"):
            self.make_scheduler().schedule(request([("a", 1)], constraints={"phase_of_the_moon": "full"}))

    def test_a_big_graph_takes_less_than_a_second(self) -> None:
        vertices = [(f"v{k}", 10) for k in range(1000)]
        edges = [(f"v{k}", f"v{k + 1}", "net.direct" if k % 4 else "net.partition") for k in range(999)]
        asked = request(vertices, edges, 64)
        begin = time.process_time()
        placement = self.make_scheduler().schedule(asked)
        spent = time.process_time() - begin
        check_complete(asked, placement)
        assert spent < 1.0, f"{spent:.2f} s for 1,000 vertices and 10,000 tasks"

    def test_it_says_why(self) -> None:
        text = self.make_scheduler().explain(_sample())
        first = text.splitlines()[0] if text else ""
        assert first.strip(), "the first line says the rule"


def make_scheduler(plugin: str) -> TaskScheduler:
    """The scheduler of ``"module:Class"`` with default options."""
    module, _, name = plugin.partition(":")
    made = functools.reduce(getattr, name.split("."), importlib.import_module(module))()  # type: ignore[operator]
    scheduler: TaskScheduler = made.sched_create(config=made.config_class())
    return scheduler


def _sample() -> ScheduleRequest:
    vertices = [("read", 5), ("map", 5), ("count", 3), ("sort", 7), ("write", 7), ("log", 1)]
    edges = [
        ("read", "map", "net.direct"),
        ("map", "count", "net.keyed_reduce"),
        ("count", "sort", "net.partition"),
        ("sort", "write", "net.direct"),
        ("count", "log", "net.gather"),
    ]
    return request(vertices, edges, 4, {"count": (3, 1, 0)})


def in_another_process(plugin: str) -> None:
    """Print how the plugin places a sample graph: called by the suite in another process."""
    sys.stdout.write(json.dumps(placed(make_scheduler(plugin).schedule(_sample()))))
