"""The catalogue names its classes: each exists, and importing the catalogue imports none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_operators_are_imported_when_they_are_used() -> None:
    program = "import sys, twister2_net.catalog; print([name for name in sys.modules if 'operators.' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
