"""Inputs that lie already as a keyed operator would bring them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.tracebacks import short
from twister2_net.problems import wrong_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.ops import OperatorContext


def inputs_in_place(options: Mapping[str, Any], context: OperatorContext, label: str) -> frozenset[int]:
    """The inputs whose task i has only records for target i, as the option ``in_place`` says.

    :raises OperatorError: there is no such input, or it cannot lie so.
    """
    given, inputs = options.get("in_place") or (), context.inputs or (len(context.sources),)
    n_targets = len(context.targets)
    for number in given:
        if number not in range(len(inputs)) or inputs[number] != n_targets or options.get("partitioner") not in _HASH:
            raise wrong_option(
                label,
                "in_place",
                f"input {short(number)} has no task for each of the {n_targets} targets, by hash of keys",
                "leave it out: it is for inputs that lie so already",
            )
    return frozenset(given)


_HASH = ("hash", None)
"""Partitioners by which inputs may lie; None of operators that know no other."""
