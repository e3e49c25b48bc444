"""What the host makes of a plugin's checks: its own, its probe in their place, and an exception of it."""

from __future__ import annotations

from types import SimpleNamespace

from twister2.host import PluginHost
from twister2.spec.plugin import NoOptions, Probe
from twister2.spec.rm import Check, RmContext

CONTEXT = RmContext("/nowhere")
SLOW = Check("server", "failed", "it does not answer", "start it")


class Host(PluginHost):
    """A host with one plugin."""

    def __init__(self, checks):
        hook = SimpleNamespace(rm_doctor=checks)
        record = SimpleNamespace(label="rm acme")
        self.plugin = SimpleNamespace(manager=SimpleNamespace(hook=hook), config_class=NoOptions, record=record)

    def load(self, kind, name):
        return self.plugin

    def probe(self, kind, name, config=None):
        return Probe(False, "no /proc here", "mount it")


def test_the_plugins_own_checks():
    seen = []
    host = Host(lambda config, context: seen.append((config, context)) or [SLOW])
    assert host.doctor("acme", None, CONTEXT) == (SLOW,)
    assert seen == [(NoOptions(), CONTEXT)]


def test_its_probe_where_it_has_none():
    (check,) = Host(lambda config, context: None).doctor("acme", None, CONTEXT)
    assert check == Check("resource manager acme", "failed", "no /proc here", "mount it")


def test_what_it_raises():
    (check,) = Host(lambda config, context: 1 / 0).doctor("acme", None, CONTEXT)
    assert (check.result, "ZeroDivisionError" in check.finding, bool(check.remedy)) == ("failed", True, True)
