"""``twister2 plugins``: what is installed, whether it loads, what its options mean, and a new one to start from."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any

from twister2.cli.output import add_json_argument, print_json, print_table
from twister2.spec.names import did_you_mean
from twister2.spec.plugin import KINDS

if TYPE_CHECKING:
    import argparse

    from twister2.host import PluginHost, PluginRecord
    from twister2.spec.plugin import Probe

TEMPLATE = "twister2_testkit.template"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="list|show|new")
    listing = commands.add_parser("list", help="list installed plugins; imports none unless --check is given")
    listing.add_argument("kind", nargs="?", choices=list(KINDS), help="only this kind")
    listing.add_argument("--check", action="store_true", help="import each and check it; exit code 1 when one fails")
    add_json_argument(listing)
    show = commands.add_parser("show", help="describe a plugin and its options, and say whether it can be used here")
    show.add_argument("kind", choices=list(KINDS))
    show.add_argument("name")
    add_json_argument(show)
    new = commands.add_parser("new", help="write the folder of a new plugin, with its tests (needs twister2-testkit)")
    new.add_argument("--kind", required=True, choices=list(KINDS), help="kind of the plugin")
    new.add_argument("--name", required=True, help="its name, lower-case letters, digits and _")
    new.add_argument(
        "folder", metavar="DIR", help="folder in which the plugin's folder is made; made itself if need be"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for."""
    if arguments.action == "list":
        return _list(arguments)
    if arguments.action == "show":
        return _show(arguments)
    return _new(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from twister2.host import PluginHost

    host = PluginHost()
    rows = []
    for kind in [arguments.kind] if arguments.kind else KINDS:
        records = host.discover(kind)
        doubles = {record.name for record in records if [each.name for each in records].count(record.name) > 1}
        rows += [_state(host, record, record.name in doubles, arguments.check) for record in records]
    if not arguments.kind:
        for kind, records in host.unknown_groups().items():
            state = f"unknown kind{did_you_mean(kind, KINDS).replace(';', ',')}"
            rows += [{**record.to_dict(), "api": "", "state": state, "problem": ""} for record in records]
    if arguments.json:
        print_json(rows)
    else:
        columns = ("kind", "name", "distribution", "version", *(("api",) if arguments.check else ()), "state")
        print_table([name.upper() for name in columns], [[row[name] for name in columns] for row in rows])
        for row in rows:
            if row["problem"]:
                print(f"\n{row['problem']}", file=sys.stderr)
    return 1 if arguments.check and any(row["state"] != "ok" for row in rows) else 0


def _state(host: PluginHost, record: PluginRecord, double: bool, check: bool) -> dict[str, Any]:
    """One row; without ``check`` only what metadata says."""
    import twister2
    from twister2.host.installed import satisfies
    from twister2.host.loading import missing_module
    from twister2.spec.errors import PluginError

    row: dict[str, Any] = {**record.to_dict(), "api": "", "state": "installed", "problem": ""}
    try:
        fits = satisfies(twister2.__version__, record.requires_core)
    except ValueError:
        fits = True  # an exotic requirement is pip's business
    if double:
        row["state"] = "provided twice"
    elif not fits:
        row["state"] = f"needs core {record.requires_core}"
    elif check:
        try:
            row["api"] = ".".join(map(str, host.load(record.kind, record.name).plugin.api))
            row["state"] = "ok"
        except PluginError as error:
            row["state"], row["problem"] = "broken", str(error)
    elif missing := missing_module(record.target):
        row["state"] = f"module {missing} is missing"
    return row


def _show(arguments: argparse.Namespace) -> int:
    from twister2.config.describe import describe, page, summary
    from twister2.host import PluginHost

    host = PluginHost()
    loaded = host.load(arguments.kind, arguments.name)
    path = f"{arguments.kind}.{arguments.name}"
    api = ".".join(map(str, loaded.plugin.api))
    about = getattr(loaded.plugin, "summary", "") or summary(type(loaded.plugin))
    if arguments.json:
        import attrs

        options = [
            {**attrs.asdict(each), "environment": each.environment} for each in describe(loaded.config_class, path)
        ]
        here = _here(host, arguments)
        data = {**loaded.record.to_dict(), "api": api, "summary": about, "options": options}
        print_json({**data, "here": here and {**attrs.asdict(here), "facts": dict(here.facts)}})
        return 0
    print(f"{path}   from {loaded.record.provider}   plugin interface {arguments.kind} {api}")
    if about:
        print(about)
    if (here := _here(host, arguments)) is not None:
        print(f"here: {'' if here.ok else 'cannot be used, '}{here.text}")
        if here.remedy:
            print(f"  try: {here.remedy}")
    print(f"\n{page(loaded.config_class, path)}")
    return 0


def _here(host: PluginHost, arguments: argparse.Namespace) -> Probe | None:
    """Whether the plugin can be used from here, as it is configured; None when it does not say."""
    from twister2.config.resolve import resolve_plugin
    from twister2.spec.errors import ConfigError

    options = None  # the defaults, when the configuration has mistakes: 'twister2 config show' names them
    with contextlib.suppress(ConfigError):
        options = resolve_plugin(arguments.kind, arguments.name, host=host)
    return host.probe(arguments.kind, arguments.name, options)


def _new(arguments: argparse.Namespace) -> int:
    from twister2.host.installed import install_command
    from twister2.spec.errors import UsageError

    try:
        # By name: the core does not depend on the test kit, it only uses it where an author has it.
        template = importlib.import_module(TEMPLATE)
    except ModuleNotFoundError as error:
        raise UsageError(
            "a new plugin is made from the test kit's template, and the test kit is not installed",
            where=sys.executable,
            why=str(error),
            remedy=install_command("twister2-testkit"),
        ) from error
    folder = template.write_plugin(arguments.kind, arguments.name, arguments.folder)
    print(f"wrote {folder}\n")
    print(f"  {sys.executable} -m pip install -e {folder}")
    print(f"  {sys.executable} -m pytest {folder}   # hygiene passes, the other tests wait for you")
    return 0
