"""Errors of operators: which one, on which worker and task, at which line of the program, with which record."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import twister2_net as net
from twister2.spec.errors import (
    KeyHashError,
    MemoryBudgetError,
    OperatorError,
    SerializationError,
    SpillError,
    StepMismatchError,
    UserCodeError,
)
from twister2.worker.network import steps
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_spill import small_disk


class Closed:
    """Cannot be pickled."""

    def __reduce__(self):
        raise RuntimeError("not for sale")

    def __repr__(self):
        return "<closed>"


def raising(*values):
    raise ZeroDivisionError(f"{len(values)} values")


def driven(env, feed, name="keyed_reduce", **options):
    with net.operator(env, name, sources=[0, 1], targets=[0, 1], label="edge", **options) as op:
        op.run({source: feed(source) for source in op.local_sources})


CASES = {
    "unhashable": (lambda env: net.keyed_reduce(env, [([1], 2)]), KeyHashError, "keyed_reduce", "[1]"),
    "unhashable record": (lambda env: net.count_by_value(env, [{1: 2}]), KeyHashError, "count_by_value", "{1: 2}"),
    "unhashable text": (lambda env: net.partition(env, [{1: 2}]), KeyHashError, "partition", "{1: 2}"),
    "no pair": (lambda env: net.keyed_reduce(env, [3]), OperatorError, "keyed_reduce", "3"),
    "no pair to gather": (lambda env: net.keyed_gather(env, [3]), OperatorError, "keyed_gather", "3"),
    "no pair on an edge": (lambda env: driven(env, lambda _: [[5]], reducer="sum"), OperatorError, "'edge'", "5"),
    "no records": (lambda env: net.keyed_gather(env, 12), OperatorError, "keyed_gather", "12"),
    "no batch": (lambda env: net.partition(env, 12), OperatorError, "partition", "12"),
    "no axis": (lambda env: net.sort(env, np.array(5)), OperatorError, "sort", "array(5)"),
    "no batch on an edge": (lambda env: driven(env, lambda _: [5], "partition"), OperatorError, "'edge'", "5"),
    "wrong index": (lambda env: net.partition(env, [8], lambda _, n: 7), OperatorError, "partition", "8"),
    "no index": (lambda env: net.partition(env, [8], lambda _, n: "x"), OperatorError, "partition", "8"),
    "reducer": (lambda env: net.keyed_reduce(env, [("a", 1)] * 2, raising), UserCodeError, "keyed_reduce", "('a', 1"),
    "sum": (lambda env: net.keyed_reduce(env, [("a", "b"), ("a", 2)]), UserCodeError, "keyed_reduce", "('a', 'b', 2)"),
    "key": (lambda env: net.partition(env, [9], key=raising), UserCodeError, "partition", "9"),
    "key of sort": (lambda env: net.sort(env, [9], key=raising), UserCodeError, "sort", "9"),
    "key of join": (lambda env: net.join(env, [9], [], left_key=raising), UserCodeError, "join", "9"),
    "order": (lambda env: net.sort(env, [1, "a"]), OperatorError, "sort", "'str' and 'int'"),
    "order of arrays": (
        lambda env: net.sort(env, [np.array([2, 1]), np.array([1, 2])]),
        OperatorError,
        "sort",
        "each array is one record",
    ),
    "order of a join": (
        lambda env: net.join(env, [(None, 1), (2, 1)], [], "left", algorithm="sort"),
        OperatorError,
        "join",
        "algorithm='hash'",
    ),
    "comparator": (lambda env: net.sort(env, [1, 2], comparator=raising), UserCodeError, "sort", "two keys"),
    "mode": (lambda env: driven(env, list, "number", mode="stream"), OperatorError, "'edge'", "mode='batch'"),
    "mean": (lambda env: net.aggregate(env, ["ab"], "mean"), OperatorError, "aggregate", "'ab"),
    "no aggregates": (lambda env: net.aggregate(env, [1]), OperatorError, "option 'aggregates'", 'such as "sum"'),
    "add": (
        lambda env: net.aggregate(env, ["ab"], zero=0, add=raising, merge=raising),
        UserCodeError,
        "aggregate",
        "'ab'",
    ),
    "lengths": (lambda env: net.zip(env, [1], [2] * (2 + env.worker_id)), OperatorError, "zip", "1 records"),
    "option": (lambda env: net.partition(env, [1], "hsh"), OperatorError, "partition", "hsh"),
    "forms": (
        lambda env: net.partition(env, [1, 2] if env.worker_id else np.arange(2), "round_robin"),
        OperatorError,
        "partition",
        "int64",
    ),
    "marks": (
        lambda env: driven(env, lambda s: [net.Mark("flush", s)], mode="stream", reducer="sum"),
        OperatorError,
        "'edge'",
        "FLUSH",
    ),
    "pickle": (
        lambda env: net.partition(env, [Closed()], lambda _, n: 1 - env.worker_id),
        SerializationError,
        "partition",
        "<closed>",
    ),
    "pickle of values": (lambda env: net.gather(env, Closed()), SerializationError, "gather", "<closed>"),
    "pickle on an edge": (
        lambda env: driven(env, lambda _: [[Closed()]], "allgather"),
        SerializationError,
        "'edge'",
        "<closed>",
    ),
    "function of objects": (lambda env: net.allreduce(env, [7], raising), UserCodeError, "allreduce", "[7]"),
    "function of arrays": (lambda env: net.reduce(env, np.ones(3), raising), UserCodeError, "reduce", "(3,)"),
    "memory": (
        lambda env: net.keyed_reduce(env, [("a", 1)] * 2, lambda a, b: env.memory.reserve("mine", 1 << 40)),
        MemoryBudgetError,
        "keyed_reduce",
        "mine",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_name_operator_worker_line_and_record(case):
    call, kind, operator, record = CASES[case]
    with pytest.raises(kind) as caught:
        LocalCluster(2, "loopback", memory_bytes=64 << 20, deadline_s=20).run(call)
    error = caught.value
    text = str(error)
    assert operator in text
    assert record in text
    assert any(f"worker {worker}" in error.where for worker in (0, 1)), text
    assert error.details["worker"] in (0, 1)
    lines, first = inspect.getsourcelines(driven if "edge" in operator else call)
    named = [f"{__file__}:{number}" for number in range(first, first + len(lines))]
    assert f"{__file__}:" in error.where, text
    assert any(error.details["line"].endswith(line) for line in named), error.details["line"]
    if kind is UserCodeError:
        assert "Error" in error.details["traceback"]


def test_a_full_disk_names_the_call():
    def main(env):
        return len(net.sort(env, (f"{number} {'.' * 200}" for number in range(200_000))))

    with small_disk(4) as folder, pytest.raises(SpillError) as caught:
        LocalCluster(2, "loopback", memory_bytes=8 << 20, spill_dirs=[folder], deadline_s=60).run(main)
    assert f"{__file__}:" in caught.value.where
    assert "sort" in str(caught.value)
    assert "worker" in caught.value.where


def breaking():
    yield 1, 2
    raise KeyError("gen broke")


FEEDS = {
    "iterable": lambda env: net.keyed_gather(env, breaking()),
    "feed": lambda env: driven(env, lambda _: ([pair] for pair in breaking()), reducer="sum"),
    "key": lambda env: net.sort(env, [1], key=lambda record: next(breaking(), raising())),
}


@pytest.mark.parametrize("case", FEEDS)
def test_what_reads_records_fails_with_the_frames_of_the_program_only(case, monkeypatch):
    told, as_failure = [], steps.as_failure

    def watched(error, step):
        told.append(as_failure(error, step))
        return told[-1]

    monkeypatch.setattr(steps, "as_failure", watched)
    with pytest.raises((KeyError, UserCodeError)):
        LocalCluster(2, "loopback", deadline_s=20).run(FEEDS[case])
    (error, *_) = [error for error in told if isinstance(error, UserCodeError)]
    shown = error.details["traceback"]
    assert "twister2_net" not in shown
    assert "twister2/" not in shown
    assert f"{__file__}:" in error.where
    assert f" in {'raising' if case == 'key' else 'breaking'}" in error.where
    assert "called at" in error.where
    assert "worker" in error.where


def test_what_is_reduced_are_records():
    with pytest.raises(OperatorError, match="keyed_reduce was given 12 as records"):
        LocalCluster(1, "loopback").run(lambda env: net.keyed_reduce(env, 12))


def test_an_operator_without_a_label_is_called_by_its_name():
    def main(env):
        return net.operator(env, "reduce", sources=[0], targets=[0], reducr="sum")

    with pytest.raises(OperatorError, match=r"^.T2-N503. reduce has no option 'reducr'"):
        LocalCluster(1, "loopback").run(main)


def test_numbers_and_arrays_in_one_reduction():
    with pytest.raises(StepMismatchError, match="give arrays on all members, or other values on all"):
        LocalCluster(2, "loopback", deadline_s=20).run(
            lambda env: net.allreduce(env, np.ones(3) if env.worker_id else 3)
        )
