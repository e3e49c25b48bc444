"""The catalogue names its classes: each exists, and importing the catalogue imports none of them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import twister2_net as net
from twister2_net import catalog
from twister2_net.exchange.lanes import LaneOperator

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
GIVEN = {"env", "batch", "pairs", "records", "left", "right", "inputs", "group"}
"""Parameters of calls that are no options."""
COLLECTIVES = {"allgather", "allreduce", "alltoall", "barrier", "broadcast", "gather", "reduce", "reduce_scatter"}
"""Their calls take one value of each member: they are collective operations, whose parameters are Harp's."""
CALLS = sorted((catalog._INFOS.keys() & set(dir(net))) - COLLECTIVES)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_the_options_of_its_operator(name: str) -> None:
    call = getattr(net, name)
    options = catalog._INFOS[name].options.keys()
    parameters = inspect.signature(call).parameters
    named = {one.name for one in parameters.values() if one.kind is not one.VAR_KEYWORD}
    if len(named) < len(parameters):
        named |= {option for option in options if re.search(rf"``{option}\b", call.__doc__)}
    assert options - named <= NOT_OF_CALLS.keys()
    assert named - options <= GIVEN


def test_operators_are_imported_when_they_are_used() -> None:
    program = "import sys, twister2_net.catalog; print([name for name in sys.modules if 'operators.' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
