"""A kind's contract as source text: what a plugin of that kind has to write."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import typing
from typing import Any

import attrs

from twister2.host.checks import backend_class, hook_arguments, spec_class, spec_hooks
from twister2.spec.plugin import KINDS, PluginSpec
from twister2_testkit.capabilities import ConformanceSuite

if typing.TYPE_CHECKING:
    import types
    from collections.abc import Iterator

SUITES = {kind: kind for kind in KINDS} | {"exec": "executor"}
"""Module of the test kit with the conformance suite of a kind, where there is one."""

LINE = 120
"""Characters of a line of what is written."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


@attrs.frozen
class Contract:
    """What one kind asks of a plugin."""

    kind: str
    spec: type[PluginSpec]
    backend: type | None

    @classmethod
    def of(cls, kind: str) -> Contract:
        """Read the contract of a kind from its spec class."""
        spec = spec_class(KINDS[kind])
        required = KINDS[kind].required
        return cls(kind, spec, backend_class(spec, required[0]) if required else None)

    @property
    def has_backend(self) -> bool:
        """Whether the kind has a factory hook."""
        return self.backend is not None

    # -- plugin.py -------------------------------------------------------------------------------------------------

    def plugin_source(self, package: str, camel: str, name: str) -> str:
        """Imports and class of ``plugin.py``."""
        hooks = spec_hooks(self.spec)
        chosen = list(KINDS[self.kind].required) or list(hooks)[:1]
        imports = _Imports(self.spec)
        imports.add("twister2.spec.plugin", "hookimpl")
        imports.add(self.spec.__module__, self.spec.__name__)
        imports.add(f"{package}.config", f"{camel}Config")
        body = [
            f"class {camel}Plugin({self.spec.__name__}):",
            f'    """``{self.kind}.{name}``; see README.md."""',
            "",
            f"    api = {KINDS[self.kind].api}",
            f"    config_class = {camel}Config",
            *(f"    {line}" for line in _attributes(self.spec, imports, package)),
        ]
        for hook in chosen:
            signature = imports.signature(hooks[hook]).replace("config: Any", f"config: {camel}Config")
            body += ["", "    @hookimpl", f"    def {hook}{signature.replace(' | None:', ':')}"]
            if self.backend is None:
                body.append('        """What to do then: see the contract of the hook."""')
                continue
            arguments = ", ".join(hook_arguments(hooks[hook]))
            body += [
                f"        from {package}.backend import {camel}Backend",
                "",
                f"        return {camel}Backend({arguments})",
            ]
        if not chosen:
            imports.names.pop(("twister2.spec.plugin", "hookimpl"), None)
        return f"{imports.text(body)}\n\n\n" + "\n".join(body)

    # -- backend.py ------------------------------------------------------------------------------------------------

    def backend_source(self, camel: str) -> str:
        """Imports and class of ``backend.py``: every abstract method, still to be written."""
        if self.backend is None:
            return ""
        imports = _Imports(self.backend)
        imports.add(self.backend.__module__, self.backend.__name__)
        where = f"{self.backend.__module__}.{self.backend.__name__}"
        hook = spec_hooks(self.spec)[KINDS[self.kind].required[0]]
        signature = imports.signature(hook).partition(" ->")[0]
        attributes = _attributes(self.backend, imports)
        body = [
            f"class {camel}Backend({self.backend.__name__}):",
            f'    """The work; what each method must do and may raise is in {where}."""',
            "",
            *(f"    {line}" for line in attributes),
            *([""] if attributes else []),
            f"    def __init__{signature} -> None:",
            *(f"        self.{name} = {name}" for name in hook_arguments(hook)),
        ]
        for name in sorted(self.backend.__abstractmethods__):  # type: ignore[attr-defined]
            member = inspect.getattr_static(self.backend, name)
            is_property = isinstance(member, property)
            function = member.fget if isinstance(member, property) else member
            body += [
                "",
                *(["    @property"] if is_property else []),
                f"    def {name}{imports.signature(function)}",
                f'        raise NotImplementedError("write {name}: see {where}.{name}")',
            ]
        return f"{imports.text(body)}\n\n\n" + "\n".join(body)

    # -- tests -----------------------------------------------------------------------------------------------------

    def tests_source(self, package: str, camel: str, name: str) -> str:
        """The conformance tests: subclasses of the suites the kit has for the kind."""
        suites = list(self._suites())
        parts = [self._suite_source(suite, package, camel) for suite in suites]
        if not parts:
            parts = [
                f"def test_it_does_its_work():\n"
                f'    pytest.fail("the kit has no suite for the kind {self.kind}: test here what {name} is for")\n'
            ]
        imports = {("twister2_testkit.hygiene", "HygieneSuite")}
        for suite in suites:
            capabilities = type(suite.capabilities)
            imports |= {(suite.__module__, suite.__name__), (capabilities.__module__, capabilities.__name__)}
        for name in (f"{camel}Config", f"{camel}Plugin"):
            if any(f"{name}(" in part for part in parts):
                imports.add((f"{package}.{name.removeprefix(camel).lower()}", name))
        third, own = (
            [(module, name) for module, name in sorted(imports) if module.startswith(package) is mine]
            for mine in (False, True)
        )
        pytest_line = ["import pytest"] if not suites else []
        blocks = [pytest_line + _import_lines(third), _import_lines(own)]
        hygiene = f'class TestHygiene(HygieneSuite):\n    distribution = "{package.replace("_", "-")}"\n'
        header = "\n\n".join("\n".join(block) for block in blocks if block)
        return f"from __future__ import annotations\n\n{header}\n\n\n" + "\n\n".join([hygiene, *parts])

    def _suites(self) -> Iterator[type[ConformanceSuite]]:
        name = f"twister2_testkit.{SUITES[self.kind]}"
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            return
        for member in vars(module).values():
            of_the_kit = isinstance(member, type) and issubclass(member, ConformanceSuite)
            if of_the_kit and member.__module__ == name and [*_makers(member), *_unset(member)]:
                yield member

    def _suite_source(self, suite: type[ConformanceSuite], package: str, camel: str) -> str:
        lines = [f"class Test{camel}{suite.__name__.removesuffix('Suite')}({suite.__name__}):"]
        lines.append(f'    capabilities = {type(suite.capabilities).__name__}(why={{"*": "not written yet"}})')
        for name in _unset(suite):
            target = f"{package}.plugin:{camel}Plugin" if name == "plugin" else f"see {suite.__name__}.{name}"
            lines.append(f'    {name} = "{target}"')
        hook = KINDS[self.kind].required[0]
        takes = set(hook_arguments(spec_hooks(self.spec)[hook])) - {"config"}
        for name in _makers(suite):
            parameters = [each for each in inspect.signature(getattr(suite, name)).parameters if each != "self"]
            lines += ["", f"    def {name}({', '.join(['self', *parameters])}):"]
            if takes <= set(parameters):
                given = "".join(f", {each}={each}" for each in sorted(takes))
                lines.append(f"        return {camel}Plugin().{hook}(config={camel}Config(){given})")
            else:
                lines.append(f'        raise NotImplementedError("see {suite.__module__}.{suite.__name__}.{name}")')
        return "\n".join(lines) + "\n"


