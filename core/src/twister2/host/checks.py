"""What pluggy and stevedore leave open: is the imported object really a plugin of its kind?

pluggy ignores a misspelt hook until asked, never reports a missing one, knows no types, and silently skips a method
that overrides a spec without ``@hookimpl``. Every check raises the error class of its situation.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from typing import Any

import attrs

from twister2.host.declarations import check_declarations, unsupported_option
from twister2.host.installed import install_command
from twister2.spec.errors import PluginHookError, PluginIncompatibleError, PluginIncompleteError
from twister2.spec.names import nearest
from twister2.spec.plugin import KINDS, Kind, PluginSpec

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.host.records import PluginRecord

SPEC_MARK = "twister2_spec"
IMPL_MARK = "twister2_impl"


def kind_of(name: str) -> Kind:
    """The kind of that name.

    :raises KeyError: there is no such kind; the text names them all.
    """
    try:
        return KINDS[name]
    except KeyError:
        raise KeyError(f"there is no kind of plugin {name!r}; kinds are {', '.join(KINDS)}") from None


def spec_class(kind: Kind) -> type[PluginSpec]:
    """Import the spec class of a kind."""
    module, _, name = kind.spec.partition(":")
    spec: type[PluginSpec] = getattr(importlib.import_module(module), name)
    return spec


def spec_hooks(spec: type) -> dict[str, Any]:
    """The hooks a spec class declares: name and function."""
    return {
        name: member
        for base in reversed(spec.__mro__)
        for name, member in vars(base).items()
        if hasattr(member, SPEC_MARK)
    }


def hook_arguments(function: Any) -> tuple[str, ...]:
    """Names of a hook's arguments, without ``self``."""
    return tuple(name for name in inspect.signature(function).parameters if name != "self")


def backend_class(spec: type, hook: str) -> type:
    """The class a factory hook promises: what its return annotation names beside None."""
    returned = typing.get_type_hints(spec_hooks(spec)[hook])["return"]
    choices = [choice for choice in typing.get_args(returned) or (returned,) if choice is not type(None)]
    found: type = choices[0]
    return found


def check_plugin_class(record: PluginRecord, kind: Kind, spec: type[PluginSpec], found: object) -> type[PluginSpec]:
    """Check everything that can be seen without making an instance.

    :returns: ``found``, as the class it was shown to be.
    :raises PluginIncompleteError: not a class of that spec, no interface version, no options class or one that
        configuration cannot fill, a required hook is missing, see also
        :func:`~twister2.host.declarations.check_declarations`.
    :raises PluginIncompatibleError: the interface version does not fit.
    :raises PluginHookError: a hook is misspelt, has wrong arguments, or is not marked.
    """
    if not isinstance(found, type) or not issubclass(found, spec):
        what = f"the class {found.__qualname__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise PluginIncompleteError(
            f"{record.label} is not a subclass of {spec.__name__}",
            where=record.target,
            why=f"its entry point is {what}",
            remedy=f"let the class inherit {spec.__module__}.{spec.__qualname__}, and the entry point name the class",
        )
    _check_version(record, kind, found)
    _check_options(record, found)
    hooks = spec_hooks(spec)
    _check_marks(record, spec, hooks, found)
    _check_arguments(record, spec, hooks, found)
    _check_required(record, kind, hooks, found)
    check_declarations(record, found)
    return found


def _check_version(record: PluginRecord, kind: Kind, found: type[PluginSpec]) -> None:
    api = getattr(found, "api", None)
    if not (isinstance(api, tuple) and len(api) == 2 and all(type(part) is int for part in api)):
        raise PluginIncompleteError(
            f"{record.label} does not say which interface version it was written for",
            where=record.target,
            why=f"{found.__name__}.api is {api!r}, not a pair of integers" if api is not None else "it has no api",
            remedy=f"set api = {kind.api} in {found.__name__}",
        )
    major, minor = api
    if major == kind.api[0] and minor <= kind.api[1]:
        return
    newer = major > kind.api[0] or (major == kind.api[0] and minor > kind.api[1])
    raise PluginIncompatibleError(
        f"{record.label} needs plugin interface {kind.name} {major}.{minor}, "
        f"this core offers {kind.name} {kind.api[0]}.{kind.api[1]}",
        where=record.target,
        why="majors must be equal, and the plugin's minor must not be greater than the core's",
        remedy=install_command(f"--upgrade {'twister2-core' if newer else record.distribution or record.target}"),
    )


