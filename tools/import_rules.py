"""The import rules as an import-linter configuration, made from the folders that exist.

Made anew at every ``make lint``, so that a plugin is under the rules from the moment its folder exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distributions import Distribution, Workspace

LAYERS = ("cli", "client", "master", "worker", "graph | control", "host", "config", "spec")
"""Packages of the core, highest first; each imports only what stands below it."""

PUBLIC_TO_PLUGINS = ("spec",)
PUBLIC_TO_API_PLUGINS = ("spec", "graph")
API_GROUPS = ("twister2.api", "twister2.command", "twister2.exec")
"""Groups whose plugins build graphs, or (executors) run them with ``twister2.graph.runtime``."""


def core_packages() -> list[str]:
    """Return the names of the core's packages, highest layer first."""
    return [name.strip() for layer in LAYERS for name in layer.split("|")]


def _lines(names: Iterable[str]) -> str:
    return "".join(f"\n    {name}" for name in names)


def _section(key: str, **options: str) -> str:
    body = "\n".join(f"{name} = {value}" for name, value in options.items())
    return f"[importlinter:contract:{key}]\n{body}\n"


def _existing_layers(core: Distribution) -> list[str]:
    layers = []
    for layer in LAYERS:
        present = [name for name in (part.strip() for part in layer.split("|")) if _is_module(core, name)]
        if present:
            layers.append(" | ".join(present))
    return layers


def _is_module(core: Distribution, name: str) -> bool:
    return (core.package / name / "__init__.py").is_file() or (core.package / f"{name}.py").is_file()


def _hidden_from(core: Distribution, public: tuple[str, ...]) -> list[str]:
    return [f"twister2.{name}" for name in core_packages() if name not in public and _is_module(core, name)]


def import_contracts(workspace: Workspace) -> str:
    """Return the text of the import-linter configuration for the distributions of ``workspace``."""
    core = workspace.core
    members = [member for member in workspace.members if member.package.is_dir()]
    plugins = [plugin for plugin in workspace.plugins if plugin.package.is_dir()]
    api = [plugin.import_name for plugin in plugins if any(group in plugin.entry_points for group in API_GROUPS)]
    others = [plugin.import_name for plugin in plugins if plugin.import_name not in api]
    names = _lines(member.import_name for member in members)
    parts = [f"[importlinter]\nexclude_type_checking_imports = True\nroot_packages ={names}\n"]
    parts.append(
        _section(
            "layers",
            name="inside the core imports point one way",
            type="layers",
            containers=_lines(["twister2"]),
            layers=_lines(_existing_layers(core)),
            exhaustive="true",
            exhaustive_ignores=_lines(["__main__"]),
        )
    )
    strangers = [member.import_name for member in members if member is not core]
    if strangers:
        parts.append(
            _section(
                "core-alone",
                name="the core knows no plugin and no test kit",
                type="forbidden",
                source_modules=_lines(["twister2"]),
                forbidden_modules=_lines(strangers),
            )
        )
    if len(plugins) > 1:
        parts.append(
            _section(
                "independent",
                name="plugins do not know each other",
                type="independence",
                modules=_lines(plugin.import_name for plugin in plugins),
            )
        )
    if plugins and workspace.testkit.package.is_dir():
        parts.append(
            _section(
                "testkit",
                name="the test kit knows no plugin and no plugin knows the test kit",
                type="independence",
                modules=_lines([workspace.testkit.import_name, *(plugin.import_name for plugin in plugins)]),
            )
        )
    for key, users, public in (("plugins", others, PUBLIC_TO_PLUGINS), ("api", api, PUBLIC_TO_API_PLUGINS)):
        hidden = _hidden_from(core, public)
        if users and hidden:
            parts.append(
                _section(
                    f"public-{key}",
                    name=f"{key} import only {' and '.join('twister2.' + name for name in public)}",
                    type="forbidden",
                    source_modules=_lines(users),
                    forbidden_modules=_lines(hidden),
                    # what a public package itself imports is the core's own affair
                    allow_indirect_imports="true",
                )
            )
    return "\n".join(parts)
