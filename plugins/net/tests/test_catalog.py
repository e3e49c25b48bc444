"""The catalogue names its classes: each exists, and importing the catalogue imports none of them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import twister2_net as net
from twister2_net import catalog
from twister2_net.exchange.lanes import LaneOperator
from twister2_testkit.fakes import LocalCluster

NAMED = sorted(
    {
        name
        for classes in (*catalog._CLASSES.values(), catalog._RING_CLASSES)
        for name in ([classes] if isinstance(classes, str) else classes.values())
    }
)


@pytest.mark.parametrize("name", NAMED)
def test_a_class_of_the_catalogue(name: str) -> None:
    assert issubclass(catalog._loaded(name), LaneOperator)


NOT_OF_CALLS = {
    "in_place": "rules of graphs write it, which know where records lie",
    "ordered": "what a call gives is by rank of sender anyway",
}
"""Options of operators that calls lack, and why."""
GIVEN = {"env", "batch", "pairs", "records", "left", "right", "inputs", "group", "value", "values", "parts"}
"""Parameters of calls that are no options."""
COLLECTIVES = {
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "broadcast",
    "gather",
    "reduce",
    "reduce_scatter",
    "scan",
}
"""Their calls take one value of each member."""
CALLS = sorted((catalog._INFOS.keys() & set(dir(net))) - COLLECTIVES)

OPTIONS = {
    "add": "function(state, record) of an aggregate",
    "aggregates": "aggregates by name",
    "algorithm": "how records go, or how a join is made",
    "bounds": "keys that cut ranges",
    "broadcast": "side that goes to all targets",
    "comparator": "function of two keys that says which comes first",
    "ddof": "of variances",
    "descending": "largest first",
    "grouped": "values of a key together, or one by one",
    "how": "kind of a join",
    "in_place": "inputs that lie where they belong",
    "initial": "value combined in once",
    "key": "function of a record, name of a column, or list of names",
    "keys": "one key for each input",
    "left_key": "key of the left",
    "left_schema": "columns of the left",
    "merge": "function(state, state) of an aggregate",
    "name": "of a barrier",
    "order": "in the order of keys",
    "ordered": "in the order of sources",
    "pairs": "whether records are (key, value)",
    "partitioner": "what chooses targets",
    "reducer": "function of two values that combines them",
    "result": "function(state) of an aggregate",
    "right_key": "key of the right",
    "right_schema": "columns of the right",
    "root": "rank that gets, or gives, a value",
    "start": "index of the first record",
    "zero": "first state of an aggregate",
}
"""What each name means, in all operators and calls. One that is not here may be another word for one that is."""


def options_of_call(name: str) -> set[str]:
    """Parameters that are options, those named in the text of ``**functions`` included."""
    parameters = inspect.signature(getattr(net, name)).parameters.values()
    named = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
    if len(named) < len(parameters):
        text = getattr(net, name).__doc__
        named |= {option for option in catalog._INFOS[name].options if re.search(rf"``{option}\b", text)}
    return named - GIVEN


def test_options_have_one_name_everywhere() -> None:
    used = {option for info in catalog._INFOS.values() for option in info.options}
    for name in {*CALLS, *COLLECTIVES}:
        used |= options_of_call(name)
    assert used == OPTIONS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_the_options_of_its_operator(name: str) -> None:
    options, named = catalog._INFOS[name].options.keys(), options_of_call(name)
    assert options - named - GIVEN <= NOT_OF_CALLS.keys()
    assert named <= options


@pytest.mark.parametrize("name", [name for name, info in catalog._INFOS.items() if info.combines])
def test_what_combines_does_not_look_at_batches(name: str) -> None:
    """Rules rely on it: they cut batches, and spread records anew, in front of such an operator."""
    info = catalog._INFOS[name]
    options = {"aggregates": "sum"} if name == "aggregate" else {"reducer": "sum"} if "reducer" in info.options else {}
    records: list[Any] = [("a", 1), ("b", 2), ("a", 3), ("b", 5)] if info.keyed else [1, 2, 3, 5]
    targets = [0] if info.shape == "many_to_one" else [0, 1]

    def main(env: Any) -> list[list[Any]]:
        found = []
        for batches in ([records], [records[:1], records[1:]], [[record] for record in records]):
            with net.operator(env, name, sources=[0, 1], targets=targets, **options) as op:
                items = op.run(dict.fromkeys(op.local_sources, batches))
            found.append(sorted(record for came in items.values() for item in came for record in item.value))
        return found

    for whole, cut, single in LocalCluster(2, "loopback").run(main):
        assert whole == cut == single


def test_operators_are_imported_when_they_are_used() -> None:
    program = "import sys, twister2_net.catalog; print([name for name in sys.modules if 'operators.' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
