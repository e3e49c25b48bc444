"""What holds for every plugin, whatever its kind.

``check_distribution("twister2-rm-foo")`` returns what is wrong, one sentence each; :class:`HygieneSuite` is the same as
tests. A plugin's tests subclass it and name the distribution::

    class TestHygiene(HygieneSuite):
        distribution = "twister2-rm-foo"
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.config.structure import Report, option_types, structure, type_text, unstructure
from twister2.config.tree import from_data
from twister2.host import PluginHost, PluginRecord
from twister2.host.checks import spec_class
from twister2.spec.errors import PluginError
from twister2.spec.options import HELP, UNIT
from twister2.spec.plugin import KINDS
from twister2_testkit.capabilities import ConformanceSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAVY = ("asyncio", "cloudpickle", "fsspec", "kubernetes", "mpi4py", "numpy", "pandas", "pyarrow", "zmq")
"""What must not be loaded by importing a plugin class: listing and checking plugins would pay for it."""

NAMED_KINDS = ("ops", "api", "command")
_IMPORT_S = 60.0


def records_of(distribution: str) -> list[PluginRecord]:
    """The plugins that a distribution registers."""
    wanted = _normal(distribution)
    host = PluginHost()
    return [record for kind in KINDS for record in host.discover(kind) if _normal(record.distribution) == wanted]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_distribution(distribution: str) -> list[str]:
    """Everything that is wrong with a plugin distribution, one sentence each; empty when nothing is."""
    return [problem for check in CHECKS for problem in check(distribution)]


def check_entry_points(distribution: str) -> Iterator[str]:
    """It registers at least one plugin, and each loads and passes the host's checks."""
    records = records_of(distribution)
    if not records:
        yield f"{distribution} is not installed, or registers no entry point in a group twister2.<kind>"
    for record in records:
        try:
            PluginHost().load(record.kind, record.name)
        except PluginError as error:
            yield str(error)


def check_naming(distribution: str) -> Iterator[str]:
    """Names: of the entry point, of the import, and, for distributions called ``twister2-...``, by the naming rule."""
    for record in records_of(distribution):
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", record.name):
            yield f"entry point {record.name!r}: a name is lower-case words joined by '_', it becomes a table's name"
        package = record.target.partition(":")[0].partition(".")[0]
        if package == "twister2":
            yield f"entry point {record.name!r} points into the package twister2, which belongs to the core"
        rule = _normal(distribution).replace("-", "_")
        if rule.startswith("twister2_") and package != rule:
            yield f"distribution {distribution} must have the import package {rule}, has {package}"
    names = {_folder(record.kind, record.name) for record in records_of(distribution)}
    rule = _normal(distribution).removeprefix("twister2-").replace("-", "_")
    if _normal(distribution).startswith("twister2-") and names and rule not in names:
        yield f"distribution {distribution} registers {', '.join(sorted(names))}; one of them must be called {rule}"


def _folder(kind: str, name: str) -> str:
    return name if kind in NAMED_KINDS else f"{kind}_{name}"


def check_import(distribution: str) -> Iterator[str]:
    """Importing the plugin class loads nothing heavy and starts nothing."""
    for record in records_of(distribution):
        module = record.target.partition(":")[0]
        code = (
            "import sys, json, threading, subprocess\n"
            "def refuse(*a, **k): raise SystemExit('a process was started on import')\n"
            "subprocess.Popen.__init__ = refuse\n"
            f"import twister2.spec.{KINDS[record.kind].spec.partition(':')[0].rpartition('.')[2]}\n"
            "before = set(sys.modules)\n"
            f"import {module}\n"
            "print(json.dumps([sorted(set(sys.modules) - before), threading.active_count()]))"
        )
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_S, check=False)
        if done.returncode != 0:
            yield f"importing {module} failed: {done.stderr.strip().splitlines()[-1:]}"
            continue
        loaded, threads = json.loads(done.stdout.splitlines()[-1])
        heavy = sorted({name.partition(".")[0] for name in loaded} & set(HEAVY))
        if heavy:
            yield f"importing {module} loads {', '.join(heavy)}; import the backend inside the factory hook"
        if threads > 1:
            yield f"importing {module} starts a thread"


def _classes(distribution: str) -> Iterator[tuple[PluginRecord, type, Any]]:
    """Record, options class and plugin object of each plugin that loads; the others fail another check."""
    for record in records_of(distribution):
        try:
            loaded = PluginHost().load(record.kind, record.name)
        except PluginError:
            continue
        yield record, loaded.config_class, loaded.plugin


def check_options(distribution: str) -> Iterator[str]:
    """Every option has a help sentence, a default, a supported type, and a unit if it is a number."""
    for record, options, _ in _classes(distribution):
        yield from _check_options(options, f"{record.kind}.{record.name}")


def _check_options(options: type, path: str) -> Iterator[str]:
    kinds = option_types(options)
    if kinds and not (options.__doc__ or "").strip():
        yield f"{path}: {options.__name__} has no docstring"
    for name in list(kinds)[:1]:
        example = options()
        try:
            setattr(example, name, getattr(example, name))
        except attrs.exceptions.FrozenInstanceError:
            continue
        yield f"{path}: {options.__name__} is not frozen"
    for field in attrs.fields(options):
        where = f"{path}.{field.name}"
        kind = kinds[field.name]
        if isinstance(kind, type) and attrs.has(kind):
            yield from _check_options(kind, where)
            continue
        if not str(field.metadata.get(HELP) or "").strip():
            yield f"{where} has no help; make it with twister2.spec.options.option"
        if "number" in type_text(kind) and not field.metadata.get(UNIT):
            yield f"{where} is a number without a unit; give unit='s', 'bytes'..., or '1' for a count"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", field.name) or "__" in field.name:
            yield f"{where}: a name of lower-case letters, digits and single '_' fits environment variables"


