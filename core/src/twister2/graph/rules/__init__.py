"""The rewriting rules, one to a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.graph.rules.columns import Columns
from twister2.graph.rules.combine import Combine
from twister2.graph.rules.fuse import Fuse
from twister2.graph.rules.rule import Applied, Rule
from twister2.graph.rules.share import Share

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES: Mapping[str, Rule] = {rule.name: rule for rule in (Share(), Columns(), Combine(), Fuse())}
"""All rules by name, in the order in which they are applied."""

__all__ = ["RULES", "Applied", "Rule"]
