"""The folder of a new plugin: installs as it is, passes hygiene, and its conformance tests wait for the backend.

What depends on the kind is read from the contracts: the factory hook's arguments, the backend's abstract methods, the
conformance suite. So a new kind, or a new method, needs no change here.
"""

from __future__ import annotations

import importlib.resources
import re
import string
from pathlib import Path

import twister2
from twister2.host.records import distribution_name
from twister2.spec.errors import UsageError
from twister2.spec.plugin import KINDS
from twister2_testkit.template.contract import Contract

__all__ = ["write_plugin"]

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/$package/__init__.py": "init.py",
    "src/$package/py.typed": "",
    "src/$package/config.py": "config.py",
    "src/$package/plugin.py": "plugin.py",
    "src/$package/backend.py": "backend.py",
    "tests/test_conformance.py": "test_conformance.py",
}


def write_plugin(kind: str, name: str, folder: str) -> Path:
    """Write the folder of a new plugin below ``folder``, which is made if need be, and return it.

    :raises UsageError: no such kind, not a name, the folder exists, or cannot be made.
    """
    if kind not in KINDS:
        raise UsageError(
            f"there is no kind of plugin {kind!r}", why=f"kinds are {', '.join(KINDS)}", remedy="choose one of them"
        )
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise UsageError(
            f"{name!r} cannot be the name of a plugin",
            why="it becomes a table, an import and an environment variable",
            remedy="use lower-case words joined by '_'",
        )
    distribution = distribution_name(kind, name)
    root = Path(folder) / distribution.removeprefix("twister2-").replace("-", "_")
    if root.exists():
        raise UsageError(f"{root} exists", why="nothing is overwritten", remedy="choose another name or folder")
    try:
        root.mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"{root} cannot be made", why=error.strerror or str(error), remedy="choose a folder that can be written"
        ) from error
    values = _values(kind, name, distribution)
    for target, source in _FILES.items():
        if source == "backend.py" and not Contract.of(kind).has_backend:
            continue
        path = root / string.Template(target).substitute(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_render(source, values), encoding="utf-8")
    return root


def _render(source: str, values: dict[str, str]) -> str:
    if not source:
        return ""
    text = (importlib.resources.files(__name__) / "files" / f"{source}.txt").read_text(encoding="utf-8")
    return string.Template(text).substitute(values).rstrip() + "\n"


def _values(kind: str, name: str, distribution: str) -> dict[str, str]:
    contract = Contract.of(kind)
    major, minor, *_ = twister2.__version__.split(".")
    camel = "".join(word.capitalize() for word in name.split("_"))
    package = distribution.replace("-", "_")
    return {
        "kind": kind,
        "name": name,
        "camel": camel,
        "distribution": distribution,
        "package": package,
        "table": f"{kind}.{name}",
        "api": str(KINDS[kind].api),
        "core": f">={major}.{minor},<{major}.{int(minor) + 1}",
        "what": KINDS[kind].summary,
        "spec_module": contract.spec.__module__,
        "plugin": contract.plugin_source(package, camel, name),
        "backend": contract.backend_source(camel),
        "tests": contract.tests_source(package, camel, name),
    }
