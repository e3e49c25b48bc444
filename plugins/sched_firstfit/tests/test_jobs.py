"""Jobs that are placed by first fit."""

from __future__ import annotations

import pytest

import twister2
from twister2.graph import Graph
from twister2.spec.errors import Twister2Error
from twister2.spec.tasks import END, Compute, Sink, Source

SETTINGS = ["job.sched=firstfit", "job.memory_mb=400", "job.cpus=2", "job.oversubscribe=true", "job.attempts=1"]


class Numbers(Source):
    def __init__(self, index):
        self.batches = [list(range(index * 10, index * 10 + 10))]

    def poll(self):
        return self.batches.pop() if self.batches else END


class Double(Compute):
    narrow = True

    def __init__(self, index):
        pass

    def process(self, batch, emit, edge):
        emit([2 * x for x in batch])


class Where(Sink):
    def __init__(self, index):
        self.total = 0

    def open(self, context):
        self.worker = context.worker_id

    def write(self, batch, edge):
        self.total += sum(batch)

    def output(self):
        return self.worker, self.total


def job(env):
    graph = Graph("fits")
    graph.add_source("numbers", Numbers, 3, cpus=0.25)
    graph.add_compute("double", Double, memory_mb=int(env.args[0]), cpus=0.25)
    graph.add_sink("total", Where)
    graph.connect("numbers", "double")
    graph.connect("double", "total")
    text = graph.explain(env)
    return env.run(graph)["total"], text


def test_tasks_go_where_there_is_room():
    results = twister2.run(job, args=["150"], workers=2, settings=SETTINGS)
    assert results[0][0] == [(0, 90), (0, 290)]
    assert results[1][0] == [(1, 490)]
    assert "300 of 400 MiB" in results[0][1]
    assert results[0][1] == results[1][1]


def test_what_fits_nowhere_ends_the_job_with_what_is_missing():
    with pytest.raises(Twister2Error, match="'double' does not fit") as caught:
        twister2.run(job, args=["401"], workers=2, settings=SETTINGS)
    assert "401 MiB of memory" in str(caught.value)
    assert "400 MiB" in str(caught.value)


def test_options_come_from_the_configuration():
    results = twister2.run(job, args=["100"], workers=2, settings=[*SETTINGS, "sched.firstfit.memory_padding_mb=200"])
    assert [[worker for worker, _ in tasks] for tasks, _ in results] == [[0, 0], [1]]
    assert "200 MiB of each worker left free" in results[0][1]
