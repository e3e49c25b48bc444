"""The plugin host: one per job context, so that two jobs or two tests in a process do not meet.

A plugin gets a pluggy manager of its own, with its kind's hook specs: no subset of callers to keep apart, no order
between plugins, and a broken one touches no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from twister2.host import failures, tracing
from twister2.host.catalog import Catalog, FixedCatalog
from twister2.host.checks import (
    backend_class,
    check_backend,
    check_plugin_class,
    hook_arguments,
    kind_of,
    spec_class,
    spec_hooks,
)
from twister2.host.hooks import HookManager
from twister2.host.installed import installed_version, missing_requirements
from twister2.host.loading import LOAD_FAILURES, import_target, load_selected
from twister2.host.records import Pins, PluginRecord, python_minor
from twister2.spec.errors import Twister2Error
from twister2.spec.plugin import KINDS, PluginSpec, Probe
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twister2.spec.rm import Check, RmContext


@attrs.frozen(eq=False, repr=False)
class LoadedPlugin(Value):
    """A plugin that was imported and passed every check.

    :ivar record: where it came from. :ivar spec: the spec class of its kind. :ivar plugin: the one instance of the
        plugin class. :ivar manager: the pluggy manager that holds it alone.
    """

    record: PluginRecord
    spec: type[PluginSpec]
    plugin: PluginSpec
    manager: pluggy.PluginManager = attrs.field(repr=False)

    @property
    def config_class(self) -> type:
        """The class of its options."""
        return self.plugin.config_class


class PluginHost:
    """Finds, loads, checks and calls plugins.

    :param catalog: what is installed; this interpreter's distributions when None.
    :param by_target: import plugins as all processes of a job do, without stevedore, whose import alone takes longer
        than all else that is done for a small job until its resource manager hears of it.
    """

    def __init__(self, catalog: Catalog | None = None, *, by_target: bool = False) -> None:
        self._catalog = catalog or Catalog()
        self._by_target, self._pinned = by_target, False
        self._loaded: dict[tuple[str, str], LoadedPlugin] = {}

    @classmethod
    def from_pins(cls, pins: Pins, *, check_python: bool = False) -> PluginHost:
        """A host on a worker: it loads by target, without looking what is installed, and compares versions.

        :param check_python: also demand the same Python minor version (what cloudpickle carries needs it).
        :raises PluginMismatchError: another core, or another Python where that was asked for.
        """
        failures.check_core(pins)
        if check_python and pins.python != python_minor():
            raise failures.mismatch("Python", pins.python, python_minor())
        host = cls(FixedCatalog(pins.records), by_target=True)
        host._pinned = True
        return host

    # -- looking ---------------------------------------------------------------------------------------------------

    def discover(self, kind: str) -> list[PluginRecord]:
        """All installed plugins of a kind by name, importing none; a name provided twice is there twice."""
        return list(self._catalog.records(kind_of(kind).name))

    def unknown_groups(self) -> dict[str, list[PluginRecord]]:
        """Installed entry points in groups ``twister2.<kind>`` of kinds that do not exist, by kind: misspelt ones."""
        return {kind: list(self._catalog.records(kind)) for kind in self._catalog.kinds() if kind not in KINDS}

    def find(self, kind: str, name: str) -> PluginRecord:
        """The one installed plugin of that name, not imported.

        :raises PluginNotFoundError: nothing provides it. :raises PluginConflictError: more than one does.
        """
        installed = self.discover(kind)
        found = [record for record in installed if record.name == name]
        if not found:
            raise failures.not_found(kind, name, installed, pinned=self._pinned)
        if len(found) > 1:
            raise failures.conflict(found)
        return found[0]

    def refresh(self) -> None:
        """See plugins that were installed since the last look. What is loaded stays loaded."""
        self._catalog.refresh()

    def missing_requirements(self, requirements: Sequence[str]) -> list[str]:
        """Which of these distribution requirements are not met, one sentence each."""
        return missing_requirements(tuple(requirements))

    # -- loading ---------------------------------------------------------------------------------------------------

    def load(self, kind: str, name: str) -> LoadedPlugin:
        """Import and check a plugin; the same object at every call.

        :raises PluginNotFoundError, PluginConflictError: see :meth:`find`.
        :raises PluginBrokenError: importing it, or making the instance, failed; the cause is ``__cause__``.
        :raises PluginIncompatibleError, PluginIncompleteError, PluginHookError: see
            :func:`~twister2.host.checks.check_plugin_class`.
        :raises PluginMismatchError: on a worker, another version than was pinned is installed.
        """
        loaded = self._loaded.get((kind, name))
        if loaded is None:
            loaded = self._loaded[kind, name] = self._load(self.find(kind, name))
        return loaded

    def _load(self, record: PluginRecord) -> LoadedPlugin:
        kind = kind_of(record.kind)
        if self._pinned and record.distribution:
            failures.check_version(record, installed_version(record.distribution))
        try:
            found = import_target(record.target) if self._by_target else load_selected(record)
        except LOAD_FAILURES as error:
            raise failures.broken(record, error) from error
        spec = spec_class(kind)
        plugin_class = check_plugin_class(record, kind, spec, found)
        try:
            plugin = plugin_class()
        except LOAD_FAILURES as error:
            raise failures.not_made(record, plugin_class, error) from error
        return LoadedPlugin(record, spec, plugin, self._register(record, spec, plugin))

    def _register(self, record: PluginRecord, spec: type[PluginSpec], plugin: PluginSpec) -> pluggy.PluginManager:
        manager = HookManager("twister2")
        if spec_hooks(spec):  # pluggy refuses a class without any
            manager.add_hookspecs(spec)
        try:
            manager.register(plugin, name=record.name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise failures.refused_by_pluggy(record, error) from error
        if tracing.wanted():
            tracing.trace(manager, record)
        return manager

    # -- calling ---------------------------------------------------------------------------------------------------

    def create(self, kind: str, name: str, config: Any = None, **arguments: Any) -> Any:
        """Have a plugin's factory hook make its backend, and check what came back.

        :param config: the plugin's options, its defaults when None. :param arguments: what the hook's spec names
            beside ``config``.
        :raises TypeError: other arguments than the spec names, or options of another class.
        :raises PluginIncompleteError: what came back is not a whole backend of the kind.
        :raises PluginBrokenError: the hook raised anything but a Twister2Error.
        """
        loaded = self.load(kind, name)
        hook = kind_of(kind).required[0]
        wanted = hook_arguments(spec_hooks(loaded.spec)[hook])
        given = {"config": self._options(loaded, config), **arguments}
        if set(given) != set(wanted):
            raise TypeError(f"{hook} takes {', '.join(wanted)}; got {', '.join(given)}")
        expected = backend_class(loaded.spec, hook)
        try:
            backend = getattr(loaded.manager.hook, hook)(**given)
        except Twister2Error:
            raise
        except LOAD_FAILURES as error:
            raise failures.factory_raised(loaded.record, hook, expected, error) from error
        check_backend(loaded.record, hook, expected, backend)
        return backend

    def probe(self, kind: str, name: str, config: Any = None) -> Probe | None:
        """Ask a plugin whether it can work here; None when it does not say. Never raises what the plugin raises."""
        loaded = self.load(kind, name)
        hook = f"{kind}_probe"
        if hook not in spec_hooks(loaded.spec):
            return None
        try:
            answer = getattr(loaded.manager.hook, hook)(config=self._options(loaded, config))
        except LOAD_FAILURES as error:
            return Probe(False, f"{hook} raised {type(error).__name__}: {error}")
        return answer if isinstance(answer, Probe) else None

    def doctor(self, name: str, config: Any, context: RmContext) -> tuple[Check, ...]:
        """What a resource manager's plugin finds out about its surroundings (``rm_doctor``), its probe where it does
        not look further. Never raises what the plugin raises.
        """
        from twister2.spec.rm import Check

        loaded = self.load("rm", name)
        try:
            found = loaded.manager.hook.rm_doctor(config=self._options(loaded, config), context=context)
        except LOAD_FAILURES as error:
            text, remedy = f"rm_doctor raised {type(error).__name__}: {error}", "report it to the plugin's authors"
            return (Check(f"checks of {name}", "failed", text, remedy),)
        if found is not None:
            return tuple(found)
        probe = self.probe("rm", name, config)
        if probe is None:
            return ()
        return (Check(f"resource manager {name}", "ok" if probe.ok else "failed", probe.text, probe.remedy),)

    def warm_up(self, name: str, config: Any, job_id: str) -> None:
        """Tell a resource manager that a submission will follow (``rm_warm_up``); whatever it raises is left to
        submit.
        """
        loaded = self.load("rm", name)
        try:
            loaded.manager.hook.rm_warm_up(config=self._options(loaded, config), job_id=job_id)
        except LOAD_FAILURES:
            return

    @staticmethod
    def _options(loaded: LoadedPlugin, config: Any) -> Any:
        if config is None:
            return loaded.config_class()
        if not isinstance(config, loaded.config_class):
            raise TypeError(
                f"{loaded.record.label} takes options of {loaded.config_class.__name__}, got {type(config).__name__}"
            )
        return config

    # -- pinning ---------------------------------------------------------------------------------------------------

    def pin(self, selection: Iterable[tuple[str, str]]) -> Pins:
        """The records of the selected (kind, name) pairs, for the workers.

        :raises PluginNotFoundError, PluginConflictError: see :meth:`find`.
        """
        return Pins(tuple(self.find(kind, name) for kind, name in dict.fromkeys(selection)))
