"""Loops over sets in a job: no iteration says anything to the master, opens a socket, or plans."""

from __future__ import annotations

import json

import pytest

from twister2_testkit.jobs import Jobs

PROGRAM = """
    import json, os
    from twister2.worker import execute
    from twister2_tset import TSetContext

    def sockets():
        found = set()
        for number in os.listdir("/proc/self/fd"):
            try:
                found.add(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                pass  # the folder's own
        return {name for name in found if name.startswith("socket:")}

    def main(env):
        context = TSetContext(env)
        numbers = context.parallelize(range(100), 3).cache()
        total = context.parallelize([1], 1).replicate().cache()
        inner = numbers.map(lambda x, context: x * context.input("total")[0] % 7).add_input("total", total)
        outer = numbers.map(lambda x: x + 1)
        said, planned = [], []
        pipe, compile_graph = type(env._link._pipe), execute.compile_graph
        send = pipe.send

        def counted(self, kind, *rest):
            said.append(kind)
            return send(self, kind, *rest)

        with (
            context.evaluating(inner.all_reduce("sum"), into=total) as step,
            context.evaluating(outer, into=numbers) as advance,
        ):
            step(), advance()
            numbers.sum()
            before = sockets()
            pipe.send = counted
            execute.compile_graph = lambda *args, **options: planned.append(1) or compile_graph(*args, **options)
            try:
                for turn in range(10):
                    for _ in range(10):
                        step()
                    advance()
                    [value] = total.local()
                    if value < 0:
                        break
            finally:
                pipe.send, execute.compile_graph = send, compile_graph
            after = sockets()
        print(json.dumps([value, numbers.sum(), sorted(set(said) - {"progress"}), before == after, len(planned)]))
"""


@pytest.mark.parametrize("comm", ["tcp", "shm,tcp"])
def test_a_nested_loop_leaves_the_master_alone(jobs: Jobs, comm: str) -> None:
    done = jobs.submit(jobs.program(PROGRAM), "-o", f"job.comm={comm}")
    assert done.code == 0, done.err
    numbers = [x + 1 for x in range(100)]
    total = sum(x % 7 for x in range(100))
    for _ in range(10):
        for _ in range(10):
            total = sum(x * total % 7 for x in numbers)
        numbers = [x + 1 for x in numbers]
    assert [json.loads(line) for line in done.out.splitlines()] == [[total, sum(numbers), [], True, 0]] * 2
