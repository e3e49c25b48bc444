"""How many workers it takes for an operator to go along a tree, and that a program's word goes before."""

from __future__ import annotations

import pytest

from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_drive import Exchange, context_of

LIMITS = {"reduce": "tree_above", "allreduce": "tree_above"}
RELAYED = ("gather", "allgather", "broadcast")


def made(name, workers, *, algorithm="", **limits):
    """The operator as each of these workers makes it: its class, and its algorithm if it has one."""
    options = {"reducer": "sum"} if name in LIMITS else {}
    exchange = Exchange(
        name=name,
        sources=tuple(range(workers)),
        targets=tuple(range(workers)) if name.startswith("all") or name == "broadcast" else (0,),
        feeds=(),
        options={**options, **({"algorithm": algorithm} if algorithm else {})},
    )

    def main(env):
        with env.network.step("exchange", name) as step:
            operators = NetPlugin().ops_create(config=NetConfig(**limits))
            operator = operators.create(context_of(exchange, env, step))
            operator.close()
            return type(operator).__name__, getattr(operator, "algorithm", "")

    (found,) = set(LocalCluster(workers, "loopback").run(main))
    return found


@pytest.mark.parametrize("name", ["reduce", "allreduce"])
def test_reductions(name):
    assert made(name, 3, tree_above=3)[1] == "direct"
    assert made(name, 3, tree_above=2)[1] == "tree"
    assert made(name, 3, tree_above=3, algorithm="tree")[1] == "tree"
    assert made(name, 3, tree_above=1, algorithm="direct")[1] == "direct"


@pytest.mark.parametrize("name", RELAYED)
def test_what_is_passed_on(name):
    few, many = made(name, 3, relay_above=3), made(name, 3, relay_above=2)
    assert few != many
    assert few == made(name, 3, relay_above=1, algorithm="direct")
    assert many == made(name, 3, relay_above=3, algorithm="tree")


def test_the_usual_limits():
    assert [made("reduce", workers)[1] for workers in (4, 5)] == ["direct", "tree"]
