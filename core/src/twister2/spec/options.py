"""How a plugin declares its options: one frozen attrs class, each field made by :func:`option`.

The class is the schema, the defaults, the help and the units. From it the core derives TOML keys, environment
variables, ``-o`` settings, help pages and the reference documentation. Allowed field types are few on purpose:
``bool``, ``int``, ``float``, ``str``, ``pathlib.Path``, ``Literal[...]``, an ``Enum``, ``X | None``, ``list[X]``,
``tuple[X, ...]``, ``dict[str, X]`` and another class of options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

HELP = "twister2.help"
UNIT = "twister2.unit"
WAS = "twister2.was"
SECRET = "twister2.secret"


def option(
    default: T,
    help: str,
    *,
    unit: str | None = None,
    validator: Callable[[Any, Any, Any], Any] | list[Callable[[Any, Any, Any], Any]] | None = None,
    was: str | None = None,
    secret: bool = False,
) -> T:
    """Declare one option.

    :param default: the value without configuration; a list, tuple, dict or options class is copied for each use.
    :param help: one sentence for help page and documentation; required.
    :param unit: unit of a number (``"s"``, ``"bytes"``, ``"MiB"``...; ``"1"`` for a bare count). Numbers must have one.
    :param validator: attrs validators; their message becomes part of the error text.
    :param was: an earlier name of the option, still accepted with a warning.
    :param secret: the value is shown nowhere: not in the object's text, not by ``config show``.
    """
    metadata = {HELP: help, UNIT: unit, WAS: was, SECRET: secret}
    value: Any = default
    if isinstance(default, (list, dict, set)):
        value = attrs.Factory(lambda: type(default)(default))
    field: Any = attrs.field(default=value, validator=validator, metadata=metadata, repr=not secret)
    return field  # type: ignore[no-any-return]
