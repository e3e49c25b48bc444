"""What is passed over is nothing that could be a hook."""

from __future__ import annotations

import pluggy
import pytest

from twister2.host.checks import kind_of, spec_class, spec_hooks
from twister2.host.hooks import HookManager
from twister2.spec.plugin import KINDS, hookimpl


class Seen(HookManager):
    """Remembers what was asked for."""

    def __init__(self):
        super().__init__("twister2")
        self.hooks = set()

    def parse_hookimpl_opts(self, plugin, name):
        found = super().parse_hookimpl_opts(plugin, name)
        if found is not None:
            self.hooks.add(name)
        return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_hook_of_a_kind_is_found(kind):
    spec = spec_class(kind_of(kind))
    hooks = spec_hooks(spec)
    if not hooks:
        pytest.skip("the kind has no hooks")
    plain, ours = pluggy.PluginManager("twister2"), Seen()
    plugin = type("Whole", (), {name: hookimpl(lambda self, given=None: given) for name in hooks})()
    for manager in (plain, ours):
        manager.add_hookspecs(spec)
        manager.register(plugin)
    assert ours.hooks == set(hooks)
    assert {caller.name for caller in ours.get_hookcallers(plugin)} == set(hooks)
    assert {caller.name for caller in plain.get_hookcallers(plugin)} == set(hooks)
