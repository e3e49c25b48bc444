"""Members that give different options are told so; those that give the same are not, however they made them."""

from __future__ import annotations

import datetime
import functools
import operator as operators
import subprocess
import sys

import numpy
import pytest

import twister2_net as net
from twister2.spec.errors import StepMismatchError
from twister2_net.calls.alike import described, described_value
from twister2_testkit.fakes import LocalCluster

TASKS = {"sources": [0, 1, 2], "targets": [0, 1, 2]}
PAIRS = [(number, number) for number in range(20)]


def driven(name, **options):
    """A call that drives an operator; each option is a function of the rank."""

    def call(env):
        given = {option: make(env.worker_id) for option, make in options.items()}
        records = PAIRS if name.startswith("keyed") else [1, 2]
        with net.operator(env, name, **TASKS, **given) as op:
            return op.run({source: [list(records)] for source in op.local_sources}, 10.0)

    return call


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        (driven("allreduce", reducer=lambda r: "sum" if r else "max"), ("reducer='max'", "reducer='sum'")),
        (
            driven("allreduce", reducer=lambda r: "sum", initial=lambda r: 100 * min(r, 1)),
            ("initial=0", "initial=100"),
        ),
        (driven("keyed_reduce", reducer=lambda r: "sum" if r else "prod"), ("'sum'", "'prod'")),
        (driven("keyed_partition", ordered=lambda r: r == 0), ("ordered=True", "ordered=False")),
        (
            driven("partition", partitioner=lambda r: "range", bounds=lambda r: [1, 2 + (r == 0)]),
            ("bounds=[1, 3]", "bounds=[1, 2]"),
        ),
        (
            lambda env: net.join(env, PAIRS, PAIRS, "full" if env.worker_id else "inner"),
            ("how='full'", "how='inner'"),
        ),
        (
            lambda env: net.join(env, PAIRS, PAIRS, algorithm="sort" if env.worker_id else "hash"),
            ("algorithm='sort'", "algorithm='hash'"),
        ),
        (
            lambda env: net.keyed_gather(env, PAIRS, partitioner="range" if env.worker_id else "hash"),
            ("partitioner='range'", "partitioner='hash'"),
        ),
        (
            lambda env: net.keyed_gather(env, PAIRS, partitioner="range", bounds=[1, 2 + min(env.worker_id, 1)]),
            ("bounds=[1, 2]", "bounds=[1, 3]"),
        ),
        (
            lambda env: net.partition(env, [1], "range", bounds=[1, 2 + min(env.worker_id, 1)]),
            ("bounds=[1, 2]", "bounds=[1, 3]"),
        ),
        (lambda env: net.partition(env, [1], "range", descending=env.worker_id == 0), ("descending=True",)),
        (lambda env: net.keyed_reduce(env, PAIRS, "sum" if env.worker_id else "max"), ("'sum'", "'max'")),
        (
            lambda env: net.keyed_reduce(env, PAIRS, (lambda a, b: a) if env.worker_id else (lambda a, b: b)),
            ("<lambda>#",),
        ),
    ],
)
def test_other_options_on_another_member_are_an_error_that_shows_both(call, texts):
    with pytest.raises(StepMismatchError) as caught:
        LocalCluster(3, "loopback", deadline_s=20).run(call)
    assert caught.value.code == "T2-J406"
    for text in texts:
        assert text in str(caught.value)


def test_what_members_make_by_themselves_in_the_same_way_is_the_same():
    def main(env):
        me = env.worker_id

        def turn(record, n):  # may look at the worker it runs on
            return (record + me) % n

        if me:
            got = net.partition(env, [1, 2, 3], lambda record, n: record % n)
        else:
            got = net.partition(env, [1, 2, 3], lambda record, n: record % n)
        net.partition(env, [1, 2], turn)
        net.keyed_reduce(env, PAIRS, operators.add if me else "sum")
        with net.operator(env, "reduce", sources=[0, 1], targets=[1], reducer="sum", initial=numpy.arange(3)) as op:
            op.run()
        return len(got)

    assert sum(LocalCluster(3, "loopback").run(main)) == 9


class Named:
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"Named({self.name})"


def test_values_are_told_apart_and_equal_ones_are_not():
    def outer(function):
        return lambda a, b: function(a, b)

    def sums(a, b):
        return a + b

    def products(a, b):
        return a * b

    values = [
        1, 2, 1.5, "1", b"1", None, True, [1], [1, 2], [[1], 2], {"a": 1}, {"a": 2}, {1}, max, min, sums, products,
        outer(sums), outer(products), functools.partial(sums), numpy.arange(3), numpy.arange(3.0), numpy.arange(4),
        numpy.array(["a"], dtype=object), datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), Named("a"), Named("b"),
        object(), Named, numpy.add,
    ]  # fmt: skip
    texts = [described_value(value) for value in values]
    assert len(set(texts)) == len(texts)
    assert all(" at 0x" not in text for text in texts)
    assert described_value(object()) == described_value(object())
    assert described_value(numpy.int64(3)) == described_value(3)
    assert described_value((1, 2)) == described_value([1, 2])
    assert described_value({"a": 1, "b": 2}) == described_value({"b": 2, "a": 1})
    assert described({}) == ""
    long = described({"bounds": list(range(1000)), "reducer": "sum"})
    assert len(long) < 300
    assert "reducer='sum'" in long
    assert long.split()[0] != described({"bounds": [*range(999), 0], "reducer": "sum"}).split()[0]


def test_text_is_the_same_in_every_process():
    code = (
        "from twister2_net.calls.alike import described\n"
        "print(described({'reducer': lambda a, b: a in {'x', 'y', 'z'} or b, 'initial': {'x', 'y', 'z', 'w'}}))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=30
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


@pytest.mark.parametrize("values", [lambda me: me, lambda me: numpy.ones(2), lambda me: None])
def test_reducers_that_have_captured_different_values_are_different(values):
    def main(env, differ):
        held, value = 5 + differ * env.worker_id, values(env.worker_id)
        if value is None:
            return net.keyed_reduce(env, PAIRS, lambda a, b: a + b + held)
        return net.allreduce(env, value, lambda a, b: a + b + held)

    LocalCluster(2, "loopback", deadline_s=20).run(lambda env: main(env, 0))
    with pytest.raises(StepMismatchError):
        LocalCluster(2, "loopback", deadline_s=20).run(lambda env: main(env, 1))
