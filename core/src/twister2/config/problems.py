"""One error for everything that a look at a configuration found wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.config.layers import Problem
from twister2.spec.errors import ConfigError, PluginError, PluginNotFoundError, Twister2Error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.config.structure import Report

_SEPARATOR = "\n           "


def sentence(failure: tuple[PluginError, str, str]) -> str:
    """A plugin that cannot be loaded as one of many problems."""
    error, path, origin = failure
    return str(Problem(path, f"{error.what}; {error.why}", origin))


def error_of(report: Report) -> Twister2Error:
    """The error for all problems and failures of a report, of which there is at least one.

    A plugin that alone is wrong is its own error; several that are only missing are one, with one command for all.
    """
    failures = report.failures
    if len(failures) == 1 and not report.problems:
        alone, path, origin = failures[0]
        alone.where = f"{path} [{origin}]; {alone.where}"
        return alone
    installs = [str(error.details["install"]) for error, _, _ in failures if "install" in error.details]
    # The same command for each, but for its last word.
    install = " ".join([*installs[:1], *(each.rpartition(" ")[2] for each in installs[1:])])
    lines = [*map(str, report.problems), *map(sentence, failures)]
    error: Twister2Error
    if len(installs) == len(lines):
        error = PluginNotFoundError(
            f"{len(failures)} plugins that this job selects are not installed",
            why=_SEPARATOR.join(lines),
            remedy=install,
            where=failures[0][0].where,
            details={"problems": lines, "install": install},
        )
    else:
        error = config_error(lines, install)
    error.__cause__ = failures[0][0] if failures else None
    return error


def config_error(problems: Sequence[Problem | str], install: str = "") -> ConfigError:
    """One error that says everything.

    :param install: the command that brings what is missing, if anything is.
    """
    lines = [str(problem) for problem in problems]
    return ConfigError(
        "the configuration has a problem" if len(lines) == 1 else f"the configuration has {len(lines)} problems",
        why=_SEPARATOR.join(lines),
        remedy=f"{f'{install}; ' if install else ''}correct it; `twister2 config show --origin` shows where values "
        "come from, `twister2 plugins show KIND NAME` what a plugin's options mean",
        details={"problems": lines},
    )
