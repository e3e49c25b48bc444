"""What a rewriting rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import attrs

from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalPlan


class Rule(ABC):
    """One rewriting rule.

    :cvar name: how it is switched off. :cvar explanation: one sentence for ``explain()``.
    """

    name: ClassVar[str]
    explanation: ClassVar[str]

    @abstractmethod
    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """The changed plan, and one line for each change. Pure: the same on every worker."""


@attrs.frozen(eq=False, repr=False)
class Applied(Value):
    """One change that a rule made."""

    rule: str
    text: str
