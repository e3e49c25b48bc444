"""The texts of the host's errors: what is installed here, the nearest name, the exact command that mends it."""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING

import twister2
from twister2.host.installed import install_command
from twister2.host.published import PUBLISHED, install_published
from twister2.spec.errors import (
    PluginBrokenError,
    PluginConflictError,
    PluginHookError,
    PluginIncompleteError,
    PluginMismatchError,
    PluginNotFoundError,
)
from twister2.spec.names import did_you_mean, nearest
from twister2.spec.plugin import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.host.records import Pins, PluginRecord


def here() -> str:
    """Where this process looks for plugins: host and interpreter."""
    return f"host {os.uname().nodename}, interpreter {sys.executable}"


def not_found(kind: str, name: str, installed: Sequence[PluginRecord], *, pinned: bool) -> PluginNotFoundError:
    """Nothing provides the name."""
    names = sorted({record.name for record in installed})
    if pinned:
        return PluginNotFoundError(
            f"{kind} plugin {name!r} is not among the plugins of this job",
            where=here(),
            why=f"chosen at submit were: {', '.join(names) or 'none'}",
            remedy=f"choose it when the job is submitted: -o job.{kind}={name}",
        )
    why = f"installed here are: {', '.join(names)}" if names else f"no {kind} plugin is installed here"
    install = install_published(kind, name)
    near = None if install else nearest(name, {*names, *PUBLISHED[kind]})
    details = {"kind": kind, "name": name, "installed": names, "nearest": near}
    if install:
        remedy, details["install"] = install, install
    elif near:
        why += f"; the nearest name is {near!r}"
        remedy = f"use {near!r}" + ("" if near in names else f", after {install_published(kind, near)}")
    else:
        choice = "use one of these" if names else f"use {' or '.join(PUBLISHED[kind])}" if PUBLISHED[kind] else ""
        remedy = f"{choice}{', or ' if choice else ''}install the distribution that provides it"
    return PluginNotFoundError(
        f"no {kind} plugin ({KINDS[kind].summary}) is called {name!r}",
        where=here(),
        why=why,
        remedy=remedy,
        details=details,
    )


def conflict(found: Sequence[PluginRecord]) -> PluginConflictError:
    """Two distributions provide the same name."""
    first = found[0]
    providers = " and ".join(f"{record.provider} ({record.target})" for record in found)
    names = " or ".join(sorted({record.distribution or record.target for record in found}))
    return PluginConflictError(
        f"{first.kind} plugin {first.name!r} is provided {'twice' if len(found) == 2 else f'{len(found)} times'}: "
        f"{providers}",
        where=here(),
        why="a name of a kind belongs to one distribution, and none is preferred",
        remedy=f"uninstall one of {names}, or have its author rename the entry point",
        details={"providers": [record.to_dict() for record in found]},
    )


def broken(record: PluginRecord, error: BaseException) -> PluginBrokenError:
    """Importing the plugin failed: its module raised, or what the entry point names is not there."""
    again = install_command(
        f"--upgrade --force-reinstall {record.distribution}" if record.distribution else record.target
    )
    module, _, attribute = (part.strip() for part in record.target.partition(":"))
    correct = f'correct its entry point, {record.name} = "module:Class", and install it again: {again}'
    what = f"failed to import: {type(error).__name__}: {error}"
    why = "it is installed, but its module cannot be imported; no other plugin is affected"
    remedy = f"repair it: {again}"
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if absent and (module == absent or module.startswith(f"{absent}.")):
        what = f"has an entry point that names a module which is not there: {module} (no module {absent!r})"
        why = "the distribution is installed without it, or the entry point is wrong; no other plugin is affected"
        remedy = correct
    elif absent and absent.partition(".")[0] != module.partition(".")[0]:  # of its own, nothing else provides one
        remedy = f"install what provides the module {absent!r} into this interpreter, or: {again}"
    elif _lacks_attribute(module, error):
        what = f"has an entry point that names a class which is not there: {attribute} in module {module}"
        why = f"the module was imported and has no {attribute!r}{did_you_mean(attribute, dir(sys.modules[module]))}"
        remedy = correct
    return PluginBrokenError(f"{record.label} {what}", where=f"{record.target}; {here()}", why=why, remedy=remedy)


