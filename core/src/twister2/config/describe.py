"""An options class in words: help pages, example files and reference documentation, nothing written twice."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from twister2.config.layers import PREFIX
from twister2.config.structure import option_types, options_in_table, type_text, unstructure
from twister2.spec.options import HELP, SECRET, UNIT, WAS


@attrs.frozen
class OptionText:
    """One option in words.

    :ivar path: dotted key. :ivar type: its type in words. :ivar unit: unit of a number, empty otherwise.
    :ivar default: the default as written in TOML. :ivar help: one sentence. :ivar was: its former name, if any.
    """

    path: str
    type: str
    unit: str
    default: str
    help: str
    was: str
    secret: bool

    @property
    def environment(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.path.upper().replace(".", "__")

    @property
    def setting(self) -> str:
        """The ``-o`` setting."""
        return f"-o {self.path}=VALUE"


def describe(options: type, path: str) -> Iterator[OptionText]:
    """All options of a class below ``path``, those of inner classes after their dotted keys; of a table of such after
    ``NAME``.
    """
    defaults = options()
    kinds = option_types(options)
    for field in attrs.fields(options):
        if field.name not in kinds:
            continue
        kind, below = kinds[field.name], f"{path}.{field.name}"
        if isinstance(kind, type) and attrs.has(kind):
            yield from describe(kind, below)
            continue
        yield OptionText(
            path=below,
            type=type_text(kind),
            unit=str(field.metadata.get(UNIT) or ""),
            default=toml_value(unstructure(getattr(defaults, field.name))),
            help=str(field.metadata.get(HELP) or ""),
            was=str(field.metadata.get(WAS) or ""),
            secret=bool(field.metadata.get(SECRET)),
        )
        inner = options_in_table(kind)
        if inner is not None:
            yield from describe(inner, f"{below}.NAME")


def toml_value(value: Any) -> str:
    """Plain data as written in TOML; nothing (``None``), which TOML cannot write, is ``none``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        return _string(str(value))
    if isinstance(value, enum.Enum):
        return toml_value(value.value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)


def _string(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, which wants one control character more escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _string(key)


def summary(options: type) -> str:
    """First line of the class's docstring."""
    return (options.__doc__ or "").strip().split("\n", 1)[0]


def example(options: type, path: str) -> str:
    """The tables of a TOML file with every option, commented out, set to its default."""
    tables: dict[str, list[OptionText]] = {path: []}
    for option in describe(options, path):
        if ".NAME." in option.path:
            continue  # it would make an entry of that name
        tables.setdefault(option.path.rpartition(".")[0], []).append(option)
    parts = []
    for table, found in tables.items():
        lines = [f"[{table}]"]
        for option in found:
            unit = f" In {option.unit}." if option.unit not in ("", "1") else ""
            lines.append(f"# {option.help}{unit}")
            default = '""  # nothing' if option.default == "none" else option.default
            lines.append(f"#{option.path.rpartition('.')[2]} = {default}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def page(options: type, path: str) -> str:
    """The text of ``twister2 plugins show``: every option with its three spellings."""
    lines = []
    for option in describe(options, path):
        unit = f" [{option.unit}]" if option.unit else ""
        lines += [
            f"  {option.path.removeprefix(path + '.')}: {option.type}{unit} = {option.default}",
            f"      {option.help}" + (f" (was: {option.was})" if option.was else ""),
            f"      env {option.environment}    {option.setting}",
        ]
    return "\n".join(lines) if lines else "  no options"
