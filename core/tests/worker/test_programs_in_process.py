"""A program in a process that lives on: the next one does not find what the first has left."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from twister2.control.package import Manifest
from twister2.spec.errors import UserCodeError
from twister2.worker.program import MAIN, load, unload, user_error


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Whatever fails, other tests find what was there."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:] = path


def program(folder: Path, number: int, body: str = "") -> Manifest:
    folder.mkdir()
    (folder / "helper_of_program.py").write_text(f"number = {number}\n")
    (folder / "part_of_program").mkdir()
    (folder / "part_of_program" / "inner.py").write_text(f"number = {number}\n")
    (folder / "prog.py").write_text(
        "import helper_of_program\nfrom part_of_program import inner\n"
        "def main(env):\n    import late_of_program\n    return helper_of_program.number, inner.number\n" + body
    )
    (folder / "late_of_program.py").write_text("")
    spec = {"kind": "file", "path": "prog.py", "original": "prog.py", "function": "main"}
    return Manifest(spec, (), "", want_results=True, python="", core="", resolved={}, pins={}, files={})


@pytest.mark.parametrize("there_before", [False, True])
def test_the_next_program_has_its_own_modules(tmp_path: Path, there_before: bool) -> None:
    main = types.ModuleType(MAIN)
    sys.modules.pop(MAIN, None)
    if there_before:
        sys.modules[MAIN] = main
    before, path = dict(sys.modules), list(sys.path)
    for number in (1, 2):
        folder = tmp_path / str(number)
        function = load(program(folder, number), folder, in_process=True)
        assert function(None) == (number, number)
        unload(folder)
        unload(folder)
    assert sys.path == path
    assert {name for name in sys.modules if "of_program" in name} == set()
    assert sys.modules.get(MAIN) is before.get(MAIN)
    assert not [place for place in sys.path_importer_cache if place.startswith(str(tmp_path))]


def test_a_program_that_cannot_be_imported_leaves_nothing_either(tmp_path: Path) -> None:
    path = list(sys.path)
    folder = tmp_path / "bad"
    with pytest.raises(UserCodeError, match="on purpose"):
        load(program(folder, 1, "raise ValueError('on purpose')\n"), folder, in_process=True)
    unload(folder)
    assert sys.path == path
    assert "helper_of_program" not in sys.modules


def test_modules_of_others_stay_and_lazy_ones_are_not_woken(tmp_path: Path) -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(f"{name} was looked up")

    other = tmp_path / "program-of-another"
    other.mkdir()
    (other / "of_program_of_another.py").write_text("")
    sys.path.insert(0, str(other))
    module = importlib.import_module("of_program_of_another")
    sys.modules["of_program_lazy"] = Lazy("of_program_lazy")
    unload(tmp_path / "program")
    assert sys.modules["of_program_of_another"] is module
    assert str(other) in sys.path
    assert sys.modules.pop("of_program_lazy") is not None


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("twister2_harp", "pip install twister2-harp, on"),
        ("twister2_sched_firstfit.more", "pip install twister2-sched-firstfit, on"),
        ("twister2_of_somebody", "see the traceback"),
        ("somebody", "see the traceback"),
    ],
)
def test_a_module_of_this_project_that_is_not_installed_comes_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, said: str
) -> None:
    for name in (module.partition(".")[0], module):
        monkeypatch.setitem(sys.modules, name, None)  # as if it could not be found
    folder = tmp_path / "one"
    manifest = program(folder, 1, f"import {module}\n")
    with pytest.raises(UserCodeError) as caught:
        load(manifest, folder, in_process=True)
    assert said in caught.value.remedy


def test_tracebacks_have_the_lines_of_a_program_that_only_the_client_has_at_that_path(tmp_path: Path) -> None:
    made = program(tmp_path / "package", 1, "def other(env):\n    return 1 / 0  # a line to be shown\n")
    spec = {**made.program, "original": str(tmp_path / "of_the_client" / "prog.py"), "function": "other"}
    function = load(attrs.evolve(made, program=spec), tmp_path / "package", in_process=True)
    with pytest.raises(ZeroDivisionError) as caught:
        function(None)
    error = user_error(caught.value, "running")
    assert error.where == f"{spec['original']}:7 in other"
    assert "return 1 / 0  # a line to be shown" in str(error)
    unload(tmp_path / "package")
