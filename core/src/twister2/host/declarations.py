"""What a plugin class declares beside its hooks: is it there, and something that the core can decide by?"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import PluginIncompleteError

if TYPE_CHECKING:
    from twister2.host.records import PluginRecord

BUILT_IN_COMMANDS = frozenset(
    (
        *("clean", "config", "doctor", "help", "kill", "list", "logs", "plugins", "restart", "scale", "status"),
        *("submit", "version", "wait"),
    )
)
"""Names that subcommands of plugins cannot have."""

_SCALARS = (bool, int, float, str, pathlib.Path)


def unsupported_option(options: type) -> str:
    """The first field of an options class whose type configuration cannot fill, in words; empty when all are right.

    Types must be resolved (:func:`attrs.resolve_types`).
    """
    for field in attrs.fields(options):
        if field.init and not _supported(field.type):
            return f"field {field.name!r} of {options.__name__} has type {_text(field.type)}"
        if field.init and attrs.has(typing.cast("type", field.type)):
            inner = typing.cast("type", field.type)
            attrs.resolve_types(inner)
            if found := unsupported_option(inner):
                return found
    return ""


def _supported(kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        others = [each for each in arguments if each is not type(None)]
        return len(others) == 1 and len(arguments) == 2 and _supported(others[0])
    if origin is list:
        return _supported(arguments[0])
    if origin is tuple:
        return len(arguments) == 2 and arguments[1] is Ellipsis and _supported(arguments[0])
    if origin is dict:
        return arguments[0] is str and _supported(arguments[1])
    if origin is typing.Literal:
        return True
    return isinstance(kind, type) and (kind in _SCALARS or issubclass(kind, enum.Enum) or attrs.has(kind))


def _text(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def check_declarations(record: PluginRecord, found: type) -> None:
    """Check what the core decides by before it makes a backend.

    :raises PluginIncompleteError: ``facts`` of a transport, ``formats`` and ``schemes`` of a data plugin are missing,
        ``where`` of an observer is neither client nor master, or a subcommand has the name of a built-in one.
    """
    check = {"comm": _comm, "data": _data, "observe": _observe, "command": _command}.get(record.kind)
    why, remedy = check(record, found) if check is not None else ("", "")
    if why:
        what = "has a name that is taken" if record.kind == "command" else "does not say what it is chosen by"
        raise PluginIncompleteError(f"{record.label} {what}", where=record.target, why=why, remedy=remedy)


def _comm(_record: PluginRecord, found: type) -> tuple[str, str]:
    from twister2.spec.comm import TransportFacts

    facts = getattr(found, "facts", None)
    if isinstance(facts, TransportFacts):
        return "", ""
    why = f"{found.__name__}.facts is {facts!r}" if facts is not None else f"{found.__name__} has no facts"
    return why, f"set facts = TransportFacts(...) (twister2.spec.comm) in {found.__name__}"


def _data(_record: PluginRecord, found: type) -> tuple[str, str]:
    for name in ("formats", "schemes"):
        value = getattr(found, name, None)
        if not (isinstance(value, tuple) and value and all(isinstance(each, str) for each in value)):
            why = f"{found.__name__} has no {name}" if value is None else f"{found.__name__}.{name} is {value!r}"
            example = 'formats = ("csv",)' if name == "formats" else 'schemes = ("",), the empty one for plain paths,'
            return why, f"set a tuple of text: {example} in {found.__name__}"
    return "", ""


def _observe(_record: PluginRecord, found: type) -> tuple[str, str]:
    where = getattr(found, "where", None)
    if where in ("client", "master"):
        return "", ""
    return f"{found.__name__}.where is {where!r}", f"set where = 'client' or 'master' in {found.__name__}"


def _command(record: PluginRecord, _found: type) -> tuple[str, str]:
    if record.name not in BUILT_IN_COMMANDS:
        return "", ""
    return f"'twister2 {record.name}' is built in, and would always be run", "rename the entry point"
