"""Put the layers together, check everything, and say all that is wrong at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from twister2.config.groups import counted
from twister2.config.job import JobConfig
from twister2.config.layers import (
    config_files,
    read_environment,
    read_file,
    read_overrides,
    read_settings,
)
from twister2.config.problems import config_error, error_of, sentence
from twister2.config.structure import Report, structure, unstructure
from twister2.config.tree import Leaf, Node, Tree, from_data, leaves, merge, origin_of
from twister2.spec.errors import PluginError, PluginNotFoundError
from twister2.spec.names import did_you_mean
from twister2.spec.options import SECRET
from twister2.spec.plugin import KINDS
from twister2.spec.values import Value

HIDDEN = "***"


class PluginSource(Protocol):
    """What configuration needs of the plugin host."""

    def discover(self, kind: str) -> Sequence[Any]:
        """Installed plugins of a kind: objects with a ``name``."""

    def load(self, kind: str, name: str) -> Any:
        """A loaded plugin: an object with a ``config_class``."""

    def missing_requirements(self, requirements: Sequence[str]) -> list[str]:
        """Requirements that are not met, one sentence each."""


@attrs.frozen(eq=False, repr=False)
class Resolved(Value):
    """The configuration of a job: checked options of the job and of every selected plugin.

    :ivar job: options of ``[job]``. :ivar profile: name of the profile, None without one.
    :ivar origins: dotted key -> where its value comes from. :ivar warnings: what was accepted, but should be changed.
    :ivar absent: selected plugins that are not installed, where that was accepted.
    """

    job: JobConfig
    profile: str | None
    origins: Mapping[str, str]
    warnings: tuple[str, ...]
    _tree: Tree = attrs.field(repr=False)
    _host: PluginSource = attrs.field(repr=False)
    _plugins: dict[tuple[str, str], Any] = attrs.field(factory=dict, repr=False, eq=False)
    absent: frozenset[tuple[str, str]] = frozenset()

    def plugin(self, kind: str, name: str) -> Any:
        """The checked options of a plugin: an object of its ``config_class``.

        :raises ConfigError: its table has problems (only for plugins that are not selected: those of selected ones
            were checked before). :raises PluginError: as the host does.
        """
        if (kind, name) not in self._plugins:
            report = Report()
            options = _structure_plugin(self._tree, kind, name, self._host, report)
            if report.problems:
                raise config_error(report.problems)
            self._plugins[kind, name] = options
        return self._plugins[kind, name]

    def selection(self) -> list[tuple[str, str]]:
        """The (kind, name) of every selected plugin."""
        return selected(self.job)

    def tables(self, *, hide_secrets: bool = False) -> dict[str, Any]:
        """All options as nested plain data: ``tables()["job"]["workers"]``, ``tables()["rm"]["slurm"]``."""
        data: dict[str, Any] = {"job": _plain(self.job, hide_secrets)}
        for kind, name in self.selection():
            if (kind, name) not in self.absent:
                data.setdefault(kind, {})[name] = _plain(self.plugin(kind, name), hide_secrets)
        return data

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data for the job package, secrets included; :meth:`from_dict` is the inverse."""
        return {"profile": self.profile, "tables": self.tables(), "origins": dict(self.origins)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], host: PluginSource) -> Resolved:
        """Rebuild it where the layers are not: on a worker, in the master. A plugin is loaded at its first use.

        :raises ConfigError: the data does not fit this version's options.
        """
        report = Report()
        tree = from_data(data["tables"], "job package")
        job = structure(JobConfig, tree.get("job", {}), "job", report)
        if report.problems:
            raise config_error(report.problems)
        return cls(job, data["profile"], dict(data["origins"]), (), tree, host)


def _plain(options: Any, hide_secrets: bool) -> dict[str, Any]:
    data: dict[str, Any] = unstructure(options)
    if hide_secrets:
        for field in attrs.fields(type(options)):
            value = getattr(options, field.name)
            if attrs.has(type(value)):
                data[field.name] = _plain(value, hide_secrets)
            elif field.metadata.get(SECRET) and value:
                data[field.name] = HIDDEN
    return data


def selected(job: JobConfig) -> list[tuple[str, str]]:
    """The (kind, name) of every plugin a job selects, without repetition."""
    pairs: list[tuple[str, str]] = []
    for kind in KINDS.values():
        if kind.selected == "one":
            pairs.append((kind.name, getattr(job, kind.name)))
        elif kind.selected == "many":
            pairs.extend((kind.name, name) for name in getattr(job, kind.name))
    return list(dict.fromkeys(pairs))


