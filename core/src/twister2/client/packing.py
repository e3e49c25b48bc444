"""What travels: the program, the local modules it imports, extra files. Found by reading the program, not by running
it.
"""

from __future__ import annotations

import ast
import inspect
import os
import pathlib
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from twister2.spec.errors import PackageError
from twister2.spec.values import Value


@attrs.frozen(eq=False, repr=False)
class Program(Value):
    """A program ready to be packed.

    :ivar spec: how workers find the function (:class:`twister2.control.package.Manifest`). :ivar files: contents by
        name.
    :ivar label: for people. :ivar function: the function itself, when it is one of this process.
    :ivar problem: why it cannot be sent to other processes.
    """

    spec: dict[str, Any]
    files: dict[str, bytes]
    label: str
    function: Callable[..., Any] | None = attrs.field(default=None, eq=False)
    problem: PackageError | None = attrs.field(default=None, eq=False)


def from_file(text: str) -> Program:
    """The program of ``PROGRAM.py[:FUNCTION]``.

    :raises PackageError: no such file, or it is no Python.
    """
    path_text, _, function = text.partition(":") if not os.path.exists(text) else (text, "", "")
    path = pathlib.Path(path_text)
    source = _read(path)
    function = function or "main"
    spec = {"kind": "file", "path": path.name, "original": str(path.absolute()), "function": function}
    return Program(spec, {path.name: source, **local_modules(path, source)}, f"{path_text}:{function}")


def from_function(function: Callable[..., Any]) -> Program:
    """The program of a function given to ``run``.

    A function of the main script is imported by the workers from that script; one of another module is imported from
    it; functions of a notebook, and those defined inside others, travel by cloudpickle.
    """
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", ""))
    label = name or repr(function)
    importable = bool(name) and "<" not in name and inspect.isroutine(function)
    file = getattr(module, "__file__", None)
    if importable and module is not None and module.__name__ == "__main__" and file and os.path.exists(file):
        sys.modules.setdefault("__mp_main__", module)
        program = from_file(file)
        spec = {**program.spec, "function": name}
        return attrs.evolve(program, spec=spec, label=f"{file}:{name}", function=function)
    if importable and module is not None and module.__name__ != "__main__" and file:
        path = pathlib.Path(file)
        files = _module_files(module.__name__, path)
        spec = {"kind": "module", "module": module.__name__, "function": name}
        return Program(spec, files, f"{module.__name__}:{name}", function)
    spec = {"kind": "pickle", "path": "function.pickle"}
    try:
        return Program(spec, {"function.pickle": _cloudpickled(function)}, label, function)
    except PackageError as error:  # threads of this process could still call it
        return Program(spec, {}, label, function, error)


def _cloudpickled(function: Callable[..., Any]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function, protocol=pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        raise PackageError(
            f"the function {getattr(function, '__qualname__', function)!r} cannot be sent to the workers",
            why=f"something it refers to cannot be pickled: {error}",
            remedy="make what it needs inside the function (open files, sockets, locks), or move it to a module",
        ) from error


def _read(path: pathlib.Path) -> bytes:
    try:
        source = path.read_bytes()
        ast.parse(source, str(path))
    except OSError as error:
        raise PackageError(
            f"cannot read the program {path}",
            why=error.strerror or str(error),
            remedy="give the path of a Python file, as in 'twister2 submit standalone program.py'",
        ) from error
    except (SyntaxError, ValueError) as error:
        raise PackageError(
            f"{path} is not a Python program", why=str(error), remedy="mend the error, then submit again"
        ) from error
    return source


def local_modules(path: pathlib.Path, source: bytes) -> dict[str, bytes]:
    """Modules and packages beside the program that it imports, and theirs in turn, by name in the package."""
    folder = path.absolute().parent
    found: dict[str, bytes] = {}
    todo = [(source, "")]
    while todo:
        text, package = todo.pop()
        for name in _imports(text, package):
            for file in _files_of(folder, name):
                key = file.relative_to(folder).as_posix()
                if key not in found and file != path.absolute():
                    found[key] = file.read_bytes()
                    inside = ".".join(file.relative_to(folder).with_suffix("").parts)
                    parent = inside if file.name == "__init__.py" else inside.rpartition(".")[0]
                    todo.append((found[key], parent.removesuffix(".__init__")))
    return found


def _imports(source: bytes, package: str) -> Iterable[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".") if package else []
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            if base:
                yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _files_of(folder: pathlib.Path, name: str) -> Iterable[pathlib.Path]:
    """Files that importing ``name`` from ``folder`` would run: the module and the packages around it."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        stem = folder.joinpath(*parts[:depth])
        for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
            if candidate.is_file():
                yield candidate


def _module_files(name: str, path: pathlib.Path) -> dict[str, bytes]:
    """The files of a module that is not installed (on ``sys.path`` only here); nothing for an installed one."""
    if any(part in ("site-packages", "dist-packages") for part in path.parts) or _is_editable(path):
        return {}
    depth = name.count(".") + (path.name == "__init__.py")
    root = path.parents[depth]
    start = root.joinpath(*name.split("."))
    first = path if path.is_file() else start
    files = {path.relative_to(root).as_posix(): path.read_bytes(), **local_modules(root / "_", first.read_bytes())}
    for index in range(1, len(name.split("."))):
        init = root.joinpath(*name.split(".")[:index], "__init__.py")
        if init.is_file():
            files[init.relative_to(root).as_posix()] = init.read_bytes()
    return files


def _is_editable(path: pathlib.Path) -> bool:
    """Whether a ``.pth`` file makes the module importable for every process of this interpreter."""
    for entry in sys.path:
        folder = pathlib.Path(entry)
        if folder.name in ("site-packages", "dist-packages") and folder.is_dir():
            for pth in folder.glob("*.pth"):
                lines = pth.read_text(errors="replace").splitlines()
                if any(line and not line.startswith(("import", "#")) and path.is_relative_to(line) for line in lines):
                    return True
    return False


def extra_files(names: Sequence[str], limit: int) -> dict[str, bytes]:
    """Contents of the files and folders of ``job.files``, by name relative to their parent.

    :raises PackageError: one is missing, or all together are larger than ``limit`` bytes.
    """
    found: dict[str, bytes] = {}
    total = 0
    for name in names:
        path = pathlib.Path(name)
        if not path.exists():
            raise PackageError(
                f"{name} of job.files does not exist",
                why=f"looked in {os.getcwd()}",
                remedy="correct or remove the entry",
            )
        files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
        for file in files:
            total += file.stat().st_size
            if total > limit:
                raise PackageError(
                    f"the job package would be larger than {limit >> 20} MiB",
                    why=f"{file} would exceed it",
                    remedy="let the workers read large data where it lies; raise job.package_limit_mb if it is meant",
                )
            found[(file.relative_to(path.parent) if path.is_dir() else pathlib.Path(file.name)).as_posix()] = (
                file.read_bytes()
            )
    return found
