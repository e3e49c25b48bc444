"""Entry point of the plugin."""

from __future__ import annotations

from typing import Any

from twister2.spec.command import Command, CommandSpec
from twister2.spec.plugin import hookimpl


class BenchPlugin(CommandSpec):
    """The subcommand ``twister2 bench``."""

    api = (1, 0)
    summary = "measure the communication between the workers of a profile"

    @hookimpl
    def command_create(self, config: Any) -> Command:
        from twister2_bench.command import BenchCommand

        return BenchCommand()
