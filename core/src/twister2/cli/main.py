"""Entry point of the ``twister2`` command: find the subcommand, import it alone, turn errors into exit codes.

A subcommand is a module with ``configure(parser)`` and ``run(arguments) -> int``. To add one, write the module and name
it in :data:`COMMANDS`. Plugins add subcommands in the entry-point group ``twister2.command``; they are looked for only
when a name is typed that is not in the table.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_RESOURCES = 4
EXIT_KILLED = 5
EXIT_BUG = 70
EXIT_TIMEOUT = 124
EXIT_HUNG_UP = 129
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
EXIT_TERMINATED = 143

EXIT_CODES = {
    EXIT_OK: "done; the job completed",
    EXIT_FAILED: "the job, or what was asked for, failed",
    EXIT_USAGE: "command line, configuration or a plugin is wrong",
    EXIT_NOT_FOUND: "no such job",
    EXIT_RESOURCES: "the resource manager refused or failed",
    EXIT_KILLED: "the job was killed, from elsewhere",
    EXIT_BUG: "a mistake in Twister2 itself or in a plugin's command; the traceback was saved",
    EXIT_TIMEOUT: "the job had not ended when --timeout was over (wait)",
    EXIT_HUNG_UP: "the terminal has gone (SIGHUP); the job of this client was killed",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C); the job of this client was killed",
    EXIT_TERMINATED: "told to end (SIGTERM); the job of this client was killed",
}


TRACEBACK = ("twister2-", ".traceback")
"""How the files with saved tracebacks begin and end, in the folder of temporary files; ``clean --all`` removes them."""
COLLECT_EVERY = 20_000
"""New objects before it is looked for cycles among them: importing makes many objects, and they stay."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Entry(NamedTuple):
    """One subcommand: module and one line for the help page."""

    module: str
    summary: str


COMMANDS = {
    "submit": Entry("twister2.cli.submit", "run a program on N workers"),
    "list": Entry("twister2.cli.list", "list your jobs"),
    "status": Entry("twister2.cli.status", "show the state of a job, with the reason"),
    "logs": Entry("twister2.cli.logs", "show what a job's workers wrote"),
    "wait": Entry("twister2.cli.wait", "wait for the end of a job"),
    "scale": Entry("twister2.cli.scale", "give a running job more or fewer workers"),
    "restart": Entry("twister2.cli.restart", "begin a running job's program again, from its latest commit"),
    "kill": Entry("twister2.cli.kill", "end a job, from any shell"),
    "clean": Entry("twister2.cli.clean", "remove records and logs of ended jobs"),
    "doctor": Entry("twister2.cli.doctor", "check whether jobs of a profile can run, and say what to mend"),
    "plugins": Entry("twister2.cli.plugins", "list, check and describe plugins; start a new one"),
    "config": Entry("twister2.cli.config", "show the configuration and where it comes from"),
    "version": Entry("twister2.cli.version", "show versions"),
}


