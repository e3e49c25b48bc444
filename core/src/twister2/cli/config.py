"""``twister2 config``: the configuration, where each value comes from, and a file to start from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twister2.cli.output import add_config_arguments, add_json_argument, print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="show|example")
    show = commands.add_parser("show", help="print every option of the job and of the selected plugins")
    show.add_argument("profile", nargs="?", help="a [profile.<name>] table or the name of a resource manager")
    show.add_argument("--origin", action="store_true", help="print where each value comes from, too")
    add_json_argument(show)
    add_config_arguments(show)
    example = commands.add_parser("example", help="print a twister2.toml with every option, commented out")
    example.add_argument("plugin", nargs="*", metavar="KIND.NAME", help="only these plugins, e.g. rm.slurm")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for."""
    return _example(arguments.plugin) if arguments.action == "example" else _show(arguments)


def _show(arguments: argparse.Namespace) -> int:
    from twister2.config import resolve
    from twister2.host import PluginHost

    resolved = resolve(
        host=PluginHost(),
        profile=arguments.profile,
        files=arguments.config,
        settings=arguments.settings,
        accept_absent=True,
    )
    for warning in resolved.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    tables = resolved.tables(hide_secrets=True)
    if arguments.json:
        data = {"profile": resolved.profile, "options": tables}
        print_json({**data, "origins": dict(resolved.origins)} if arguments.origin else data)
        return 0
    from twister2.config.describe import toml_value

    lines = [(path, toml_value(value)) for path, value in _flat(tables, resolved.origins)]
    width = max(len(f"{path} = {value}") for path, value in lines)
    for path, value in lines:
        line = f"{path} = {value}"
        print(f"{line:<{width}}  # {resolved.origins.get(path, 'default')}" if arguments.origin else line)
    return 0


def _flat(data: Any, origins: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Options by dotted path; a table that is one option's value stays whole."""
    for key, value in data.items():
        below = f"{path}.{key}" if path else key
        if isinstance(value, dict) and below not in origins:
            yield from _flat(value, origins, below)
        else:
            yield below, value


def _example(plugins: list[str]) -> int:
    from twister2.config import JobConfig
    from twister2.config.describe import example
    from twister2.host import PluginHost
    from twister2.spec.errors import PluginError, UsageError
    from twister2.spec.plugin import KINDS

    host = PluginHost()
    if plugins:
        wanted = [tuple(each.split(".", 1)) for each in plugins]
        if any(len(pair) != 2 or pair[0] not in KINDS for pair in wanted):
            raise UsageError(
                f"{' '.join(plugins)} does not name plugins",
                why=f"a plugin is named KIND.NAME; kinds are {', '.join(KINDS)}",
                remedy="for example: twister2 config example rm.standalone",
            )
        for kind, name in wanted:
            print(example(host.load(kind, name).config_class, f"{kind}.{name}"))
        return 0
    print("# Options of a job and of the installed plugins, with their defaults. A file of that name is looked for")
    print("# in the current folder and above. Tables below [profile.<name>] hold for that profile only.\n")
    print(example(JobConfig, "job"))
    for kind in KINDS:
        for name in sorted({record.name for record in host.discover(kind)}):
            try:
                options = host.load(kind, name).config_class
            except PluginError as error:
                print(f"# [{kind}.{name}]: {error.what}\n")
                continue
            print(example(options, f"{kind}.{name}"))
    return 0
