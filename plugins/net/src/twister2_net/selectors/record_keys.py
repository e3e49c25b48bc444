"""The option ``key``: a function of a record, the name of a column, or a list of names."""

from __future__ import annotations

from typing import Any

import attrs

from twister2.spec.tracebacks import short
from twister2_net.problems import wrong_option
from twister2_net.selectors.base import Key
from twister2_net.spilling.record_order import row_key


@attrs.frozen
class RecordKey:
    """What tells the key of a record.

    :ivar columns: names of the key columns of Arrow batches and structured arrays; none where a function tells the key.
    :ivar function: from record to key, of several names a tuple; None where none was given.
    """

    columns: tuple[str, ...] = ()
    function: Key | None = None


def record_key(given: Any, label: str, option: str = "key") -> RecordKey:
    """What an option means.

    :param option: its name. :raises OperatorError: it can mean nothing.
    """
    if given is None:
        return RecordKey()
    if callable(given):
        return RecordKey(function=given)
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise wrong_option(
            label,
            option,
            f"{short(given)} is no key",
            "give a function of a record, the name of a column, or a list of names",
        )
    functions = [row_key(name, label) for name in names]
    if len(functions) == 1:
        return RecordKey(names, functions[0])
    return RecordKey(names, lambda record: tuple(function(record) for function in functions))
