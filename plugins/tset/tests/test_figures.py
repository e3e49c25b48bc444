"""What a program is told of the work of its sets: the sums of what the workers count."""

from __future__ import annotations

import pytest

from twister2_testkit.graphs import EXECUTORS
from twister2_tset import TSetContext
from twister2_tset.figures import COUNTED, TIMED, over_workers

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("workers", [1, 3])
def test_what_the_steps_of_a_loop_did(run_workers, executor, workers):
    def program(env):
        context = TSetContext(env, name="mine", partitions=4)
        assert context.figures() == {}
        numbers = context.parallelize(range(1000)).cache()
        sums = numbers.map_to_tuple(lambda x: (x % 7, x)).keyed_reduce("sum").named("sums")
        TSetContext(env, name="other").parallelize([1, 2]).count()
        before = context.figures()
        with context.evaluating(sums.map(lambda pair: pair[0]), into=numbers) as step:
            for _ in range(3):
                step()
        return before, context.figures(), env.figures()

    results = run_workers(workers, program, executor=executor)
    before, figures, _ = results[0]
    for other in results:
        assert other[:2] == (before, figures)
    assert all(set(total) == {*COUNTED, *TIMED} for total in figures.values())
    assert all(total["runs"] == 1 for total in before.values())
    [made] = [name for name in before if "parallelize" in name]
    assert figures[made] == before[made], "it did not run again"
    [tuples] = [total for name, total in figures.items() if "map_to_tuple" in name]
    assert (tuples["runs"], tuples["records"]) == (3, 1000 + 7 + 7)
    assert tuples["busy_s"] > 0
    [reduced] = [total for name, total in figures.items() if "sums" in name]
    assert (reduced["runs"], reduced["records"]) == (3, 7 + 7 + 7)
    told = [{name.removeprefix("mine: "): total for name, total in own.items()} for _, _, own in results]
    for name, total in figures.items():
        parts = [own.get(name, {}) for own in told]
        assert total["records"] == sum(part.get("records", 0) for part in parts)
        assert total["busy_s"] == pytest.approx(sum(part.get("busy_s", 0.0) for part in parts))
    assert not any("other" in name for name in figures)


def test_a_step_is_known_by_the_line_that_made_it(run_workers):
    def program(env):
        context = TSetContext(env)
        context.parallelize(range(10)).filter(bool).for_each(repr)
        return context.figures()

    [figures] = run_workers(1, program)
    assert any("filter (test_figures.py:" in name for name in figures)


def test_vertices_that_are_not_told_apart_any_more_stay_one():
    part = {"a: v": {"runs": 2.0, "records": 3.0}, "b: v": {"runs": 1.0}, "others": {"runs": 4.0, "busy_s": 0.5}}
    assert over_workers([part, part], "a") == {
        "v": {"runs": 2, "records": 6, "bytes": 0, "busy_s": 0.0, "waiting_s": 0.0, "blocked_s": 0.0},
        "others": {"runs": 4, "records": 0, "bytes": 0, "busy_s": 1.0, "waiting_s": 0.0, "blocked_s": 0.0},
    }