def resolve(
    *,
    host: PluginSource,
    profile: str | None = None,
    files: Sequence[str | os.PathLike[str]] | None = None,
    environ: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    early: Callable[[JobConfig, Any], None] | None = None,
    accept_absent: bool = False,
) -> Resolved:
    """Resolve the configuration of a job from all layers.

    :param host: knows the installed plugins. :param profile: a ``[profile.<name>]`` table, or the name of an installed
        resource manager. :param files: TOML files in place of the nearest ``twister2.toml``, later ones win.
    :param environ: the environment, this process's when None. :param settings: ``"rm.slurm.partition=debug"``...
    :param overrides: nested keyword values of a program, ``{"job": {"workers": 4}}``; None in it means not given.
    :param early: called with the job's options and those of its resource manager as soon as these are known to be
        right, before other plugins are loaded.
    :param accept_absent: selected plugins that are not installed are a warning: to look at a configuration, not to run.
    :raises ConfigError: everything that is wrong, at once (``details["problems"]``).
    :raises PluginError: nothing else is wrong, but one selected plugin cannot be loaded, or several are not installed.
    """
    report = Report()
    tree = _read_layers(host, profile, files, os.environ if environ is None else environ, settings, report)
    tree = _laid_over(tree, read_overrides(overrides or {}), report)
    return _checked(tree, profile, host, report, early, accept_absent)


def resolve_plugin(
    kind: str, name: str, *, host: PluginSource, environ: Mapping[str, str] | None = None, settings: Sequence[str] = ()
) -> Any:
    """The options of one plugin from all layers, for what runs outside a job (subcommands).

    :raises ConfigError: its table, or a file, has problems. :raises PluginError: as the host does.
    """
    report = Report()
    tree = _read_layers(host, None, None, os.environ if environ is None else environ, settings, report)
    options = _structure_plugin(tree, kind, name, host, report)
    if report.problems:
        raise config_error(report.problems)
    return options


def resolve_state_dirs(*, host: PluginSource, environ: Mapping[str, str] | None = None) -> list[str]:
    """``job.state_dir`` without a profile, then those that profiles have, for commands about jobs of the past.

    :raises ConfigError: ``[job]``, or a file, has problems; those of a profile are told when it is used.
    """
    report = Report()
    environ = os.environ if environ is None else environ
    files, variables = _read_files(environ, None, report), read_environment(environ)
    tree = _laid_over(_with_profile(files, None, host, report), variables, report)
    job: JobConfig = structure(JobConfig, tree.get("job", {}), "job", report)
    if report.problems:
        raise config_error(report.problems)
    found = [job.state_dir]
    if "job.state_dir" not in dict(leaves(variables)):  # which holds for every profile
        for path, leaf in leaves(files.get("profile", {})):
            if path.endswith(".job.state_dir"):
                own: JobConfig = structure(JobConfig, {"state_dir": leaf}, "job", Report())
                found.append(own.state_dir)
    return list(dict.fromkeys(found))


def _read_files(environ: Mapping[str, str], files: Sequence[str | os.PathLike[str]] | None, report: Report) -> Tree:
    tree: Tree = {}
    for path in config_files(environ, files):
        layer, problems = read_file(path)
        report.problems += problems
        tree = _laid_over(tree, layer, report)
    return tree


def _read_layers(
    host: PluginSource,
    profile: str | None,
    files: Sequence[str | os.PathLike[str]] | None,
    environ: Mapping[str, str],
    settings: Sequence[str],
    report: Report,
) -> Tree:
    tree = _read_files(environ, files, report)
    if report.problems and profile is not None and not _knows(tree, profile, host):
        profile = None  # it may be in a file that could not be read; its absence is no problem of its own
    tree = _with_profile(tree, profile, host, report)
    tree = _laid_over(tree, read_environment(environ), report)
    layer, problems = read_settings(settings)
    report.problems += problems
    return _laid_over(tree, layer, report)


def _laid_over(tree: Tree, layer: Tree, report: Report) -> Tree:
    """One more layer; at the root there are only tables, and a value there must not hide the tables below it."""
    for key, node in layer.items():
        if isinstance(node, Leaf):
            report.problem(key, "must be a table", node.origin)
    return merge(tree, {key: node for key, node in layer.items() if not isinstance(node, Leaf)})


def _with_profile(tree: Tree, profile: str | None, host: PluginSource, report: Report) -> Tree:
    """Take the profiles out of the tree and lay the chosen one over the rest."""
    tree = dict(tree)
    profiles = tree.pop("profile", {})
    if profile is None or isinstance(profiles, Leaf):
        return tree
    chosen = profiles.get(profile)
    if isinstance(chosen, Leaf):
        report.problem(f"profile.{profile}", "must be a table", chosen.origin)
        return tree
    managers = _managers(host)
    if chosen is None and profile not in managers:
        _refuse_profile(profile, sorted(profiles), managers, host, report)
        return tree
    if profile in managers:
        # The name of a resource manager chooses it, unless a table of that name chooses another.
        tree = merge(tree, from_data({"job": {"rm": profile}}, f"profile {profile}"))
    return merge(tree, _renamed_origins(chosen or {}, profile))


