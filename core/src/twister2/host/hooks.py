"""The hooks of one plugin, in pluggy's manager."""

from __future__ import annotations

from typing import Any

import pluggy


class HookManager(pluggy.PluginManager):
    """Looks for hooks among what a class itself names: pluggy tries every attribute, and most of those of a plugin are
    what any object has (``__init__``, ``__eq__``...). A submission loads eight plugins.
    """

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """As in the base class; nothing for names that Python keeps for itself."""
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> pluggy.HookspecOpts | None:
        """As in the base class; nothing for names that Python keeps for itself."""
        return None if name.startswith("__") else super().parse_hookspec_opts(module_or_class, name)
