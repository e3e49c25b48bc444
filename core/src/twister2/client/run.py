"""``twister2.run``: a program from a script or notebook."""

from __future__ import annotations

import os
import pathlib
import pickle
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twister2.client.collecting import collecting_nothing
from twister2.client.inside import refuse_inside_worker
from twister2.spec.errors import JobFailedError, ResultError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.client.session import Session


def run(
    main: Callable[..., Any] | str | os.PathLike[str],
    *,
    args: Sequence[str] = (),
    workers: int | None = None,
    profile: str | None = None,
    config: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    name: str | None = None,
    files: Sequence[str] | None = None,
) -> list[Any]:
    """Run ``main(env)`` on N workers and return their results, by worker id.

    :param main: the worker program, a function of one :class:`~twister2.spec.environment.WorkerEnvironment`, or the
        file of one: ``"program.py"``, ``"program.py:FUNCTION"``.
    :param args: becomes ``env.args``. :param workers: number of workers, ``job.workers`` when None.
    :param profile: a profile of the configuration or the name of a resource manager.
    :param config: nested options, e.g. ``{"job": {"comm": ["mpi"]}}``. :param settings: ``"job.workers=4"``...
    :param name: the job's name. :param files: TOML files that are read in place of the nearest ``twister2.toml``.
    :raises ConfigError, PluginError, PackageError, ResourceError: before anything is started.
    :raises JobFailedError: one classified error of the job: UserCodeError, WorkerLostError, ResultError...
    :raises UsageError: called inside a worker, without a program, or one text where a list of them belongs.
    """
    refuse_inside_worker()
    if not callable(main) and not isinstance(main, str | os.PathLike):
        raise UsageError(
            f"{main!r} is no worker program",
            why="run() takes a function of one WorkerEnvironment, or the path of a Python file with one",
            remedy="write twister2.run(main, ...) with the function itself, not what a call of it returned",
        )
    for key, value in (("args", args), ("settings", settings), ("files", files)):
        if isinstance(value, str | bytes | os.PathLike):
            raise UsageError(
                f"{key}={value!r} of run() is no list",
                why="each of its characters would count as one of several",
                remedy=f"write {key}=[{value!r}]",
            )
    overrides = {key: _table(key, value) for key, value in (config or {}).items()}
    with collecting_nothing():
        session = _submitted(main, args, {"workers": workers, "name": name}, profile, overrides, settings, files)
    outcome = session.follow()
    if outcome.state.value != "completed":
        raise outcome.error or JobFailedError("the job failed", why="no reason was given", remedy="see its logs")
    return [_unpickle(worker, outcome.results[worker]) for worker in sorted(outcome.results)]


def _submitted(
    main: Callable[..., Any] | str | os.PathLike[str],
    args: Sequence[str],
    arguments: Mapping[str, Any],
    profile: str | None,
    overrides: dict[str, dict[str, Any]],
    settings: Sequence[str],
    files: Sequence[str] | None,
) -> Session:
    """
    :param arguments: options of the job that are arguments of ``run``; None leaves them.
    """
    from twister2.client.configure import configure
    from twister2.config.tree import given

    job = overrides.setdefault("job", {})
    for key, value in arguments.items():
        if value is not None:
            job[key] = given(value, f"{key}= of run()")
    submission = configure(_name_of(main), profile, files=files, settings=settings, overrides=overrides)

    # only now: the resource manager may be warming up by this time
    from twister2.client.packing import from_file, from_function
    from twister2.client.prepare import prepare
    from twister2.client.start import observers_of, print_output, start

    find = partial(from_function, main) if callable(main) else partial(from_file, os.fspath(main))
    prepared = prepare(submission, find, [str(arg) for arg in args], want_results=True, detached=False)
    return start(prepared, print_output, observers_of(prepared, command=False), command=False)


def _table(key: str, value: Any) -> dict[str, Any]:
    """A table of the ``config`` argument.

    :raises UsageError: it is none; dotted keys belong into ``settings``.
    """
    if "." in key or not isinstance(value, Mapping):
        raise UsageError(
            f"config[{key!r}] is not a table",
            why="config holds nested tables by name",
            remedy='write config={"job": {"comm": ["mpi"]}}, or settings=["job.comm=mpi"]',
        )
    return dict(value)


def _unpickle(worker: int, data: bytes) -> Any:
    """A worker's result.

    :raises ResultError: the program's classes raised while it was put together again.
    """
    try:
        return pickle.loads(data)
    except Exception as error:
        from twister2.spec.tracebacks import user_line, user_traceback

        said = f"{type(error).__name__}: {error}"
        raise ResultError(
            f"worker {worker}'s result cannot be unpickled here",
            why=said,
            remedy="return plain data, arrays or objects of classes that can be imported and unpickled here, too",
            where=user_line(error),
            details={"worker": worker, "type": type(error).__name__, "traceback": user_traceback(error)},
        ) from error


def _name_of(main: Callable[..., Any] | str | os.PathLike[str]) -> str:
    """The program's file, or the function's name when it has none."""
    if not callable(main):
        return pathlib.Path(os.fspath(main).partition(":")[0]).stem
    file = getattr(sys.modules.get(getattr(main, "__module__", "")), "__file__", None)
    return pathlib.Path(file).stem if file else getattr(main, "__name__", "job")
