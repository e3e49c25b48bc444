"""Import one plugin class: by name through stevedore where the plugin is chosen, by target where it was pinned.

stevedore compares names before it imports, and isolates what fails. Its own list of entry points is not used: it comes
from a cache on disk that goes stale within two minutes of an installation and forgets the distribution.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

    from twister2.host.records import PluginRecord

LOAD_FAILURES = (Exception, SystemExit)
"""What an import may raise and a host survives; a plugin that calls ``sys.exit`` on import is broken, too."""


def import_target(target: str) -> Any:
    """Import ``module:attribute.attribute``.

    :raises ImportError: the module has no such attribute; besides whatever the import raises.
    """
    module_name, _, attribute = target.partition(":")
    module = importlib.import_module(module_name.strip())
    try:
        return functools.reduce(getattr, filter(None, attribute.strip().split(".")), module)
    except AttributeError as error:
        raise ImportError(f"{module_name.strip()} has no {attribute.strip()!r}") from error


def missing_module(target: str) -> str:
    """The module that ``module:attribute`` needs and that cannot be found, or a package above it; empty when all are
    there, as far as that can be said without importing any.
    """
    name, path = "", None
    for part in target.partition(":")[0].strip().split("."):
        name = f"{name}.{part}" if name else part
        try:
            spec = _find(name, path)
            if spec is None:
                return name
            path = list(spec.submodule_search_locations or ())
        except Exception:
            return ""  # what cannot be looked at is for an import to say
        if not path:
            return ""  # no package: what it has below itself it makes when it is imported
    return ""


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Where a module is; unlike :func:`importlib.util.find_spec`, packages above it are not imported.

    :raises ValueError: it cannot be told.
    """
    if name in sys.modules:
        known = sys.modules[name].__spec__
        if known is None:
            raise ValueError(f"{name} is imported, and does not say where it is")
        return known
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def load_selected(record: PluginRecord) -> Any:
    """Load the object behind a record with stevedore.

    :raises BaseException: one of :data:`LOAD_FAILURES`, as the import raised it.
    """
    from importlib.metadata import EntryPoint

    from stevedore.named import NamedExtensionManager

    entry_point = EntryPoint(record.name, record.target, f"twister2.{record.kind}")
    failures: list[BaseException] = []

    class SelectedManager(NamedExtensionManager):  # type: ignore[type-arg]
        """Loads the one selected entry point and knows no other."""

        def list_entry_points(self) -> list[EntryPoint]:
            return [entry_point]

    manager = SelectedManager(
        entry_point.group,
        [record.name],
        on_load_failure_callback=lambda _manager, _entry_point, error: failures.append(error),
        on_missing_entrypoints_callback=None,
    )
    if failures:
        raise failures[0]
    return manager[record.name].plugin
