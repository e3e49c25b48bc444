"""What is known of operators while a graph is checked, rewritten and planned: their declarations, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twister2.graph.returned import asked
from twister2.spec.errors import Twister2Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.ops import OperatorInfo, Operators


class Catalog:
    """The declarations of operators, looked up as ``"<ops plugin>.<operator>"``.

    :param operators: gives the backend of an ops plugin, as ``env.backend("ops", name)`` does; called once per plugin.
    """

    def __init__(self, operators: Callable[[str], Operators]) -> None:
        self._operators = operators
        self._known: dict[str, Mapping[str, OperatorInfo]] = {}

    def of(self, plugin: str) -> Mapping[str, OperatorInfo]:
        """All operators of a plugin.

        :raises PluginError: the plugin is not there.
        """
        if plugin not in self._known:
            operators = self._operators(plugin)
            self._known[plugin] = asked(operators, "ops", "catalog", Mapping, operators.catalog)
        return self._known[plugin]

    def info(self, operator: str) -> OperatorInfo | None:
        """The declaration of an operator, or None when plugin or operator are not known here."""
        plugin, _, name = operator.partition(".")
        try:
            return self.of(plugin).get(name)
        except Twister2Error:
            return None


NOTHING_KNOWN = Catalog(lambda name: _no_plugins(name))
"""A catalogue without operators: options are not checked and no rule applies."""


def _no_plugins(name: str) -> Operators:
    raise Twister2Error(f"no operators called {name!r}", why="none were given", remedy="give a catalogue")
