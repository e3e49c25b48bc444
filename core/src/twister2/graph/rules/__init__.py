"""The rewriting rules, one to a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.graph.rules.broadcast_join import BroadcastJoin
from twister2.graph.rules.colocate import Colocate
from twister2.graph.rules.columns import Columns
from twister2.graph.rules.combine import Combine
from twister2.graph.rules.fuse import Fuse
from twister2.graph.rules.predicates import Predicates
from twister2.graph.rules.rule import Applied, Rule
from twister2.graph.rules.share import Share

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES: Mapping[str, Rule] = {
    rule.name: rule for rule in (Share(), Predicates(), Columns(), Combine(), BroadcastJoin(), Colocate(), Fuse())
}
"""All rules by name, in the order in which they are applied. What a join gives when a side of it was broadcast does not
lie by key any more, so ``colocate`` comes behind that."""

__all__ = ["RULES", "Applied", "Rule"]
