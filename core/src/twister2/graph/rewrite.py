"""Rewriting: what is changed in a graph before it is scheduled, and why.

A rule reads declarations (of tasks and of operators), never class names. It is an object of :class:`Rule` in
:data:`RULES` (``twister2.graph.rules``); a graph leaves rules out by name (``Graph(without_rules=["fuse"])``).
Combining before a shuffle needs no rule: operators that declare ``combines`` do it themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.graph.rules import RULES, Applied, Rule
from twister2.spec.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalPlan

__all__ = ["RULES", "Applied", "Rule", "check_rules", "rewrite"]


def check_rules(without: Collection[str], rules: Mapping[str, Rule] | None = None) -> None:
    """Check names of rules that are to be left out.

    :raises GraphError: there is no rule of that name.
    """
    rules = RULES if rules is None else rules
    unknown = sorted(set(without) - set(rules))
    if unknown:
        raise GraphError(
            f"there is no rewriting rule {unknown[0]!r}",
            why=f"the rules are: {', '.join(rules)}",
            remedy="correct the name in without_rules",
        )


def rewrite(
    plan: LogicalPlan, catalog: Catalog, without: Collection[str] = (), rules: Mapping[str, Rule] | None = None
) -> tuple[LogicalPlan, list[Applied]]:
    """Apply all rules but those named in ``without``.

    :raises GraphError: ``without`` names a rule that does not exist.
    """
    rules = RULES if rules is None else rules
    check_rules(without, rules)
    applied: list[Applied] = []
    for name, rule in rules.items():
        if name not in without:
            plan, lines = rule.apply(plan, catalog)
            applied.extend(Applied(name, line) for line in lines)
    return plan, applied
