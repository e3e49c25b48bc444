"""Kind ``command``: a subcommand ``twister2 <name>``. Loaded only when its name is typed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.plugin import PluginSpec, hookspec

if TYPE_CHECKING:
    import argparse


class Command(ABC):
    """The backend of a subcommand."""

    @abstractmethod
    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add arguments to the parser made for this command. Called once, before :meth:`run`; must do nothing else:
        ``--help`` calls it too.
        """

    @abstractmethod
    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, in the main thread; returns the exit code.

        :raises Twister2Error: shown to the user, with the exit code of its kind. Ctrl-C comes as KeyboardInterrupt and
            is passed on; other exceptions count as bugs.
        """


class CommandSpec(PluginSpec):
    """Base of every ``twister2.command`` plugin."""

    kind: ClassVar[str] = "command"
    summary: ClassVar[str]
    """One line for ``twister2 <name> --help``. ``twister2 --help`` loads no plugin, and lists none."""

    @hookspec(firstresult=True)
    def command_create(self, config: Any) -> Command | None:
        """Build the command. Called when its name was typed; must not do its work yet."""