def _makers(suite: type) -> Iterator[str]:
    """The ``make_...`` methods of a suite that a plugin's tests must write."""
    for name in dir(suite):
        method = getattr(suite, name)
        if name.startswith("make_") and getattr(method, "__isabstractmethod__", False):
            yield name


def _unset(suite: type) -> Iterator[str]:
    """The class attributes of a suite that a plugin's tests must set."""
    declared = {name for base in suite.__mro__ for name in vars(base).get("__annotations__", {})}
    yield from sorted(name for name in declared if not hasattr(suite, name))


def _import_lines(names: list[tuple[str, str]]) -> list[str]:
    by_module: dict[str, list[str]] = {}
    for module, name in names:
        by_module.setdefault(module, []).append(name)
    modules = [f"import {module}" for module, found in sorted(by_module.items()) if module in found]
    return modules + [
        _from_line(module, sorted(found, key=_import_order))
        for module, found in sorted(by_module.items())
        if module not in found
    ]


def _from_line(module: str, names: list[str]) -> str:
    """As formatters write it: what is too long for a line has one for each name."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= LINE:
        return line
    return "\n".join((f"from {module} import (", *(f"    {name}," for name in names), ")"))


def _import_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as formatters sort them."""
    return 0 if name.isupper() else 1 if name[0].isupper() else 2, name.lower()