def check_options_travel(distribution: str) -> Iterator[str]:
    """Options reach workers: the defaults as plain data give equal options again."""
    for record, options, _ in _classes(distribution):
        path = f"{record.kind}.{record.name}"
        report = Report()
        data = json.loads(json.dumps(unstructure(options())))
        again = structure(options, from_data(data, "test"), path, report)
        yield from (str(problem) for problem in report.problems)
        if again != options():
            yield f"{path}: the defaults, sent as plain data, come back as {again}"


def check_pickling(distribution: str) -> Iterator[str]:
    """The plugin class and its options can be pickled."""
    for record, options, plugin in _classes(distribution):
        for thing in (type(plugin), options, options()):
            try:
                if pickle.loads(pickle.dumps(thing)) != thing:
                    yield f"{record.label}: {thing!r} is another after pickling"
            except Exception as error:
                yield f"{record.label}: {thing!r} cannot be pickled: {error}"


def check_statelessness(distribution: str) -> Iterator[str]:
    """A plugin object keeps no state: the host makes one per job context."""
    for record, _, plugin in _classes(distribution):
        if vars(plugin):
            yield f"{record.label} keeps state: {', '.join(vars(plugin))}"
        if not (type(plugin).__doc__ or "").strip():
            yield f"{record.label}: the class {type(plugin).__name__} has no docstring"


def check_declarations(distribution: str) -> Iterator[str]:
    """What the class of the kind declares without a value is set, and is what others can decide by."""
    for record, _, plugin in _classes(distribution):
        spec = spec_class(KINDS[record.kind])
        declared = {name for base in spec.__mro__ for name in vars(base).get("__annotations__", {})}
        for name in sorted(name for name in declared if not hasattr(plugin, name)):
            yield f"{record.label}: {type(plugin).__name__} does not set {name}; see {spec.__module__}.{spec.__name__}"
        where = getattr(plugin, "where", "client")
        if record.kind == "observe" and where not in ("client", "master"):
            yield f"{record.label}: where is {where!r}; an observer is called in the 'client' or in the 'master'"
        module = getattr(plugin, "module", "")
        if record.kind == "api" and module and not _can_be_found(module):
            yield f"{record.label}: module is {module!r}, which users cannot import"


def _can_be_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def check_metadata(distribution: str) -> Iterator[str]:
    """README, licence, Python version, and a core version with an upper bound."""
    try:
        metadata = importlib.metadata.metadata(distribution)
    except importlib.metadata.PackageNotFoundError:
        yield f"{distribution} is not installed"
        return
    text = str(metadata["Description"]) if "Description" in metadata else str(getattr(metadata, "get_payload", str)())
    if len(text.strip()) < 40:
        yield f"{distribution} has no README in its metadata; set project.readme"
    if not ("License-Expression" in metadata or "License" in metadata or "License-File" in metadata):
        yield f"{distribution} names no licence; set project.license"
    if "Requires-Python" not in metadata:
        yield f"{distribution} does not say which Python it needs; set project.requires-python"
    for record in records_of(distribution):
        if "<" not in record.requires_core or ">=" not in record.requires_core:
            yield (
                f"{distribution} must depend on twister2-core with a lower and an upper bound, e.g. >=0.1,<0.2; "
                f"it says {record.requires_core or 'nothing'}"
            )


def check_typing(distribution: str) -> Iterator[str]:
    """The package is marked as typed."""
    for package in sorted({record.target.partition(":")[0].partition(".")[0] for record in records_of(distribution)}):
        found = importlib.util.find_spec(package)
        places = list(found.submodule_search_locations or []) if found else []
        if not any((Path(place) / "py.typed").is_file() for place in places):
            yield f"{package} has no py.typed"


CHECKS: tuple[Callable[[str], Iterator[str]], ...] = (
    check_entry_points,
    check_naming,
    check_import,
    check_options,
    check_options_travel,
    check_pickling,
    check_statelessness,
    check_declarations,
    check_metadata,
    check_typing,
)


class HygieneSuite(ConformanceSuite):
    """The checks of this module as tests.

    :cvar distribution: name of the distribution under test.
    """

    distribution: ClassVar[str]

    def _none(self, check: Callable[[str], Iterator[str]]) -> None:
        problems = list(check(self.distribution))
        assert not problems, "\n".join(problems)

    def test_entry_points_load_and_pass_the_hosts_checks(self) -> None:
        self._none(check_entry_points)

    def test_names(self) -> None:
        self._none(check_naming)

    def test_import_loads_nothing_heavy(self) -> None:
        self._none(check_import)

    def test_options_have_help_units_and_defaults(self) -> None:
        self._none(check_options)

    def test_options_travel_as_plain_data(self) -> None:
        self._none(check_options_travel)

    def test_class_and_options_are_picklable(self) -> None:
        self._none(check_pickling)

    def test_plugin_keeps_no_state_and_has_a_docstring(self) -> None:
        self._none(check_statelessness)

    def test_what_others_decide_by_is_declared(self) -> None:
        self._none(check_declarations)

    def test_readme_licence_and_core_version(self) -> None:
        self._none(check_metadata)

    def test_package_is_typed(self) -> None:
        self._none(check_typing)
