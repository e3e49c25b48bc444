"""What a program asks of the work of its graphs is what is printed when the job has ended."""

from __future__ import annotations

import json

from twister2_observe_progress.summary import table
from twister2_testkit.jobs import Jobs

PROGRAM = """
    import json
    from twister2_tset import TSetContext

    def main(env):
        context = TSetContext(env, name="mine")
        numbers = context.parallelize(range(1000), 4).cache()
        grown = numbers.map(lambda x: x + 1)
        with context.evaluating(grown, into=numbers) as step:
            for _ in range(5):
                step()
        assert numbers.reduce(max) == 1004
        print(json.dumps([env.worker_id, context.figures(), env.figures()]))
"""


def test_the_same_as_is_printed_at_the_end(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program(PROGRAM), "-o", "job.observe=progress", "-o", "observe.progress.summary=always")
    assert done.code == 0, done.err
    told = sorted(json.loads(line) for line in done.out.splitlines())
    [whole] = {json.dumps(figures) for _, figures, _ in told}
    lines = table({worker: own for worker, _, own in told})
    assert len(lines) > 2
    printed = [line.removeprefix("twister2: ") for line in done.err.splitlines()]
    assert set(lines) <= set(printed), (lines, printed)
    figures = json.loads(whole)
    assert {f"mine: {name}" for name in figures} == {name for _, _, own in told for name in own}
    [grown] = [total for name, total in figures.items() if "map (" in name]
    assert (grown["runs"], grown["records"]) == (5, 5000)
    assert grown["busy_s"] > 0
    assert {"bytes", "waiting_s", "blocked_s"} < set(grown)
