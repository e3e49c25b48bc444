"""What all plugins have in common: markers, the base class, the table of kinds and their interface versions.

A plugin is a class that inherits the spec class of its kind, sets :attr:`PluginSpec.api` and
:attr:`PluginSpec.config_class`, and implements hooks marked with :data:`hookimpl`. Its distribution registers it as an
entry point ``<name> = "<import>.plugin:<Class>"`` in the group ``twister2.<kind>``. The class must be importable
without loading anything heavy: the *backend* (the object a factory hook returns, which does the work) is imported
inside the factory hook.

Hooks are for set-up and life cycle. A backend is called directly, never through a hook.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import pluggy

from twister2.spec.values import Value

hookspec = pluggy.HookspecMarker("twister2")
hookimpl = pluggy.HookimplMarker("twister2")


@attrs.frozen(eq=False, repr=False)
class NoOptions(Value):
    """The configuration class of a plugin without options."""


class PluginSpec:
    """Base of the spec classes of all kinds.

    A plugin class has no ``__init__`` arguments and keeps no state: the host makes one instance per job context.
    """

    kind: ClassVar[str]
    """The kind, set by the spec class of the kind (``"rm"``, ``"comm"``...)."""

    api: ClassVar[tuple[int, int]]
    """Interface version ``(major, minor)`` of the kind the plugin was written for; see :data:`KINDS`."""

    config_class: ClassVar[type] = NoOptions
    """The frozen attrs class of the plugin's options (:mod:`twister2.spec.options`)."""


@attrs.frozen(eq=False, repr=False)
class Kind(Value):
    """One kind of plugin.

    :ivar name: short name; the entry-point group is ``twister2.<name>``.
    :ivar spec: ``module:Class`` of the spec class, imported on use.
    :ivar api: current interface version. A plugin is accepted if its major is equal and its minor not greater.
    :ivar required: hooks a plugin must implement.
    :ivar selected: ``"one"`` (exactly one per job), ``"many"`` (any number), ``"listed"`` (never selected by
        configuration: users import or call it by name).
    :ivar summary: one line for help texts.
    """

    name: str
    spec: str
    api: tuple[int, int]
    required: tuple[str, ...]
    selected: str
    summary: str

    @property
    def group(self) -> str:
        return f"twister2.{self.name}"


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("rm", "twister2.spec.rm:ResourceManagerSpec", (1, 1), ("rm_create",), "one", "resource manager"),
        Kind("comm", "twister2.spec.comm:CommSpec", (1, 1), ("comm_create",), "many", "transport between workers"),
        Kind("ops", "twister2.spec.ops:OpsSpec", (1, 1), ("ops_create",), "many", "communication operators"),
        Kind("sched", "twister2.spec.sched:SchedSpec", (1, 1), ("sched_create",), "one", "task scheduler"),
        Kind("exec", "twister2.spec.executor:ExecSpec", (1, 1), ("exec_create",), "one", "executor"),
        Kind("data", "twister2.spec.data:DataSpec", (1, 1), ("data_create",), "many", "data sources and sinks"),
        Kind("state", "twister2.spec.state:StateSpec", (1, 1), ("state_create",), "one", "store for checkpoints"),
        Kind("observe", "twister2.spec.observe:ObserveSpec", (1, 1), (), "many", "life-cycle observers"),
        Kind("api", "twister2.spec.api:ApiSpec", (1, 0), (), "listed", "programming interfaces"),
        Kind("command", "twister2.spec.command:CommandSpec", (1, 0), ("command_create",), "listed", "subcommands"),
    )
}


@attrs.frozen(eq=False, repr=False)
class Probe(Value):
    """What a plugin found out about its surroundings without changing anything.

    :ivar ok: whether it can work here.
    :ivar text: one line for ``twister2 plugins show``.
    :ivar remedy: what to do when it cannot.
    :ivar facts: plain data for programs.
    """

    ok: bool
    text: str
    remedy: str = ""
    facts: Mapping[str, Any] = attrs.field(factory=dict)
