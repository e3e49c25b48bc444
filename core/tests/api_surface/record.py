"""Write the public surface of ``twister2.spec`` into text files, so that every change of a contract shows in review.

    python core/tests/api_surface/record.py

One file per module. Its first line names the interfaces that the module is part of, with their versions
(``twister2.spec.plugin.KINDS``); the rest are classes with bases, attributes and signatures; functions; constants.

Between two releases an interface that changes gets one new version: an addition with a default raises the minor,
anything else the major. ``released.json`` has what the last release had, to compare with. A release writes it anew:

    python core/tests/api_surface/record.py released
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import twister2.spec
from twister2.spec.plugin import KINDS

SOURCE = Path(twister2.spec.__file__).parent
HERE = Path(__file__).parent
RELEASED = HERE / "released.json"
BASE = ("plugin", "values")
"""Modules that all kinds are made of: the host's, not a kind's. One of them has the versions in it."""


def surface(source: str) -> str:
    """The surface of one module: public names with their signatures as written, without bodies and docstrings."""
    return "\n".join(_body(ast.parse(source).body, "")) + "\n"


def _body(body: list[ast.stmt], indent: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.If):  # names for type checkers only are no surface
            continue
        if isinstance(node, ast.ClassDef) and _public(node.name):
            bases = ", ".join(ast.unparse(base) for base in [*node.bases, *(k.value for k in node.keywords)])
            yield from _decorators(node, indent)
            yield f"{indent}class {node.name}({bases})" if bases else f"{indent}class {node.name}"
            yield from _body(node.body, indent + "    ")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _public(node.name):
            yield from _decorators(node, indent)
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            yield f"{indent}def {node.name}({ast.unparse(node.args)}){returns}"
        elif isinstance(node, ast.AnnAssign) and _public(ast.unparse(node.target)):
            value = f" = {ast.unparse(node.value)}" if node.value else ""
            yield f"{indent}{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{value}"
        elif isinstance(node, ast.Assign) and all(_public(ast.unparse(target)) for target in node.targets):
            yield f"{indent}{ast.unparse(node)}"


def _decorators(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, indent: str) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield f"{indent}@{ast.unparse(decorator)}"


def _public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def sources() -> dict[str, str]:
    """All modules of ``twister2.spec``: name and source."""
    modules = sorted(path for path in SOURCE.glob("*.py") if path.name != "__init__.py")
    return {path.stem: path.read_text(encoding="utf-8") for path in modules}


def interfaces(modules: Mapping[str, str]) -> dict[str, list[str]]:
    """By module: the kinds whose interface it is part of, as their contracts import it, also by way of others."""
    imported = {name: _imported(source) - {*BASE} for name, source in modules.items()}
    found: dict[str, list[str]] = {name: [] for name in modules}
    for kind in sorted(KINDS):
        reached, new = set[str](), {KINDS[kind].spec.partition(":")[0].rpartition(".")[2]}
        while new:
            reached |= new
            new = set[str]().union(*(imported[name] for name in new)) - reached
        for name in reached:
            found[name].append(kind)
    return found


def _imported(source: str) -> set[str]:
    """The modules of ``twister2.spec`` that a module imports, for type checkers too: its signatures name them."""
    names = (node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return {name.removeprefix("twister2.spec.") for name in names if name.startswith("twister2.spec.")}


def versions() -> dict[str, str]:
    """The interface version of each kind."""
    return {name: f"{kind.api[0]}.{kind.api[1]}" for name, kind in sorted(KINDS.items())}


def records() -> dict[str, str]:
    """By file name: the record of each module."""
    modules = sources()
    parts, numbers = interfaces(modules), versions()
    return {f"{name}.txt": _head(parts[name], numbers) + surface(source) for name, source in modules.items()}


def _head(kinds: list[str], numbers: Mapping[str, str]) -> str:
    return f"# interfaces: {', '.join(f'{kind} {numbers[kind]}' for kind in kinds) or 'none'}\n"


def fingerprints() -> dict[str, Any]:
    """What ``released.json`` holds: the versions, and by module a fingerprint of its surface."""
    prints = {name: hashlib.sha256(surface(source).encode()).hexdigest()[:16] for name, source in sources().items()}
    return {"versions": versions(), "surfaces": prints}


def main() -> None:
    """Write the files anew."""
    found = records()
    for old in HERE.glob("*.txt"):
        if old.name not in found:
            old.unlink()
    for name, text in found.items():
        (HERE / name).write_text(text, encoding="utf-8")
    if sys.argv[1:] == ["released"]:
        RELEASED.write_text(json.dumps(fingerprints(), indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
