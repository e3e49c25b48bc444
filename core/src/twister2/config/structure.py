"""From a tree of leaves to an options class: strict about types, every problem in one pass.

TOML and Python values must have the right type; only text (environment, ``-o``) is parsed by the option's type.
"""

from __future__ import annotations

import enum
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from twister2.config.layers import Problem
from twister2.config.tree import Leaf, Node, Tree, from_data, origin_of
from twister2.spec.errors import PluginError
from twister2.spec.names import did_you_mean
from twister2.spec.options import WAS

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


class WrongValueError(Exception):
    """A value does not fit its option's type; the text says what was expected and what was found."""


@attrs.define
class Report:
    """What structuring one or more tables found out.

    :ivar failures: plugins that cannot be loaded: the error, the option that selects it, where that comes from.
    """

    problems: list[Problem] = attrs.field(factory=list)
    failures: list[tuple[PluginError, str, str]] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)
    origins: dict[str, str] = attrs.field(factory=dict)

    def problem(self, path: str, text: str, origin: str) -> None:
        """Note one problem."""
        self.problems.append(Problem(path, text, origin))


def option_types(options: type) -> dict[str, Any]:
    """The resolved type of every option of an options class, by name."""
    return {field.name: field.type for field in attrs.fields(attrs.resolve_types(options)) if field.init}


def structure(options: type, tree: Node, path: str, report: Report) -> Any:
    """Build an options class from a table, noting all problems in ``report``.

    :returns: the object; where there were problems, one with defaults in their place.
    """
    if isinstance(tree, Leaf):
        if isinstance(tree.raw, options):
            return tree.raw  # a program gave the object itself
        tree = _table_of(tree, path, report)
    tree = _rename(options, tree, path, report)
    kinds = option_types(options)
    values: dict[str, Any] = {}
    for key, node in tree.items():
        if key in kinds:
            value = _option(options, key, kinds[key], node, f"{path}.{key}", report)
            if value is not _BAD:
                values[key] = value
        else:
            hint = did_you_mean(key, kinds)
            report.problem(f"{path}.{key}", f"unknown option{hint}", origin_of(node))
    for key, kind in kinds.items():
        if key not in tree:
            _note_defaults(kind, f"{path}.{key}", report)
    try:
        return options(**values)
    except (ValueError, TypeError) as error:
        report.problem(path, _message(error), origin_of(tree))
        return options()


_BAD: Any = object()


def _table_of(leaf: Leaf, path: str, report: Report) -> Tree:
    try:
        raw = _inline(leaf) if leaf.text else leaf.raw
    except WrongValueError as error:
        report.problem(path, str(error), leaf.origin)
        return {}
    if isinstance(raw, Mapping):
        return from_data(raw, leaf.origin)
    report.problem(path, f"must be a table, is {_shown(leaf.raw)}", leaf.origin)
    return {}


def _rename(options: type, tree: Tree, path: str, report: Report) -> Tree:
    """Move values of former names to the present ones, with a warning."""
    was = {field.metadata[WAS]: field.name for field in attrs.fields(options) if field.metadata.get(WAS)}
    renamed = dict(tree)
    for old in [key for key in tree if key in was]:
        node, new = renamed.pop(old), was[old]
        report.warnings.append(f"{path}.{old} is now called {path}.{new}  [{origin_of(node)}]")
        if new in renamed:
            report.problem(f"{path}.{old}", f"is given beside {new!r}, its present name", origin_of(node))
        else:
            renamed[new] = node
    return renamed


def _option(options: type, name: str, kind: Any, node: Node, path: str, report: Report) -> Any:
    if _is_options(kind):
        return structure(kind, node, path, report)
    report.origins[path] = origin_of(node)
    inner = options_in_table(kind)
    try:
        if inner is not None and not isinstance(node, Leaf):
            value: Any = {key: structure(inner, child, f"{path}.{key}", report) for key, child in node.items()}
        else:
            value = _convert(kind, node)
    except WrongValueError as error:
        report.problem(path, str(error), origin_of(node))
        return _BAD
    try:
        options(**{name: value})  # validators run one by one, so that all problems are found
    except (ValueError, TypeError) as error:
        report.problem(path, _message(error).removeprefix(f"'{name}' "), origin_of(node))
        return _BAD
    return value


def _note_defaults(kind: Any, path: str, report: Report) -> None:
    if _is_options(kind):
        for name, inner in option_types(kind).items():
            _note_defaults(inner, f"{path}.{name}", report)
    else:
        report.origins[path] = "default"


def _is_options(kind: Any) -> bool:
    return isinstance(kind, type) and attrs.has(kind)


def options_in_table(kind: Any) -> type | None:
    """The class of options that a table of them holds by name (``dict[str, X]``); None for other types."""
    arguments = typing.get_args(kind)
    return arguments[1] if typing.get_origin(kind) is dict and _is_options(arguments[1]) else None


