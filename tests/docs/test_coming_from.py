"""Every name of Twister2 in the tables for those who come from elsewhere exists."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import twister2
import twister2_harp
import twister2_net
import twister2_tset
from twister2.cli.main import COMMANDS
from twister2.graph import Graph
from twister2.spec import running, tasks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "coming-from.md"
CLASSES = {
    "env": twister2.WorkerEnvironment,
    "Harp": twister2_harp.Harp,
    "Graph": Graph,
    **{name: getattr(twister2_tset, name) for name in ("TSet", "TSetContext", "StoredSet", "Grouped", "SetContext")},
    **{name: getattr(tasks, name) for name in ("Source", "Compute", "Sink", "TaskContext")},
    "Running": running.Running,
    "WorkerEnvironment": twister2.WorkerEnvironment,
    "Table": twister2_harp.Table,
}
PARAMETERS = {
    "how": twister2_tset.TSet.join,
    "on": twister2_tset.TSet.join,
    "algorithm": twister2_tset.TSet.join,
    "broadcast": twister2_tset.TSet.join,
    "form": twister2_tset.TSet.collect,
    "grouped": twister2_tset.TSet.keyed_gather,
    "largest": twister2_tset.TSet.top,
    "ddof": twister2_tset.TSet.std,
    "cpus": Graph.add_compute,
    "memory_mb": Graph.add_compute,
    "gpus": Graph.add_compute,
}
TYPED = importlib.import_module("twister2.graph.typed")
PLUGINS = {"comm_mpi": "twister2_comm_mpi"}
NO_NAMES = {"context", "wait", "test", '"sum"', "twister2.toml"}
"""The parameter of functions of sets, methods of a request, a value, a file."""


def right_columns() -> list[str]:
    rows = [
        line.strip("| \n").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    ]
    return [row[-1] for row in rows if row[-1] not in ("here", "---")]


def names() -> list[str]:
    """Inline code in the right columns, and in the text between the tables."""
    text = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    prose = " ".join(line for line in text.splitlines() if line[:1] != "|")
    return sorted(set(re.findall(r"`([^`]+)`", " ".join([*right_columns(), prose]))) - NO_NAMES)


def attributes_of(cls: type) -> set[str]:
    annotated = {name for each in cls.__mro__ for name in getattr(each, "__annotations__", {})}
    init = cls.__init__.__code__.co_names if hasattr(cls.__init__, "__code__") else ()
    return {*dir(cls), *annotated, *init}


def exists(name: str) -> bool:
    first, _, rest = name.partition(".")
    if name.startswith("twister2 "):
        return name.split()[1] in COMMANDS
    if first == "net":
        return rest.isidentifier() and callable(getattr(twister2_net, rest, None))
    if first == "twister2":
        return hasattr(twister2, rest) or importlib.util.find_spec(name) is not None
    if first == "job":
        return True  # options have a test of their own, for all pages
    if first in CLASSES:
        return not rest or rest in attributes_of(CLASSES[first])
    if name in PARAMETERS:
        return name in PARAMETERS[name].__code__.co_varnames
    return hasattr(TYPED, name) or (name in PLUGINS and importlib.util.find_spec(PLUGINS[name]) is not None)


@pytest.mark.parametrize("name", names())
def test_a_name_exists(name: str) -> None:
    assert exists(name)


def test_there_are_tables_for_five_systems() -> None:
    titles = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert titles == ["Spark", "pandas", "Dask", "MPI (mpi4py)", "Twister2 (Java)"]
    assert len(right_columns()) > 60
    assert len(names()) > 100


@pytest.mark.parametrize(
    "name", ["TSet.nothing", "net.nothing", "env.nothing", "Nothing", "twister2.nothing", "twister2 nothing", "how2"]
)
def test_a_wrong_name_would_be_found(name: str) -> None:
    assert not exists(name)
