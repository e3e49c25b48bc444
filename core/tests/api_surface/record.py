"""Write the public surface of ``twister2.spec`` into text files, so that every change of a contract shows in review.

    python core/tests/api_surface/record.py

One file per module: classes with bases, attributes and signatures; functions; constants. An addition with a default
raises the minor interface version of the kind, anything else its major (``twister2.spec.plugin.KINDS``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import twister2.spec

SOURCE = Path(twister2.spec.__file__).parent
HERE = Path(__file__).parent


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


def surfaces() -> dict[str, str]:
    """All modules of ``twister2.spec``: file name and text."""
    modules = sorted(path for path in SOURCE.glob("*.py") if path.name != "__init__.py")
    return {f"{path.stem}.txt": surface(path.read_text(encoding="utf-8")) for path in modules}


def main() -> None:
    """Write the files anew."""
    found = surfaces()
    for old in HERE.glob("*.txt"):
        if old.name not in found:
            old.unlink()
    for name, text in found.items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