def _attributes(cls: type, imports: _Imports, package: str = "") -> list[str]:
    """Class attributes that the contract declares without a value, set to what promises least.

    :param package: what the attribute ``module`` names.
    """
    lines = []
    for name, hint in typing.get_type_hints(cls).items():
        if hasattr(cls, name) or name in ("kind", "api", "config_class"):
            continue
        while typing.get_origin(hint) in (typing.ClassVar, typing.Final):
            hint = typing.get_args(hint)[0]
        if isinstance(hint, type) and attrs.has(hint):
            imports.add(hint.__module__, hint.__name__)
            lines.append(f"{name} = {hint.__name__}()")
        elif name == "module":
            lines.append(f'module = "{package}"')
        elif hint is str:
            lines.append(f'{name} = "to be written"')
        elif hint == tuple[str, ...]:
            lines.append(f'{name} = ("to-be-written",)')
        else:
            lines.append(f"{name} = {(typing.get_origin(hint) or hint)()!r}")
    return lines


class _Imports:
    """Collects the imports that the annotations of copied signatures need."""

    def __init__(self, cls: type) -> None:
        self._module = importlib.import_module(cls.__module__)
        self._imported = _imported_names(self._module)
        self.names: dict[tuple[str, str], None] = {}

    def add(self, module: str, name: str) -> None:
        self.names[module, name] = None

    def signature(self, function: Any) -> str:
        """``(self, config: Any) -> Backend:`` with the annotations as written."""
        parameters = inspect.signature(function)
        for parameter in parameters.parameters.values():
            self._note(parameter.annotation)
        self._note(parameters.return_annotation)
        text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(parameters))
        return f"{text}:"

    def _note(self, annotation: Any) -> None:
        if not isinstance(annotation, str):
            return
        for word in _WORD.findall(re.sub(r"'[^']*'|\"[^\"]*\"", "", annotation)):
            found = getattr(self._module, word, None)
            if word in self._imported:
                self.add(self._imported[word], word)
            elif found is not None and not hasattr(builtins, word):
                self.add(_home(self._module.__name__, found), word)

    def text(self, body: list[str]) -> str:
        """The import lines, only of names that ``body`` uses."""
        used = set(_WORD.findall("\n".join(body)))
        groups: list[list[tuple[str, str]]] = [[], [], []]
        for module, name in self.names:
            if name in used:
                ours = module.split(".")[0] == "twister2"
                groups[1 if ours else 2 if module.startswith("twister2_") else 0].append((module, name))
        return "\n\n".join("\n".join(_import_lines(group)) for group in groups if group)


def _imported_names(module: types.ModuleType) -> dict[str, str]:
    """Names that a module imports, with where from: read from its source, since some are for type checkers only."""
    names: dict[str, str] = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            names |= {alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.name: node.module for alias in node.names}
    return names


def _home(module: str, found: Any) -> str:
    """The module that defines a name: classes know it, aliases are taken from the contract's own module."""
    return str(found.__module__) if isinstance(found, type) else module