def _lacks_attribute(module: str, error: BaseException) -> bool:
    """Whether the module was imported, and only then something of it was missed."""
    missed = error if isinstance(error, AttributeError) else error.__cause__
    return isinstance(missed, AttributeError) and module in sys.modules and missed.obj is sys.modules[module]


def not_made(record: PluginRecord, found: type, error: BaseException) -> PluginBrokenError:
    """Making the one instance of the plugin class failed."""
    try:
        parameters = list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [each.name for each in parameters if each.default is each.empty and each.kind not in kinds]
    if wanted:
        what, why = f"its class {found.__name__} takes arguments: {', '.join(wanted)}", "the host makes it without any"
    else:
        what = f"making a {found.__name__} raised {type(error).__name__}: {error}"
        why = "its __init__ failed; its module was imported without an error"
    return PluginBrokenError(
        f"{record.label}: {what}",
        where=f"{record.target}; {here()}",
        why=why,
        remedy="leave __init__ out of the plugin class: options come with the hooks, and work belongs in the backend",
    )


def factory_raised(record: PluginRecord, hook: str, expected: type, error: BaseException) -> Exception:
    """A factory hook raised: an abstract class is incomplete, everything else is broken."""
    if isinstance(error, TypeError) and "abstract method" in str(error):
        return PluginIncompleteError(
            f"{record.label}: {hook} returns a backend with missing methods: {error}",
            where=record.target,
            why=f"every abstract method of {expected.__module__}.{expected.__qualname__} must be implemented",
            remedy="implement them; twister2.spec says when each is called and what it may raise",
        )
    if isinstance(error, ImportError):
        failure = broken(record, error)
        failure.why = f"{hook} imports its backend, and that failed"
        return failure
    return PluginBrokenError(
        f"{record.label}: {hook} raised {type(error).__name__}: {error}",
        where=f"{record.target}; {here()}",
        why="making the backend failed with an error that is not one of this system's",
        remedy="check the plugin's options (twister2 config show), or report it to the plugin's author",
    )


def refused_by_pluggy(record: PluginRecord, error: Exception) -> PluginHookError:
    """Pluggy found what the checks before it did not."""
    return PluginHookError(
        f"{record.label} cannot be registered: {' '.join(str(error).split())}",
        where=record.target,
        why=f"its hooks do not fit those of {record.kind}",
        remedy=f"compare them with {KINDS[record.kind].spec}",
    )


def mismatch(thing: str, pinned: str, found: str) -> PluginMismatchError:
    """A worker has another version than the submitting side."""
    return PluginMismatchError(
        f"{thing} is {found} here, but {pinned} where the job was submitted",
        where=here(),
        why="all processes of a job must run the same versions",
        remedy=f"make them equal, e.g. {install_command(f'{thing}=={pinned}')}"
        if thing != "Python"
        else f"use Python {pinned} on this host, or submit with Python {found}",
        details={"thing": thing, "pinned": pinned, "found": found},
    )


def check_core(pins: Pins) -> None:
    """Compare the core's version with the pinned one.

    :raises PluginMismatchError: they differ.
    """
    if pins.core != twister2.__version__:
        raise mismatch("twister2-core", pins.core, twister2.__version__)


def check_version(record: PluginRecord, found: str | None) -> None:
    """Compare a distribution's version on a worker with the pinned one.

    :raises PluginNotFoundError: it is not installed here. :raises PluginMismatchError: it differs.
    """
    if found is None:
        raise PluginNotFoundError(
            f"{record.label} is not installed on this worker",
            where=here(),
            why="the submitting side has it; every host of a job needs the job's plugins",
            remedy=install_command(f"{record.distribution}=={record.version}"),
            details={"pinned": record.version, "found": None},
        )
    if found != record.version:
        raise mismatch(record.distribution, record.version, found)
