"""Joins of Arrow batches that have not all the same columns."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

import twister2_net as net
from twister2.spec.errors import OperatorError
from twister2_net.spilling.named_columns import NamedForm
from twister2_testkit.fakes import LocalCluster

N = 30_000
NAMES = ("k", "a", "b", "name")


def left(worker):
    """Worker 0 has no column b, worker 1 none called a, and its columns lie the other way round."""
    mine = range(worker, N, 2)
    if worker == 0:
        return pa.record_batch({"k": [n % 700 for n in mine], "a": [f"a{n}" for n in mine]})
    return pa.record_batch({"b": [n / 4 for n in mine], "k": [n % 700 for n in mine]})


RIGHT = pa.record_batch({"name": [f"name{n}" for n in range(650, 750)], "k": list(range(650, 750))})


def expected(how):
    rows = []
    for n in range(N):
        key = n % 700
        mine = (key, *((f"a{n}", None) if n % 2 == 0 else (None, n / 4)))
        if how in ("semi", "anti"):
            rows += [mine] * ((key >= 650) == (how == "semi"))
        elif key >= 650 or how in ("left", "full"):
            rows.append((*mine, f"name{key}" if key >= 650 else None))
    if how in ("right", "full"):
        rows += [(key, None, None, f"name{key}") for key in range(700, 750)]
    return Counter(rows)


@pytest.mark.parametrize("memory", [0, 400_000])
@pytest.mark.parametrize("algorithm", ["hash", "sort"])
@pytest.mark.parametrize("how", ["inner", "left", "right", "full", "semi", "anti"])
def test_what_some_batches_lack_is_null_in_their_rows(how, algorithm, memory):
    def main(env):
        mine = RIGHT.slice(50 * env.worker_id, 50)
        keys = {"left_key": "k", "right_key": "k"}
        got = net.join(env, left(env.worker_id), mine, how, algorithm=algorithm, **keys)
        return list(got), env.memory.use().spilled

    found = LocalCluster(2, "loopback", memory_bytes=memory, deadline_s=60).run(main)
    rows = [row for part, _ in found for row in part]
    names = NAMES[:-1] if how in ("semi", "anti") else NAMES
    assert Counter(tuple(row[name] for name in names) for row in rows) == expected(how)
    assert len({tuple(row) for row in rows}) == 1, "one order of columns everywhere"
    assert all(bool(spilled) == bool(memory) for _, spilled in found)


def test_columns_of_types_that_do_not_fit_are_refused():
    parts = [pa.table({"k": [1], "v": [1]}), pa.table({"v": ["text"], "k": [1]})]
    with pytest.raises(OperatorError, match="v: int64"):
        NamedForm(("k",), "join").joined(parts)


def test_columns_of_all_types_are_filled_up():
    values = pa.table({"k": [1, 2], "v": [["x"], None], "d": pa.array(["a", "b"]).dictionary_encode(), "n": [None] * 2})
    others = pa.table({"n": [7], "k": [3]})
    for parts in ([values, others], [others, values]):
        found = {row["k"]: row for row in NamedForm(("k",), "join").joined(parts).to_pylist()}
        assert found == {
            1: {"k": 1, "v": ["x"], "d": "a", "n": None},
            2: {"k": 2, "v": None, "d": "b", "n": None},
            3: {"k": 3, "v": None, "d": None, "n": 7},
        }


def test_columns_of_one_name_are_not_mixed_up():
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["k", "k"])
    with pytest.raises(OperatorError, match="different columns"):
        NamedForm((), "join").joined([twice, pa.table({"k": [1]})])


@pytest.mark.parametrize(("how", "n"), [("semi", 600), ("anti", 2)])
def test_rows_of_one_key_that_is_on_disk_come_once(how, n):
    def main(env):
        keys, others = [1] * 300 + [2], [1] * 400
        one, other = (pa.record_batch({"k": some, "v": ["." * 900] * len(some)}) for some in (keys, others))
        got = net.join(env, one, other, how)
        return [row["k"] for row in got], env.memory.use().spilled

    found = LocalCluster(2, "loopback", memory_bytes=300_000, deadline_s=60).run(main)
    assert [key for keys, _ in found for key in keys] == [1 if how == "semi" else 2] * n
    assert sum(spilled for _, spilled in found)
