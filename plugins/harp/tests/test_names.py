"""Names of mpi4py's communicators are told what they are called here; the documented lists are complete."""

from __future__ import annotations

import copy
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twister2_harp import Harp
from twister2_harp.names import ELSEWHERE, advice

Run = Callable[..., list[Any]]
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "harp.md"
COLLECTIVE = re.compile(r"I?(All|Gather|Scatter|Reduce|Bcast|Barrier|Scan|Exscan)\w*$", re.IGNORECASE)
ARRAYS = {name for name in vars(Harp) if name[0].isupper()}


def test_a_name_of_mpi4py_says_what_it_is_called_here(run: Run) -> None:
    def program(harp: Harp) -> None:
        with pytest.raises(AttributeError, match=r"no 'Bcast'; here it is: Broadcast$"):
            harp.Bcast([1.0])  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match=r"no 'Allreduc'; there is 'Allreduce'"):
            harp.Allreduc  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(AttributeError, match=r"no 'Regroup'; there is 'regroup' for objects and tables"):
            harp.Regroup  # type: ignore[attr-defined]  # noqa: B018
        assert not hasattr(harp, "Alltoallv")
        assert getattr(harp, "Probe", None) is None
        with pytest.raises(AttributeError):
            copy.copy(object.__new__(Harp).rank)
        harp.Barrier()

    run(program, 2)


def test_a_property_that_fails_says_why() -> None:
    class Broken(Harp):
        @property
        def depth(self) -> int:
            return None.depth  # type: ignore[attr-defined,no-any-return]

    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'depth'"):
        object.__new__(Broken).depth  # noqa: B018
    with pytest.raises(AttributeError, match="no 'width'"):
        object.__new__(Broken).width  # type: ignore[attr-defined]  # noqa: B018


def test_what_is_named_instead_exists() -> None:
    for name, instead in ELSEWHERE.items():
        assert not hasattr(Harp, name), name
        first = re.split(r"[ ,(.]", instead)[0]
        attributes = {"rank", "size", "events", "Harp", "an"}
        assert first in attributes or hasattr(Harp, first), instead
    assert advice("xyzzy", dir(Harp)).endswith("env.mpi is the communicator of mpi4py")


@pytest.mark.needs_mpi
def test_every_collective_of_mpi4py_exists_or_has_another_name() -> None:
    look = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(*dir(MPI.Intracomm))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    names = {name for name in done.stdout.split() if COLLECTIVE.match(name) and not name.endswith("_init")}
    assert len(names) > 40
    assert not {name for name in names if not hasattr(Harp, name) and name not in ELSEWHERE}


def test_every_call_has_one_that_does_not_wait_with_the_same_parameters() -> None:
    calls = {name for name in dir(Harp) if not name.startswith("_") and inspect.isfunction(getattr(Harp, name))}
    calls -= {"split", "split_by_host", "op_of"}  # groups are made, not computed with
    without = {f"I{name.lower()}" if name[0].isupper() else f"i{name}": name for name in calls}
    found = without.keys() & calls
    assert calls == found | {without[name] for name in found}
    for name in found:
        one, other = (inspect.signature(getattr(Harp, each)).parameters for each in (name, without[name]))
        assert one == other, name


def test_the_guide_lists_all_calls_on_arrays() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    there, _, rest = text.partition("| there are |")[2].partition("| there are not |")
    assert set(re.findall(r"`(\w+)`", there)) == ARRAYS
    instead = dict(re.findall(r"`(\w+)`: `([^`]+)`", rest.partition("\n\n")[0]))
    assert instead.keys() == {name for name in ELSEWHERE if COLLECTIVE.match(name) and name[0].isupper()}
    assert all(ELSEWHERE[name].startswith(re.split(r"[ ,]", other)[0]) for name, other in instead.items())
