"""Runs that are placed near their data."""

from __future__ import annotations

import types

import pytest

import twister2
from twister2.graph import Graph
from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.tasks import END, Sink, Source
from twister2_sched_datalocality.config import DataLocalityConfig
from twister2_sched_datalocality.scheduler import DataLocality
from twister2_testkit.graphs import run_workers


class Planned:
    """Where the data of each task lies, as a planner would say it."""

    def __init__(self, hosts, sizes):
        self.hosts, self.sizes = hosts, sizes


class Number(Source):
    def __init__(self, index):
        self.batches = [[index]]

    def poll(self):
        return self.batches.pop() if self.batches else END


class Where(Sink):
    def __init__(self, index):
        self.seen = []

    def write(self, batch, edge):
        self.seen += batch

    def output(self):
        return self.seen


def graph(planned, scheduler=None):
    made = Graph("near", scheduler=scheduler)
    made.add_source("numbers", lambda index, _: Number(index), len(planned.sizes), planner=lambda: planned)
    made.add_sink("seen", Where)
    made.connect("numbers", "seen")
    return made


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_each_worker_reads_what_lies_on_its_host(executor):
    homes = [2, 0, 1, 1, 2, 0, 0]
    planned = Planned({k: (f"machine{home}",) for k, home in enumerate(homes)}, [1 << 20] * len(homes))

    def main(env):
        infos = [WorkerInfo(k, k, NodeFacts(f"machine{k}", boot_id=f"boot{k}")) for k in range(env.n_workers)]
        env.controller = types.SimpleNamespace(workers=lambda: infos)
        built = graph(planned, DataLocality(DataLocalityConfig(slack=0.5)))
        outputs = [env.run(built), env.run(built)]
        with env.prepare(graph(planned, DataLocality(DataLocalityConfig(slack=0.5)))) as prepared:
            text = prepared.explain()
        return [sorted(x for task in output["seen"] for x in task) for output in outputs], text

    results = run_workers(3, main, executor=executor)
    assert [seen for seen, _ in results] == [[[1, 5, 6]] * 2, [[2, 3]] * 2, [[0, 4]] * 2]
    assert len({text for _, text in results}) == 1, "workers explain different plans"
    assert "worker 0 (machine0): 3 tasks read 3 MiB here, 0 read 0 MiB elsewhere" in results[0][1]
    assert "reads near" in results[0][1]


def job(env):
    here = env.node.host
    planned = Planned({k: (here,) for k in range(4)}, [100] * 4)
    outputs = env.run(graph(planned))
    return sorted(x for task in outputs["seen"] for x in task)


def test_a_job_on_one_machine_shares_the_work():
    results = twister2.run(job, workers=2, settings=["job.sched=datalocality", "job.attempts=1"])
    assert sorted(results[0] + results[1]) == [0, 1, 2, 3]
    assert [len(seen) for seen in results] == [2, 2]


def test_sets_are_read_from_files_as_before(tmp_path):
    for k in range(4):
        (tmp_path / f"part{k}.txt").write_text("".join(f"line {k} {j}\n" for j in range(5)))
    results = twister2.run(read, args=[str(tmp_path)], workers=2, settings=["job.sched=datalocality", "job.attempts=1"])
    assert results[0] == sorted(f"line {k} {j}" for k in range(4) for j in range(5))


def read(env):
    from twister2_tset import TSetContext

    return sorted(TSetContext(env).read_text(f"{env.args[0]}/*.txt").collect())
