"""Programs on sets that are wrong, as whole jobs: one error that names step and line of the program, and an end."""

from __future__ import annotations

import json
import re

import pytest

from twister2_testkit.jobs import Jobs

PROGRAM = """
    import math, os, sys
    from twister2_tset import TSetContext

    def forgets(one, other):
        one + other

    def main(env):
        context = TSetContext(env)
        numbers = context.parallelize([1, 2, 3, 4, 5, 6], 4)
        pairs = numbers.key_by(lambda x: x % 2)
        {line}
"""
LINE = PROGRAM[: PROGRAM.index("{line}")].count("\n") + 1

# What a program does: the words of its error, each a pattern.
WRONG = {
    "reducer returns None": ("numbers.reduce(forgets)", ["reducer of reduce returned None", "in forgets", "aggregate"]),
    "reducer of groups": ("pairs.keyed_reduce(lambda a, b: [a, b]).count()", ["keyed_reduce returned \\[.*a list"]),
    "add returns None": ("numbers.aggregate(0, forgets)", ["add of aggregate returned None", "in forgets"]),
    "unhashable key": ("numbers.key_by(lambda x: [x]).keyed_gather().count()", ["keyed_gather", "cannot be a key"]),
    "partitioner below": ("numbers.partition(lambda x, n: -1).count()", ["partition .* returned -1", "0 to 3"]),
    "partitioner above": ("pairs.keyed_partition(lambda p, n: n).count()", ["keyed_partition .* returned 4", "0 to 3"]),
    "partitioner float": ("numbers.partition(lambda x, n: x / 7).count()", ["a float is no index", "return an int"]),
    "no order": ("numbers.map(lambda x: x if x % 2 else 'a').sort().count()", ["sort .*cannot be compared", "key=str"]),
    "guard": ("numbers.collect(limit=5)", ["collect .*more than 5 records", "limit=..."]),
    "mean of nothing": ("numbers.filter(lambda x: x > 9).mean()", ["mean: the set has no records", "is_empty"]),
    "reduce of nothing": ("context.parallelize([]).reduce('sum')", ["reduce: the set has no records", "initial=value"]),
    "pool": (
        "numbers.map_batches(lambda b: [1 // (x - 6) for x in b], releases_gil=True).count()",
        ["map_batches .*ZeroDivisionError", "worker 1"],
    ),
    "no partitions": (
        "context.parallelize([1], 0).count()",
        ["partitions is 0", f"where: +parallelize, .*prog.py:{LINE} in main, worker [01]"],
    ),
    "dropped": ("kept = numbers.cache(); kept.drop(); kept.count()", ["the set was dropped", "cache\\(\\)"]),
    "memory": (
        "context.source(lambda p: [(p, 'x' * (150 << 20))]).sort().count()",
        ["wants .* MiB more memory than this worker has left", "job.memory_mb"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_program_on_sets(jobs: Jobs, name: str) -> None:
    line, words = WRONG[name]
    options = ("-o", "job.memory_mb=100") if name == "memory" else ()
    done = jobs.submit(jobs.program(PROGRAM.replace("{line}", line)), "-q", *options)
    assert done.code not in (0, None, -9), done
    assert len(re.findall(r"\[T2-[A-Z]\d+\]", done.err)) == 1, done
    assert "StepAborted" not in done.err, done
    for word in words:
        assert re.search(word, done.err, re.DOTALL), (word, done)
    assert f"prog.py:{LINE}" in done.err, done


LOOP = """
    from twister2_tset import TSetContext

    def main(env):
        context = TSetContext(env)
        kept = context.parallelize(range(8), 4).cache()
        turn = 0

        def advance(x):
            return 1 // (0 if turn == 40 and env.worker_id == 1 else 1)

        with context.evaluating(kept.map(advance), kept) as step:
            for turn in range(100):
                step()
"""


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_an_error_of_one_worker_in_a_loop_of_a_job(jobs: Jobs, executor: str) -> None:
    done = jobs.submit(jobs.program(LOOP), "-q", "-o", f"job.exec={executor}")
    assert done.code not in (0, None, -9), done
    assert len(re.findall(r"\[T2-[A-Z]\d+\]", done.err)) == 1, done
    assert "ZeroDivisionError" in done.err, done
    assert "in advance" in done.err, done
    assert "worker 1" in done.err, done
    assert "map (prog.py:12)" in done.err, done


def test_an_executor_that_raises_is_not_taken_for_the_program(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_tset import TSetContext

        def main(env):
            env.backend("exec").prepare = lambda plan: 1 // 0
            TSetContext(env).parallelize([1], 1).count()
        """
    )
    done = jobs.submit(program, "-q", workers=1)
    assert done.code not in (0, None, -9), done
    assert re.search(r"the exec plugin's backend .* raised ZeroDivisionError in prepare\(\)", done.err), done


GRAPH = """
    from twister2.graph import Graph
    from twister2.spec.tasks import END, Compute, Sink, Source

    class Nothing(Source):
        def poll(self):
            return END

    class PassOn(Compute):
        def process(self, batch, emit, edge):
            emit(batch)

    class Drop(Sink):
        def write(self, batch, edge):
            pass

    def main(env):
        graph = Graph("wrong")
        graph.add_source("numbers", lambda index: Nothing(), 2)
        graph.add_compute("one", lambda index: PassOn())
        graph.add_compute("two", lambda index: PassOn())
        graph.add_sink("end", lambda index: Drop())
        graph.connect("numbers", "one")
        {line}
        graph.connect("two", "end")
        env.run(graph)
"""
GRAPHS = {
    "cycle": ("graph.connect('one', 'two'); graph.connect('two', 'one')", ["cycle", "one -> two|two -> one"]),
    "duplicate name": ("graph.add_sink('one', lambda index: Drop())", ["'one'"]),
    "unconnected input": ("pass", ["'two'.*no input|'one'.*no output"]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_wrong_graph(jobs: Jobs, name: str) -> None:
    line, words = GRAPHS[name]
    done = jobs.submit(jobs.program(GRAPH.replace("{line}", line)), "-q")
    assert done.code not in (0, None, -9), done
    assert len(re.findall(r"\[T2-[A-Z]\d+\]", done.err)) == 1, done
    for word in [*words, "try:"]:
        assert re.search(word, done.err, re.DOTALL), (word, done)


RIGHT = """
    import json, math
    from twister2_tset import TSetContext

    def main(env):
        context = TSetContext(env)
        nothing = context.parallelize([], 3)
        some = context.parallelize([(None, 1), (math.nan, 2), ("1", 3), (1, 4), (math.nan, 5), (None, 6), (True, 7)], 3)
        empty = [
            nothing.sort(), nothing.distinct(), nothing.join(some), some.join(nothing), nothing.cross(some),
            nothing.zip(some), nothing.sample(0.5), nothing.keyed_reduce("sum"), nothing.cache(),
            nothing.zip_with_index(),
        ]
        nothing.save(env.args[0])
        one = lambda pair: (pair[0] == 1 or pair[0], pair[1])  # equal keys: which of them is there may change
        values = nothing.count(), nothing.sum(), nothing.top(3), nothing.take(2), nothing.reduce("sum", initial=7)
        pairs = context.parallelize([(1.0, "one"), (math.nan, "nan")])
        found = {
            "empty": [one.collect() for one in empty] == [[]] * len(empty),
            "values": values,
            "loaded": context.load(env.args[0]).count(),
            "keys": sorted(map(repr, some.keyed_reduce("sum").map(one).collect())),
            "joined": sorted(map(repr, some.join(pairs).map(one).collect())),
        }
        if env.worker_id == 0:
            print(json.dumps(found))
"""


def test_nothing_and_odd_keys_in_a_job(jobs: Jobs) -> None:
    folder = jobs.folder / "nothing.csv"
    done = jobs.submit(jobs.program(RIGHT), "-q", args=(str(folder),))
    assert done.code == 0, done
    assert json.loads(done.out) == {
        "empty": True,
        "values": [0, 0, [], [], 7],
        "loaded": 0,
        "keys": ["('1', 3)", "(None, 7)", "(True, 11)", "(nan, 7)"],
        "joined": ["(True, (4, 'one'))", "(True, (7, 'one'))", "(nan, (2, 'nan'))", "(nan, (5, 'nan'))"],
    }
    assert (folder / "_SUCCESS").exists()


ARRAYS = """
    import numpy
    import twister2_net as net
    from twister2.graph import Graph
    from twister2.spec.tasks import END, Sink, Source
    from twister2_tset import TSetContext

    class Refills(Source):
        def open(self, context):
            self.memory, self.left = numpy.zeros(10), 3

        def poll(self):
            self.left -= 1
            self.memory[:] = self.left  # source
            return self.memory if self.left else END

    class Drop(Sink):
        def write(self, batch, edge):
            pass

    def source(env):
        graph = Graph("arrays")
        graph.add_source("numbers", lambda index: Refills(), 2)
        graph.add_sink("end", lambda index: Drop(), 2)
        graph.connect("numbers", "end", "net.partition")
        env.run(graph)

    def adds_one(batch):
        batch += 1  # step
        return batch

    def step(env):
        numbers = TSetContext(env).parallelize(numpy.arange(10.0), 2)
        numbers.map_batches(adds_one, form="numpy").collect()

    def operator(env):
        memory = numpy.zeros(10)
        with net.operator(env, "partition", sources=range(2), targets=range(2)) as op:
            op.put(env.worker_id, memory)
            memory[:] = 1  # operator
"""
WRITES = {"source": "vertex 'numbers'", "step": "map_batches", "operator": "prog.py"}


@pytest.mark.parametrize("function", WRITES)
def test_writing_into_an_array_that_was_sent(jobs: Jobs, function: str) -> None:
    done = jobs.submit(f"{jobs.program(ARRAYS)}:{function}", "-q")
    assert done.code == 1, done
    line = next(number for number, text in enumerate(ARRAYS.splitlines(), 1) if text.endswith(f"# {function}"))
    for word in (
        "ValueError",
        WRITES[function],
        f"prog.py:{line}",
        "arrays that were sent on, or came from elsewhere, are read-only",
        "try: .*a copy of it \\(array.copy\\(\\)\\)",
    ):
        assert re.search(word, done.err), (word, done)
    assert len(re.findall(r"\[T2-[A-Z]\d+\]", done.err)) == 1, done
    assert len(jobs.events("attempt_started")) == 1