class Subcommand(Protocol):
    """What a module of :data:`COMMANDS` offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


def help_text() -> str:
    """The text of ``twister2 --help``."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items())
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    return (
        "usage: twister2 COMMAND [arguments]\n"
        "       twister2 COMMAND --help\n\n"
        "Batch, streaming and iterative data analysis by N equal worker processes.\n\n"
        f"commands:\n{commands}\n\n"
        "Plugins add further commands: twister2 plugins list command\n\n"
        f"exit codes:\n{codes}\n\n"
        "environment:\n"
        "  TWISTER2__TABLE__KEY=VALUE  an option, e.g. TWISTER2__JOB__WORKERS=4\n"
        "  TWISTER2_SITE_CONFIG=FILE   the site's configuration in place of /etc/twister2/config.toml\n"
        "  TWISTER2_DEBUG=1            show tracebacks\n"
        "  TWISTER2_TRACE_HOOKS=1      print every call of a plugin's hook\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Never shows a traceback, but with ``TWISTER2_DEBUG=1``."""
    _open_standard_streams()
    if arguments is not None:
        return _main(list(arguments))
    gc.set_threshold(COLLECT_EVERY)
    end = _End()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names and errors may hold what cannot be encoded
    words = sys.argv[1:]
    code = _main(words)
    if not words or words[0] in COMMANDS:  # a plugin's may keep files open, which the interpreter's end writes out
        end.code = code
    return code


class _End:
    """The end of the process where the command is the whole program.

    Taking an interpreter down touches all of its memory, which costs a command some milliseconds and does nothing for
    anybody. So the process ends once threads have been joined, exit handlers called and streams flushed. The exit
    handler that was registered first is called last: where others were before this one, the interpreter ends as usual.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        """Known when a command of ours has returned."""
        self._first = atexit._ncallbacks() == 0
        atexit.register(self._leave)

    def _leave(self) -> None:
        if "twister2.client.threads" in sys.modules:
            # a job's program ran in here, and ends as any program; its module has gone, and Python takes what is left
            # of that down in any order
            from twister2.worker.ending import write_files_out

            write_files_out()
            return
        if self._first and self.code is not None:
            gc.freeze()  # else the interpreter looks through everything for cycles
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except (OSError, ValueError):
                return  # the interpreter has words for it
            os._exit(self.code)


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        if words[1:2] and words[0] == "help":
            words = [words[1], "--help"]
        else:
            print(help_text(), end="", file=sys.stdout if words else sys.stderr)
            return EXIT_OK if words else EXIT_USAGE
    if words[0] == "--version":
        words[0] = "version"
    try:
        code = _run(words[0], words[1:])
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as error:
        with contextlib.suppress(OSError):  # of a terminal that has gone
            print(error if hasattr(error, "number") else "interrupted", file=sys.stderr)
        return 128 + int(getattr(error, "number", signal.SIGINT))
    except BrokenPipeError:
        # The reader of our output has gone (`twister2 list | head`); Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            return _unwritten(error)
        return _report(error)


def _open_standard_streams() -> None:
    """Open the null device in place of each of descriptors 0, 1 and 2 that the caller has closed.

    Pipes and files opened later would get these numbers, and be overwritten in processes that set up their own.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free number, which is this one; subprocesses have it, too
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: what would be written goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the end


def _run(name: str, words: list[str]) -> int:
    subcommand, summary, plugin = _find(name)
    import argparse

    parser = argparse.ArgumentParser(
        prog=f"twister2 {name}",
        description=summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if not plugin:
        subcommand.configure(parser)
        return int(subcommand.run(parser.parse_args(words)) or 0)
    from twister2.spec.errors import Twister2Error

    try:
        subcommand.configure(parser)
        return int(subcommand.run(parser.parse_args(words)) or 0)
    except (Twister2Error, BrokenPipeError):
        raise
    except Exception as error:
        raise _PluginFailedError(plugin) from error


class _PluginFailedError(Exception):
    """A subcommand of a plugin raised what it should not; the text is the plugin's label, the cause what it raised."""


def _find(name: str) -> tuple[Subcommand, str, str]:
    """The subcommand, its summary, and the label of the plugin it is from, empty when it is built in."""
    entry = COMMANDS.get(name)
    if entry is not None:
        module: Any = importlib.import_module(entry.module)
        return module, f"{entry.summary[0].upper()}{entry.summary[1:]}.", ""
    return _find_plugin(name)


def _find_plugin(name: str) -> tuple[Subcommand, str, str]:
    """A subcommand of a plugin.

    :raises UsageError: there is none of that name; names the nearest.
    """
    from twister2.host import PluginHost
    from twister2.spec.errors import UsageError

    host = PluginHost()
    installed = [record.name for record in host.discover("command")]
    if name not in installed:
        from twister2.host.published import install_published
        from twister2.spec.names import nearest

        known = [*COMMANDS, *installed]
        near, install = nearest(name, known), install_published("command", name)
        raise UsageError(
            f"there is no command {name!r}" if not name.startswith("-") else f"{name!r} is not an option of twister2",
            why="the plugin that brings it is not installed" if install else f"commands are {', '.join(known)}",
            remedy=install or (f"twister2 {near}" if near else "twister2 --help"),
        )
    from twister2.config.resolve import resolve_plugin

    loaded = host.load("command", name)
    command: Subcommand = host.create("command", name, resolve_plugin("command", name, host=host))
    return command, getattr(loaded.plugin, "summary", ""), loaded.record.label


def exit_code(error: BaseException) -> int:
    """The exit code that belongs to an error."""
    from twister2.spec import errors

    if isinstance(error, errors.JobKilledError) and error.details.get("interrupted"):
        return 128 + int(error.details["interrupted"])
    for classes, code in (
        ((errors.PluginError, errors.ConfigError, errors.UsageError), EXIT_USAGE),
        ((errors.JobNotFoundError,), EXIT_NOT_FOUND),
        ((errors.ResourceError,), EXIT_RESOURCES),
        ((errors.JobKilledError,), EXIT_KILLED),
        ((errors.Twister2Error,), EXIT_FAILED),
    ):
        if isinstance(error, classes):
            return code
    return EXIT_BUG


def _report(error: Exception) -> int:
    """Show an error; returns the exit code."""
    debug = os.environ.get("TWISTER2_DEBUG", "") not in ("", "0")
    code = exit_code(error)
    if debug:
        import traceback

        traceback.print_exception(error)
    elif code != EXIT_BUG:
        with contextlib.suppress(OSError):  # of a terminal that has gone: the code says it, too
            print(error, file=sys.stderr)
    else:
        who, whom = "twister2", ""
        if isinstance(error, _PluginFailedError) and isinstance(error.__cause__, Exception):
            who, whom, error = str(error), " to the plugin's authors", error.__cause__
        from twister2.spec.errors import printable

        print(
            f"{printable(who)} failed by a mistake of its own: {type(error).__name__}: {printable(str(error))}\n"
            f"  try:     report it{whom}, with the traceback in {_save_traceback(error)}",
            file=sys.stderr,
        )
    return code


def _unwritten(error: OSError) -> int:
    """What was printed could not be written: a full disk, say."""
    from twister2.spec.errors import DataAccessError

    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
    return _report(
        DataAccessError(
            "what was printed could not be written to standard output",
            why=error.strerror or str(error),
            remedy="raise the limit on the size of files (ulimit -f)"
            if error.errno == errno.EFBIG
            else "make room, or send the output elsewhere",
        )
    )


def _save_traceback(error: Exception) -> str:
    import tempfile
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix=TRACEBACK[0], suffix=TRACEBACK[1])
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(traceback.format_exception(error))
    except OSError as failure:
        return f"(it could not be saved: {failure}; set TWISTER2_DEBUG=1)"
    return path


if __name__ == "__main__":
    sys.exit(main())
