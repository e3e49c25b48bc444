"""The option ``algorithm``: one name on all operators, checked once; chosen by the number of workers when not given.

The choice depends on the plan only: all workers must choose alike, and sizes may differ between them. Where all hear of
all before they go on, sizes are looked at as well: see :mod:`~twister2_net.operators.allreducing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2_net.exchange.lanes import workers_of
from twister2_net.problems import wrong_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.ops import OperatorContext
    from twister2_net.exchange.lanes import LaneOperator


def chosen(context: OperatorContext, label: str, names: Sequence[str], many: str, above: int) -> str:
    """The algorithm of an operator.

    :param names: what it knows. :param many: what is used for more than ``above`` workers, else ``direct``.
    :raises OperatorError: the option names another one.
    """
    given = context.options.get("algorithm") or ""
    if given:
        if given not in names:
            raise wrong_option(
                label, "algorithm", f"it knows no algorithm {given!r}", f"give one of {', '.join(names)}, or none"
            )
        return str(given)
    workers = workers_of([*context.sources, *context.targets])
    return many if len(workers) > above else "direct"


def choose(operator: LaneOperator, names: Sequence[str], many: str, above: int) -> str:
    """As :func:`chosen`, for an operator that is being made."""
    return chosen(operator.context, operator.label, names, many, above)