def _managers(host: PluginSource) -> list[str]:
    return sorted({record.name for record in host.discover("rm")})


def _knows(tree: Tree, profile: str, host: PluginSource) -> bool:
    profiles = tree.get("profile", {})
    return isinstance(profiles, Leaf) or profile in profiles or profile in _managers(host)


def _refuse_profile(
    profile: str, profiles: Sequence[str], managers: Sequence[str], host: PluginSource, report: Report
) -> None:
    """There is no such profile: a resource manager that can be installed, or a slip of the pen."""
    near = None
    try:
        host.load("rm", profile)
    except PluginNotFoundError as error:
        if "install" in error.details:
            error.why += f"; profiles: {', '.join(profiles) or 'none'}"
            report.failures.append((error, "job.rm", f"profile {profile}"))
            return
        near = error.details.get("nearest")
    hint = did_you_mean(profile, [*profiles, *managers, *([near] if near else [])])
    report.problem(
        "",
        f"there is no profile {profile!r}{hint} (profiles: {', '.join(profiles) or 'none'}; "
        f"installed resource managers: {', '.join(managers) or 'none'})",
        "profile",
    )


def _renamed_origins(node: Node, profile: str) -> Any:
    if isinstance(node, Leaf):
        return attrs.evolve(node, origin=f"profile {profile}, {node.origin}")
    return {key: _renamed_origins(child, profile) for key, child in node.items()}


def _checked(
    tree: Tree,
    profile: str | None,
    host: PluginSource,
    report: Report,
    early: Callable[[JobConfig, Any], None] | None,
    accept_absent: bool,
) -> Resolved:
    for key in [key for key in tree if key != "job" and key not in KINDS]:
        hint = did_you_mean(key, ["job", "profile", *KINDS])
        report.problem(key, f"unknown table{hint}", origin_of(tree[key]))
    job = counted(structure(JobConfig, tree.get("job", {}), "job", report), report)
    wrong = {problem.path for problem in report.problems}
    wrong |= {path for _, path, _ in report.failures}
    plugins: dict[tuple[str, str], Any] = {}
    chosen = [pair for pair in selected(job) if f"job.{pair[0]}" not in wrong]
    for kind, name in chosen:
        try:
            plugins[kind, name] = _structure_plugin(tree, kind, name, host, report)
            if kind == "rm" and early is not None and not report.problems:
                early(job, plugins[kind, name])
        except PluginError as error:
            report.failures.append((error, f"job.{kind}", report.origins.get(f"job.{kind}", "default")))
    _check_other_tables(tree, set(chosen), host, report)
    for unmet in host.missing_requirements(job.requires):
        report.problem("job.requires", unmet, report.origins["job.requires"])
    absent: frozenset[tuple[str, str]] = frozenset()
    if accept_absent:
        absent = frozenset(selected(job)) - frozenset(plugins)
        kept = [failure for failure in report.failures if not isinstance(failure[0], PluginNotFoundError)]
        report.warnings += [sentence(failure) for failure in report.failures if failure not in kept]
        report.failures[:] = kept
    if report.failures or report.problems:
        raise error_of(report)
    return Resolved(job, profile, report.origins, tuple(report.warnings), tree, host, plugins, absent)


def _structure_plugin(tree: Tree, kind: str, name: str, host: PluginSource, report: Report) -> Any:
    options = host.load(kind, name).config_class
    table = tree.get(kind, {})
    return structure(options, table.get(name, {}) if isinstance(table, dict) else {}, f"{kind}.{name}", report)


def _check_other_tables(tree: Tree, chosen: set[tuple[str, str]], host: PluginSource, report: Report) -> None:
    """Tables of plugins that are installed but not selected are left alone; tables of unknown ones are mistakes."""
    for kind, table in tree.items():
        if kind not in KINDS or isinstance(table, Leaf):
            continue
        others = [name for name in table if (kind, name) not in chosen]
        if not others:
            continue
        known = {record.name for record in host.discover(kind)}
        for name in others:
            if name not in known:
                hint = did_you_mean(name, known)
                installed = f" (installed: {', '.join(sorted(known)) or 'none'})"
                report.problem(f"{kind}.{name}", f"no such {kind} plugin{hint}{installed}", origin_of(table[name]))
