"""The rules every distribution of the repository keeps. Each rule returns one sentence per violation."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING

from distributions import (
    CORE,
    GROUP_PREFIX,
    KINDS,
    NAMED_KINDS,
    SELECTED_KINDS,
    TESTKIT,
    Distribution,
    Workspace,
    requirement_name,
)
from import_rules import core_packages
from options import problems_of_options
from requirements import requirements_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LICENCE = "Apache-2.0"
MAX_MODULE_LINES = 500

REQUIRED_PACKAGES = {
    CORE: ("pluggy", "stevedore", "attrs", "pyzmq"),
    TESTKIT: ("pytest",),
    "net": ("numpy",),
    "comm_tcp": ("pyzmq",),
    "comm_mpi": ("mpi4py",),
}
"""Packages that a distribution, once its folder exists, must name among its dependencies."""

SERVED = {
    "needs_mpi": ("mpi4py", "mpiexec", "mpirun"),
    "needs_openmpi": ("mpiexec.openmpi",),
    "needs_slurm": ("sinfo", "scontrol", "squeue", "sbatch", "srun"),
    "needs_k8s": ("kubectl",),
    "needs_nomad": ("nomad",),
    "needs_mesos": ("mesos-master", "mesos-agent"),
    "needs_netns": ("ip", "tc"),
    "needs_hosts": ("ssh", "sshd"),
    "needs_mount": ("mount",),
}
"""By marker, the programs and packages that it asks for."""

MADE_FOLDERS = {"dist", "demo-output", "_build", "__pycache__"}
PINNED_FILES = ("constraints.txt", "requirements-dev.txt")

_HOME_PATH = re.compile(r"(?<![\w.~/-])/(?:(?:home|Users)/[A-Za-z]|root/)")
_ADDRESS = re.compile(r"://|^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links)\b| @ ", re.MULTILINE)


def check(workspace: Workspace) -> list[str]:
    """Return every violation in the repository, sorted as found; an empty list is a pass."""
    problems = [problem for member in workspace.members for problem in _member(member, workspace)]
    problems += _naming_of_core(workspace)
    for plugin in workspace.plugins:
        problems += _naming_of_plugin(plugin)
    problems += _umbrella(workspace)
    problems += _layers(workspace)
    problems += _pins(workspace)
    problems += problems_of_options(workspace)
    problems += _skips(workspace.root)
    problems += _tracked_text(workspace.root)
    return problems


# ------------------------------------------------------------------------------------ one distribution


def _where(member: Distribution, workspace: Workspace) -> str:
    return member.path.relative_to(workspace.root).as_posix()


def _member(member: Distribution, workspace: Workspace) -> Iterator[str]:
    where = _where(member, workspace)
    if member.problem:
        yield f"{where}: {member.problem}"
        return
    package = f"src/{member.import_name}"
    for needed in ("README.md", "tests", package, f"{package}/__init__.py", f"{package}/py.typed"):
        if not (member.path / needed).exists():
            yield f"{where}: {needed} is missing"
    if not any((member.path / "tests").glob("**/test_*.py")):
        yield f"{where}: tests/ holds no test_*.py"
    strangers = sorted(
        path.name for path in (member.path / "src").glob("*") if path.is_dir() and path.name.isidentifier()
    )
    if strangers not in ([], [member.import_name]):
        yield f"{where}: src/ must hold only {member.import_name}, found {', '.join(strangers)}"
    yield from _metadata(member, where, workspace)
    for module in sorted(member.package.glob("**/*.py")):
        count = len(module.read_text(encoding="utf-8").splitlines())
        if count > MAX_MODULE_LINES:
            name = module.relative_to(workspace.root).as_posix()
            yield f"{name}: {count} lines, more than {MAX_MODULE_LINES}; cut it where a second reason to exist begins"


def _metadata(member: Distribution, where: str, workspace: Workspace) -> Iterator[str]:
    project = member.project
    if not re.fullmatch(r"\d+\.\d+\.\d+", member.version):
        yield f"{where}: project.version must be static and of the form 1.2.3, is {member.version!r}"
    for key, wanted in (("license", LICENCE), ("requires-python", ">=3.11"), ("readme", "README.md")):
        if project.get(key) != wanted:
            yield f"{where}: project.{key} must be {wanted!r}, is {project.get(key)!r}"
    backend = member.data.get("build-system", {}).get("build-backend")
    if backend != "hatchling.build":
        yield f"{where}: build-system.build-backend must be 'hatchling.build', is {backend!r}"
    named = {requirement_name(item) for item in member.dependencies}
    for package in REQUIRED_PACKAGES.get(member.folder, ()):
        if package not in named:
            yield f"{where}: dependencies must name {package}"
    if member is not workspace.core:
        pin = core_pin(workspace.core.version)
        if f"twister2-core{pin}" not in [item.replace(" ", "") for item in member.dependencies]:
            yield f"{where}: dependencies must hold 'twister2-core{pin}'"


def core_pin(version: str) -> str:
    """Return the range of core versions that fits core ``version``: ``0.1.3`` gives ``>=0.1,<0.2``."""
    major, minor, *_ = [*version.split("."), "0", "0"]
    after = f"{major}.{int(minor) + 1}" if minor.isdigit() else minor
    return f">={major}.{minor},<{after}"


# ---------------------------------------------------------------------------------------- naming rule


def _naming_of_core(workspace: Workspace) -> Iterator[str]:
    for member in (workspace.core, workspace.testkit):
        wanted = f"twister2-{member.folder}"
        if not member.problem and member.name != wanted:
            yield f"{member.folder}: the distribution must be called {wanted}, is {member.name!r}"


def plugin_identity(folder: str) -> tuple[str | None, str]:
    """Split a plugin folder's name into (kind, name); kind is None for a plainly named plugin."""
    kind, _, name = folder.partition("_")
    return (kind, name) if kind in SELECTED_KINDS and name else (None, folder)


