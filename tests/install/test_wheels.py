"""What every wheel carries, and that it requires what it imports."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(f"plugins/{path.parent.name}" for path in ROOT.glob("plugins/*/pyproject.toml"))
WITH_CODE = ["core", "testkit", *PLUGINS]

# a package that is loaded by one call, which says what is missing: network.collectives()
ON_USE = {"core": {"numpy"}}

LAZY = {
    # values of these types are recognised by sys.modules; the import runs only where somebody has made one
    "core": {"numpy", "pyarrow"},
    "plugins/net": {"pyarrow"},
    "plugins/tset": {"numpy", "pyarrow"},
    # fsspec reads the web with aiohttp, which is an extra; its errors are recognised where it is there
    "plugins/data_file": {"numpy", "aiohttp"},
    # the version of the MPI library of a job that uses one; the plot is an extra
    "plugins/bench": {"mpi4py", "matplotlib"},
    # keys for transports that need some; those bring it
    "testkit": {"zmq"},
}
"""What a distribution imports inside functions without requiring it: it works without."""


@pytest.mark.parametrize("folder", [".", *WITH_CODE])
def test_a_wheel_has_its_licence_readme_and_python(wheels, folder):
    wheel = wheels[folder]
    licences = [data for name, data in wheel.files.items() if ".dist-info/licenses/" in name]
    assert licences == [(ROOT / "LICENSE").read_bytes()]
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    assert wheel.metadata["Requires-Python"] == ">=3.11"
    readme = (ROOT / folder / "README.md").read_text(encoding="utf-8").strip()
    assert len(readme) > 100
    assert wheel.metadata["Description-Content-Type"] == "text/markdown"
    assert wheel.metadata.get_payload().strip() == readme


@pytest.mark.parametrize("folder", WITH_CODE)
def test_a_wheel_holds_its_package_typed_and_nothing_else(wheels, folder):
    wheel = wheels[folder]
    tops = {name.partition("/")[0] for name in wheel.files}
    package = "twister2" if folder == "core" else wheel.name.replace("-", "_")
    assert tops == {package, f"{wheel.name.replace('-', '_')}-{wheel.metadata['Version']}.dist-info"}
    assert f"{package}/py.typed" in wheel.files
    assert f"{package}/__init__.py" in wheel.files
    sources = ROOT / folder / "src"
    there = {path.relative_to(sources).as_posix() for path in sources.rglob("*.py")}
    assert set(wheel.modules) == there


def test_the_umbrella_brings_the_core_and_the_default_plugins_and_no_code(wheels):
    umbrella = wheels["."]
    assert not umbrella.modules
    defaults = (
        *("comm_inproc", "comm_shm", "comm_tcp", "data_file", "exec_inline", "exec_threads", "net"),
        *("observe_progress", "rm_standalone", "sched_roundrobin", "state_file", "tset"),
    )
    assert umbrella.needs() == {"twister2-core", *(f"twister2-{name.replace('_', '-')}" for name in defaults)}
    assert umbrella.needs("slurm") - umbrella.needs() == {"twister2-rm-slurm"}
    assert umbrella.needs("k8s") - umbrella.needs() == {"twister2-rm-k8s"}
    assert umbrella.needs("nomad") - umbrella.needs() == {"twister2-rm-nomad"}
    assert umbrella.needs("mesos") - umbrella.needs() == {"twister2-rm-mesos"}
    assert umbrella.needs("mpi") - umbrella.needs() == {"twister2-comm-mpi", "mpich"}
    assert umbrella.needs("harp") - umbrella.needs() == {"twister2-harp"}
    assert umbrella.needs("sched") - umbrella.needs() == {"twister2-sched-datalocality", "twister2-sched-firstfit"}
    assert umbrella.needs("bench") - umbrella.needs() == {"twister2-bench", "matplotlib"}
    everything = umbrella.needs("slurm", "k8s", "nomad", "mesos", "mpi", "harp", "sched", "bench")
    assert everything - {"mpich", "matplotlib"} == {wheels[folder].name for folder in ("core", *PLUGINS)}
    assert umbrella.needs("all") == everything


@pytest.mark.parametrize("folder", WITH_CODE)
def test_a_wheel_requires_what_it_imports_and_imports_what_it_requires(wheels, folder):
    wheel = wheels[folder]
    provided = {module: set(names) for module, names in importlib.metadata.packages_distributions().items()}
    at_top, inside = _imports(wheel)
    own = "twister2" if folder == "core" else wheel.name.replace("-", "_")
    needed = {"" if module == own else module for module in at_top | inside} - {""}
    declared = {
        module
        for module, names in provided.items()
        for name in names
        if name.lower().replace("_", "-") in wheel.needs()
    }
    undeclared = {module for module in needed if module not in declared and module != "twister2"}
    assert undeclared <= LAZY.get(folder, set()), "imported, but not required"
    assert not undeclared & at_top - ON_USE.get(folder, set()), "imported at the top of a module, but not required"
    if folder != "core":
        assert "twister2-core" in wheel.needs()
    unused = {name for name in wheel.needs() if not needed & _modules(provided, name)}
    assert not unused, "required, but not imported"


def _modules(provided: dict[str, set[str]], distribution: str) -> set[str]:
    return {
        module
        for module, names in provided.items()
        if distribution in {name.lower().replace("_", "-") for name in names}
    } | ({"twister2"} if distribution == "twister2-core" else set())


def _imports(wheel) -> tuple[set[str], set[str]]:
    """Top-level names of foreign modules: imported when a module is, and only inside functions."""
    at_top: set[str] = set()
    inside: set[str] = set()
    for name, source in wheel.modules.items():
        tree = ast.parse(source, name)
        typing_only = {
            node
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
            for statement in block.body
            for node in ast.walk(statement)
        }
        deferred = {
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if node in typing_only:
                continue
            if isinstance(node, ast.Import):
                found = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found = {node.module or ""}
            else:
                continue
            tops = {each.partition(".")[0] for each in found} - {*sys.stdlib_module_names}
            (inside if node in deferred else at_top).update(tops)
    return at_top, inside


@pytest.mark.parametrize("folder", WITH_CODE)
def test_the_metadata_is_that_of_the_project_file(wheels, folder):
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = wheels[folder].metadata
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert metadata["Summary"] == project["description"]
