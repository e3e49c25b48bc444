"""Options of configuration that nothing reads, or that no test names: read from the sources, never imported."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributions import Distribution, Workspace


def problems_of_options(workspace: Workspace) -> Iterator[str]:
    """One sentence for each option that its distribution does not read, or that no test sets, reads or names.

    An option is a field of a class that is made by ``option(...)``. It is read where code takes an attribute of that
    name, or has it as a word (workers get many options as plain data): a necessary sign, not a proof.
    """
    common = _test_text(workspace.root / "tests")
    for member in workspace.members:
        declared = [
            (module, kind, name)
            for module in _modules(member.package)
            for kind, name in _options(module.read_text(encoding="utf-8"))
        ]
        if not declared:
            continue
        read = {name for module in _modules(member.package) for name in _reads(module)}
        tests = common + "".join(_test_text(path) for path in _tests_of(member, workspace))
        for module, kind, name in declared:
            where = f"{module.relative_to(workspace.root).as_posix()}: option {kind}.{name}"
            if name not in read:
                yield f"{where} is read nowhere; what is declared must have an effect"
            if not re.search(rf"\.{name}\b|\b{name} ?=|[\"']{name}[\"']", tests, re.IGNORECASE):
                yield f"{where} is in no test"


def _tests_of(member: Distribution, workspace: Workspace) -> Iterator[Path]:
    """The folders with tests of a distribution, beside those of the repository; of the core, all."""
    yield member.path / "tests"
    if member is workspace.core:
        for plugin in workspace.plugins:
            yield plugin.path / "tests"


def _modules(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.py"))


def _test_text(folder: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in _modules(folder))


def _options(source: str) -> Iterator[tuple[str, str]]:
    """Class and name of each option that a module declares."""
    if "option(" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and _is_option(line.value):
                    yield node.name, line.target.id


def _is_option(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "option"


def _reads(module: Path) -> Iterator[str]:
    """Names of attributes that a module's code reads, and its words."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value
