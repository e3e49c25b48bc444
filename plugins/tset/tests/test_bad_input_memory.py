"""Records that fit into no memory, and disks that fill: a clear error or the right answer on every worker."""

from __future__ import annotations

import gc
import os
import subprocess

import pytest

from twister2.spec.errors import MemoryBudgetError, SpillError
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)
HERE = "test_bad_input_memory.py:"
RECORD = 2 << 20
BUDGET = 1 << 20

# By name: what is asked of pairs (number, text) of numbers 0 to 5, and the answer.
PASSES = {
    "map": (lambda s: s.map(lambda pair: pair[0]).sum(), 15),
    "partition": (lambda s: s.keyed_partition().keys().sum(), 15),
    "persist": (lambda s: s.persist().keys().sum(), 15),
    "cache": (lambda s: s.cache().keys().sum(), 15),
    "compute": (lambda s: s.map_partitions(lambda walk: (pair[0] for pair in walk)).sum(), 15),
    "zip_with_index": (lambda s: s.zip_with_index().map(lambda pair: pair[1]).sum(), 15),
}
"""What lets records pass, or writes them to disk one by one: it needs no more room than a record takes."""

HOLDS = {
    "keyed_gather": (lambda s: s.keyed_gather().map(lambda group: group[0]).sum(), 15),
    "join": (lambda s: s.join(s).keys().sum(), 15),
    "sort": (lambda s: s.sort().keys().sum(), 15),
    "distinct": (lambda s: s.distinct().keys().sum(), 15),
    "co_group": (lambda s: s.co_group(s).keys().sum(), 15),
    "keyed_reduce": (lambda s: s.keyed_reduce(max).keys().sum(), 15),
    "count_by_value": (lambda s: s.count_by_value().values().sum(), 6),
    "cross": (lambda s: s.cross(s).map(lambda two: two[0][0]).sum(), 90),
    "reduce": (lambda s: s.reduce(max)[0], 5),
    "top": (lambda s: s.top(1)[0][0], 5),
    "collect": (lambda s: len(s.collect()), 6),
    "replicate": (lambda s: s.replicate().keys().mean(), None),
}
ALWAYS = ("keyed_gather", "join", "sort", "co_group", "collect")
"""What has to hold a record on any worker."""


def large(env, record_bytes):
    """Pairs of six numbers and texts, made where they lie."""

    def pairs(partition):
        for number in range(partition, 6, 2):
            yield number, str(number) + "x" * record_bytes

    return TSetContext(env).source(pairs, 2)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", PASSES)
def test_records_that_only_pass_need_no_budget(tmp_path, name, workers):
    ask, answer = PASSES[name]
    options = {"memory_bytes": BUDGET, "spill_dirs": [str(tmp_path)], "deadline_s": 60.0}
    assert run_workers(workers, lambda env: ask(large(env, RECORD)), **options) == [answer] * workers
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", HOLDS)
def test_one_record_that_is_larger_than_the_budget(tmp_path, executor, name, workers):
    """The error names who wanted how much and the line; where nothing has to be held, the answer is right."""
    ask, answer = HOLDS[name]
    options = {"memory_bytes": BUDGET, "spill_dirs": [str(tmp_path)], "executor": executor, "deadline_s": 60.0}
    refused = found = None
    try:
        found = run_workers(workers, lambda env: ask(large(env, RECORD)), **options)
    except MemoryBudgetError as error:
        refused = error
    if refused is None:
        assert name not in ALWAYS
        assert answer is None or found == [answer] * workers
    else:
        assert "MiB more memory than this worker has left" in refused.what
        assert HERE in str(refused)
        assert "job.memory_mb" in refused.remedy
    assert not list(tmp_path.iterdir())


# -- disks that fill ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], timeout=10, check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], timeout=10, check=True)


SPILLS = {
    "sort": lambda s: s.sort().count(),
    "keyed_gather": lambda s: s.keyed_gather().count(),
    "join": lambda s: s.join(s).count(),
    "distinct": lambda s: s.distinct().count(),
    "keyed_reduce": lambda s: s.keyed_reduce(max).count(),
    "cross": lambda s: s.cross(s.filter(lambda pair: pair[0] < 2)).count(),
    "zip_with_index": lambda s: s.zip_with_index().count(),
    "cache": lambda s: s.cache().count(),
    "persist": lambda s: s.persist().count(),
    "compute": lambda s: s.compute(lambda walk: sum(1 for _ in walk)).sum(),
}


@pytest.mark.needs_mount
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", SPILLS)
def test_a_disk_that_fills_while_memory_is_short(tiny, executor, name):
    def pairs(partition):  # 6 MiB on each worker, which no compression makes small
        for number in range(partition, 12_000, 2):
            yield number, os.urandom(500).hex()

    def job(env):
        return SPILLS[name](TSetContext(env).source(pairs, 2))

    options = {"memory_bytes": 2 << 20, "spill_dirs": [str(tiny)], "executor": executor, "deadline_s": 60.0}
    with pytest.raises(SpillError) as caught:
        run_workers(2, job, **options)
    text = str(caught.value)
    del caught  # its traceback has the frames of what held the files
    gc.collect()
    for part in ("No space left", str(tiny), "job.spill_dirs", HERE):
        assert part in text
    assert not list(tiny.iterdir())
    assert os.statvfs(tiny).f_bavail * os.statvfs(tiny).f_bsize > 900_000, "the disk is given back"