def _check_options(record: PluginRecord, found: type[PluginSpec]) -> None:
    options: Any = found.config_class
    if isinstance(options, type) and attrs.has(options):
        required = [field.name for field in attrs.fields(options) if field.default is attrs.NOTHING and field.init]
        try:
            attrs.resolve_types(options)
        except (NameError, TypeError, SyntaxError) as error:
            why = f"the types of {options.__name__} cannot be read: {error} (imported for type checks only?)"
        else:
            unsupported = unsupported_option(options)
            if not required and not unsupported:
                return
            why = unsupported or f"{options.__name__} has no default for {', '.join(required)}"
    else:
        why = f"config_class is {options!r}, not a class made with attrs"
    raise PluginIncompleteError(
        f"{record.label} does not declare its options",
        where=record.target,
        why=why,
        remedy="make config_class a frozen attrs class whose fields are all made by twister2.spec.options.option, "
        "of the types that module names",
    )


def _members(found: type, spec: type) -> Iterator[tuple[str, Any]]:
    """What a plugin class and its other bases add to its spec: name and plain function."""
    seen = set()
    for base in found.__mro__:
        if base in spec.__mro__:
            continue
        for name, member in vars(base).items():
            if name not in seen:
                seen.add(name)
                yield name, getattr(member, "__func__", member)


def _check_marks(record: PluginRecord, spec: type, hooks: dict[str, Any], found: type) -> None:
    members = dict(_members(found, spec))
    strange = sorted(name for name, member in members.items() if hasattr(member, IMPL_MARK) and name not in hooks)
    if strange:
        free = [name for name in hooks if name not in members]
        remedies = []
        for name in strange:
            near = nearest(name, free)
            remedies.append(f"rename {name!r} to {near!r}" if near else f"remove the @hookimpl of {name!r}")
            free = [other for other in free if other != near]
        plural = f"hooks {', '.join(map(repr, strange))} that do" if strange[1:] else f"a hook {strange[0]!r} that does"
        raise PluginHookError(
            f"{record.label} implements {plural} not exist",
            where=record.target,
            why=f"hooks of {record.kind} are {', '.join(sorted(hooks))}",
            remedy="; ".join(remedies),
        )
    for name, member in members.items():
        if name in hooks and not hasattr(member, IMPL_MARK):
            raise PluginHookError(
                f"{record.label} overrides {name} without @hookimpl",
                where=f"{record.target}.{name}",
                why="an override that is not marked is never called",
                remedy="decorate it with twister2.spec.plugin.hookimpl",
            )
        if name in hooks and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)):
            raise PluginHookError(
                f"{record.label} implements {name} as async def",
                where=f"{record.target}.{name}",
                why="hooks are called, never awaited",
                remedy="make it a plain function; a backend may own an event loop in a thread of its own",
            )


def _check_arguments(record: PluginRecord, spec: type, hooks: dict[str, Any], found: type) -> None:
    for name, member in _members(found, spec):
        if name not in hooks:
            continue
        known = hook_arguments(hooks[name])
        unknown = [argument for argument in hook_arguments(member) if argument not in known]
        if unknown:
            near = nearest(unknown[0], known)
            raise PluginHookError(
                f"{record.label}: {name} has an argument {unknown[0]!r} that the hook does not pass",
                where=f"{record.target}.{name}",
                why=f"arguments of {name} are {', '.join(known) or 'none'}",
                remedy=f"rename it to {near!r}" if near else "remove it; an implementation may take fewer arguments",
            )


def _check_required(record: PluginRecord, kind: Kind, hooks: dict[str, Any], found: type) -> None:
    missing = [name for name in kind.required if inspect.getattr_static(found, name) is hooks[name]]
    if not missing:
        return
    public = [name for name in dir(found) if not name.startswith("_") and name not in hooks]
    near = nearest(missing[0], public)
    raise PluginIncompleteError(
        f"{record.label} does not implement {', '.join(missing)}",
        where=record.target,
        why=f"it is required of every {kind.name} plugin" + (f"; the class has a method {near!r}" if near else ""),
        remedy=f"implement {missing[0]}({', '.join(hook_arguments(hooks[missing[0]]))}) and mark it with @hookimpl",
    )


def check_backend(record: PluginRecord, hook: str, expected: type, returned: object) -> None:
    """Check what a factory hook returned.

    :raises PluginIncompleteError: not an object of the kind's backend class; names the methods it lacks.
    """
    if isinstance(returned, expected):
        return
    got = "None" if returned is None else f"a {type(returned).__name__} object"
    lacking = sorted(name for name in getattr(expected, "__abstractmethods__", ()) if not hasattr(returned, name))
    why = f"it lacks {', '.join(lacking)}" if lacking and returned is not None else f"{hook} must return one"
    raise PluginIncompleteError(
        f"{record.label}: {hook} returned {got}, expected a {expected.__name__}",
        where=record.target,
        why=why,
        remedy=f"return an object of a class that inherits {expected.__module__}.{expected.__qualname__}",
    )
