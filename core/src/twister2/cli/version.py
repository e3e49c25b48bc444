"""``twister2 version``: versions of the core, Python and the installed plugins."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import twister2
from twister2.cli.output import add_json_argument, print_json

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print versions; plugins only for programs, people have ``twister2 plugins list``."""
    if arguments.json:
        from twister2.host import PluginHost
        from twister2.spec.plugin import KINDS

        host = PluginHost()
        found = [record for kind in KINDS for record in host.discover(kind)]
        print_json(
            {
                "core": twister2.__version__,
                "python": platform.python_version(),
                "interpreter": sys.executable,
                "interfaces": {kind.name: list(kind.api) for kind in KINDS.values()},
                "plugins": {record.distribution: record.version for record in found},
            }
        )
    else:
        print(f"twister2 {twister2.__version__} (Python {platform.python_version()}, {sys.executable})")
    return 0
