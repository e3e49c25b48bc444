"""Where the tasks of sets run: a program's own scheduler, and what files say of where they lie."""

from __future__ import annotations

import pytest

from twister2.spec.data import Split
from twister2.spec.errors import GraphError
from twister2.spec.placing import fixed_placement
from twister2.spec.plan import Placement
from twister2.spec.sched import TaskScheduler
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext
from twister2_tset.sources import PlannedRead


class Last(TaskScheduler):
    """Everything that is free on the last worker."""

    def schedule(self, request):
        free = {vertex.name: (len(request.workers) - 1,) * vertex.parallelism for vertex in request.vertices}
        return Placement({**free, **fixed_placement(request)})

    def explain(self, request):
        return "all on the last one"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_context_brings_its_own_scheduler(executor):
    def main(env):
        where = []
        context = TSetContext(env, partitions=4, scheduler=Last())
        numbers = context.parallelize(range(20)).map(lambda x: where.append(env.worker_id) or x)
        kept = numbers.cache()
        return numbers.map(lambda x: (x % 3, x)).keyed_reduce(lambda a, b: a + b).count(), where, list(kept.local())

    results = run_workers(3, main, executor=executor)
    assert [count for count, _, _ in results] == [3] * 3
    assert [set(where) for _, where, _ in results] == [set(), set(), {2}]
    assert [len(kept) for _, _, kept in results] == [0, 0, 20]


def test_the_plan_says_whose_idea_it_was():
    def main(env):
        return TSetContext(env, scheduler=Last()).parallelize([1]).explain()

    assert "placement: all on the last one" in run_workers(2, main)[0]


def test_something_else_is_refused():
    def main(env):
        TSetContext(env, scheduler="firstfit").parallelize([1]).count()

    with pytest.raises(GraphError, match="the scheduler of graph 'tset' is str"):
        run_workers(1, main)


def test_files_say_how_much_each_task_reads():
    splits = ((Split("a", {}, 3), Split("b", {}, 4)), (), (Split("c", {}),))
    assert PlannedRead(splits).sizes == (7, 0, 0)