def _naming_of_plugin(plugin: Distribution) -> Iterator[str]:
    where = f"plugins/{plugin.folder}"
    if plugin.problem:
        return
    kind, name = plugin_identity(plugin.folder)
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", plugin.folder):
        yield f"{where}: the folder's name must be lower case words joined by '_'"
    wanted = "twister2-" + plugin.folder.replace("_", "-")
    if plugin.name != wanted:
        yield f"{where}: the distribution must be called {wanted}, is {plugin.name!r}"
    groups = plugin.entry_points
    homes = [f"{GROUP_PREFIX}{each}" for each in ([kind] if kind else NAMED_KINDS)]
    if not any(name in groups.get(home, {}) for home in homes):
        yield f"{where}: must register entry point {name!r} in group {' or '.join(homes)}"
    for group, names in groups.items():
        if group.removeprefix(GROUP_PREFIX) not in KINDS:
            yield f"{where}: {group} is not a group of plugins; they are {', '.join(KINDS)}"
        for entry, target in names.items():
            if entry != name:
                yield f"{where}: entry point {entry!r} in {group} must be called {name!r}"
            yield from _target(plugin, where, f"{group}: {entry}", target)


def _target(plugin: Distribution, where: str, entry: str, target: str) -> Iterator[str]:
    module, _, attribute = target.partition(":")
    top, *rest = module.strip().split(".")
    file = plugin.package.joinpath(*rest)
    if top != plugin.import_name or not attribute.strip():
        yield f"{where}: {entry} must point to {plugin.import_name}.<module>:<class>, points to {target!r}"
    elif not (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
        yield f"{where}: {entry} points to {module}, which does not exist"


# --------------------------------------------------------------------------------- the repository whole


def _umbrella(workspace: Workspace) -> Iterator[str]:
    umbrella = workspace.umbrella
    if umbrella.problem:
        yield f"pyproject.toml: {umbrella.problem}"
        return
    known = {requirement_name(member.name): member for member in workspace.members}
    offered = {requirement_name(item) for item in umbrella.dependencies}
    for items in umbrella.extras.values():
        offered |= {requirement_name(item) for item in items}
    for name in sorted(offered):
        if name.startswith("twister2-") and name not in known:
            yield f"pyproject.toml: names {name}, but no folder here provides it"
    if "twister2-core" not in offered:
        yield "pyproject.toml: dependencies must name twister2-core"
    for plugin in workspace.plugins:
        if requirement_name(plugin.name) not in offered:
            yield f"pyproject.toml: {plugin.name or plugin.folder} is in no dependency and no extra"
    nested = set(re.findall(r"\[([\w-]+)\]", " ".join(umbrella.extras.get("all", []))))
    for extra in sorted(set(umbrella.extras) - {"all"} - nested):
        yield f"pyproject.toml: extra [all] does not include [{extra}]"
    for name, member in known.items():
        pin = core_pin(member.version)
        for item in [*umbrella.dependencies, *(each for items in umbrella.extras.values() for each in items)]:
            if requirement_name(item) == name and item.replace(" ", "") != f"{name}{pin}":
                yield f"pyproject.toml: {item!r} must be '{name}{pin}'"


def _layers(workspace: Workspace) -> Iterator[str]:
    for path in sorted(workspace.core.package.glob("*")):
        name = path.name.removesuffix(".py")
        is_module = path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
        if is_module and name not in (*core_packages(), "__init__", "__main__"):
            yield f"core: twister2.{name} has no place in the layers of tools/import_rules.py"


def _pins(workspace: Workspace) -> Iterator[str]:
    root = workspace.root
    for file in PINNED_FILES:
        if not (root / file).is_file():
            yield f"{file}: is missing"
        elif match := _ADDRESS.search((root / file).read_text(encoding="utf-8")):
            yield f"{file}: holds the address of an index or archive ({match.group().strip()!r}); pins only"
    requirements = root / "requirements-dev.txt"
    if requirements.is_file() and requirements.read_text(encoding="utf-8") != requirements_text(workspace):
        yield "requirements-dev.txt: out of step with the folders; run: python tools/workspace.py requirements"
    constraints = root / "constraints.txt"
    pinned = set()
    if constraints.is_file():
        lines = constraints.read_text(encoding="utf-8").splitlines()
        pinned = {requirement_name(line) for line in lines if not line.startswith("#")}
    for source, name in _third_party(workspace):
        if name not in pinned:
            yield f"constraints.txt: {name} is not pinned ({source} needs it); run: make constraints"


def _third_party(workspace: Workspace) -> Iterator[tuple[str, str]]:
    own = {"twister2", *(requirement_name(member.name) for member in workspace.members)}
    for each in (workspace.umbrella, *workspace.members):
        where = "pyproject.toml" if each is workspace.umbrella else _where(each, workspace)
        groups = each.data.get("dependency-groups", {}).values()
        for items in (each.dependencies, *each.extras.values(), *groups):
            for item in items:
                name = requirement_name(str(item))
                if name not in own and not name.startswith("twister2-"):
                    yield where, name


def _skips(root: Path) -> Iterator[str]:
    """Tests that skip in a way of their own where a server is absent: where servers are required that fails nobody."""
    marker_of = {word: marker for marker, words in SERVED.items() for word in words}
    for path in _files(root):
        if path.suffix != ".py" or "tests" not in path.relative_to(root).parts or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "importorskip" in text or "skipif" in text else ():
            if not isinstance(node, ast.Call) or _last_name(node.func) not in ("importorskip", "skipif"):
                continue
            words = {str(word.value) for word in ast.walk(node) if isinstance(word, ast.Constant)}
            for word in sorted(words & marker_of.keys()):
                where = f"{path.relative_to(root).as_posix()}:{node.lineno}"
                yield f"{where}: skips without {word!r} in a way of its own; mark the test {marker_of[word]}"


def _last_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _tracked_text(root: Path) -> Iterator[str]:
    """Paths of one machine in what the repository holds: homes of users, and the checkout's own place."""
    place = root.resolve().as_posix()
    own = re.compile(rf"(?<![\w./-]){re.escape(place)}(?![\w-])") if place.count("/") > 1 else None
    for path in _files(root):
        if path.is_symlink() or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), start=1):
            found = _HOME_PATH.search(line) or (own.search(line) if own else None)
            if found:
                yield f"{path.relative_to(root).as_posix()}:{number}: a path of one machine: {found.group()}"


def _files(root: Path) -> list[Path]:
    """Return what git tracks or would track; outside a checkout every file that no tool made."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    if listed.returncode == 0 and (root / ".git").exists():
        return [root / name for name in sorted(set(listed.stdout.decode().split("\0"))) if name]
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return [path for path in found if not _made_by_tools(path.relative_to(root))]


def _made_by_tools(path: Path) -> bool:
    return any(part in MADE_FOLDERS or (part.startswith(".") and part != ".ci") for part in path.parts[:-1])