def _message(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


# -- values ------------------------------------------------------------------------------------------------------------


def _convert(kind: Any, node: Node) -> Any:
    if isinstance(node, Leaf):
        return _from_text(kind, node.raw) if node.text else _from_value(kind, node.raw)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert(_but_none(arguments), node)
    if origin is dict:
        return {key: _convert(arguments[1], child) for key, child in node.items()}
    raise WrongValueError(f"must be {type_text(kind)}, is a table")


def _inline(leaf: Leaf) -> Any:
    """Text that begins like a TOML array or inline table, parsed as one; other text as it is."""
    text = str(leaf.raw).strip()
    if not text.startswith(("[", "{")):
        return text
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise WrongValueError(f"is not a TOML array or table: {error}") from None


def _from_text(kind: Any, text: str) -> Any:
    """Parse text by the option's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if text.strip().lower() == "none" else _from_text(_but_none(arguments), text)
    if origin in (list, tuple):
        parsed = _inline(Leaf(text, ""))
        if isinstance(parsed, str):
            parts = [part.strip() for part in parsed.split(",")] if parsed else []
            return origin(_from_text(arguments[0], part) for part in parts)
        return _from_value(kind, parsed)
    if origin is dict:
        return _from_value(kind, _inline(Leaf(text, "")))
    if origin is typing.Literal:
        by_text = {str(choice): choice for choice in arguments}
        return _from_value(kind, by_text.get(text.strip(), text))
    if kind is bool:
        if text.strip().lower() in (*_TRUE, *_FALSE):
            return text.strip().lower() in _TRUE
        raise WrongValueError(f"must be true or false, is {text!r}")
    if kind in (int, float):
        try:
            return _from_value(kind, kind(text))
        except ValueError:
            raise WrongValueError(f"must be {type_text(kind)}, is {text!r}") from None
    return _from_value(kind, text)


def _from_value(kind: Any, value: Any) -> Any:
    """Check a value of TOML or Python against the option's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _from_value(_but_none(arguments), value)
    if origin in (list, tuple):
        if isinstance(value, (list, tuple)):
            return origin(_from_value(arguments[0], item) for item in value)
    elif origin is dict:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: _from_value(arguments[1], item) for key, item in value.items()}
    elif origin is typing.Literal:
        return _choice(kind, arguments, value)
    elif _is_options(kind):
        return _inner_options(kind, value)
    else:
        found = _scalar(kind, value)
        if found is not _BAD:
            return found
    raise WrongValueError(f"must be {type_text(kind)}, is {_shown(value)}")


def _scalar(kind: Any, value: Any) -> Any:
    check = _SCALARS.get(kind)
    if check is None and isinstance(kind, type) and issubclass(kind, enum.Enum):
        check = _enum(kind)
    if check is None:
        raise TypeError(f"options of type {kind} are not supported; see twister2.spec.options")
    return check(value)


def _choice(kind: Any, choices: tuple[Any, ...], value: Any) -> Any:
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    hint = did_you_mean(value, [str(each) for each in choices]) if isinstance(value, str) else ""
    raise WrongValueError(f"must be {type_text(kind)}, is {_shown(value)}{hint}")


def _inner_options(kind: type, value: Any) -> Any:
    """A class of options inside a list or dict: its problems are joined into one."""
    if isinstance(value, kind):
        return value
    inner = Report()
    found = structure(kind, from_data(value, "") if isinstance(value, Mapping) else Leaf(value, ""), "it", inner)
    if inner.problems:
        raise WrongValueError("; ".join(str(problem) for problem in inner.problems))
    return found


def _integer(value: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) else _BAD


def _number(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise WrongValueError(f"must be a finite number, is {value}")
    return _BAD


def _enum(kind: type[enum.Enum]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        by_name = {str(member.value): member for member in kind} | dict(kind.__members__)
        if isinstance(value, kind):
            return value
        if str(value) in by_name and not isinstance(value, bool):
            return by_name[str(value)]
        raise WrongValueError(f"must be {type_text(kind)}, is {_shown(value)}{did_you_mean(str(value), by_name)}")

    return check


_SCALARS: dict[type, Callable[[Any], Any]] = {
    bool: lambda value: value if isinstance(value, bool) else _BAD,
    int: _integer,
    float: _number,
    str: lambda value: value if isinstance(value, str) else _BAD,
    Path: lambda value: Path(value) if isinstance(value, (str, Path)) else _BAD,
}


def _but_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not type(None))


_TYPE_TEXTS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def type_text(kind: Any) -> str:
    """A type in words: ``"a whole number"``, ``"'client' or 'allocation'"``, ``"a list of text"``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{type_text(_but_none(arguments))} or nothing"
    if origin in (list, tuple):
        return f"a list of {type_text(arguments[0]).removeprefix('a ')}"
    if origin is dict:
        return f"a table of {type_text(arguments[1]).removeprefix('a ')}"
    if origin is typing.Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " or ".join(repr(member.value) for member in kind)
    if isinstance(kind, type) and attrs.has(kind):
        return "a table"
    return _TYPE_TEXTS.get(kind, str(kind))


def _shown(value: Any) -> str:
    """A value as it is written in TOML, more or less."""
    if isinstance(value, Mapping):
        return "a table"
    return repr(value).lower() if isinstance(value, bool) else repr(value)


# -- and back ----------------------------------------------------------------------------------------------------------


def unstructure(value: Any) -> Any:
    """An options object as plain data (JSON types), such that structuring it gives an equal object."""
    if attrs.has(type(value)):
        return {field.name: unstructure(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, enum.Enum):
        return unstructure(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: unstructure(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [unstructure(item) for item in value]
    return value
