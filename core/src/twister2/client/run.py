"""``twister2.run``: a program from a script or notebook."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twister2.client.packing import from_function, refuse_inside_worker
from twister2.client.prepare import Prepared, configure, prepare
from twister2.client.session import Output, Session
from twister2.host import ObserverSet
from twister2.spec.errors import JobFailedError
from twister2.spec.rm import JobState


def run(
    main: Callable[..., Any],
    *,
    args: Sequence[str] = (),
    workers: int | None = None,
    profile: str | None = None,
    config: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    name: str | None = None,
) -> list[Any]:
    """Run ``main(env)`` on N workers and return their results, by worker id.

    :param main: the worker program, a function of one :class:`~twister2.spec.environment.WorkerEnvironment`.
    :param args: becomes ``env.args``. :param workers: number of workers, ``job.workers`` when None.
    :param profile: a profile of the configuration or the name of a resource manager.
    :param config: nested options, e.g. ``{"job": {"comm": ["mpi"]}}``. :param settings: ``"job.workers=4"``...
    :param name: the job's name.
    :raises ConfigError, PluginError, PackageError, ResourceError: before anything is started.
    :raises JobFailedError: one classified error of the job: UserCodeError, WorkerLostError...
    :raises UsageError: called inside a worker.
    """
    refuse_inside_worker()
    overrides: dict[str, Any] = {key: dict(value) for key, value in (config or {}).items()}
    job = overrides.setdefault("job", {})
    for key, value in (("workers", workers), ("name", name)):
        if value is not None:
            job[key] = value
    submission = configure(from_function(main), profile, settings=settings, overrides=overrides)
    prepared = prepare(submission, [str(arg) for arg in args], want_results=True, detached=False)
    outcome = start(prepared, print_output, submission.resolved.job.observe).follow()
    if outcome.state is not JobState.COMPLETED:
        raise outcome.error or JobFailedError("the job failed", why="no reason was given", remedy="see its logs")
    return [_unpickle(outcome.results[worker]) for worker in sorted(outcome.results)]


def _unpickle(data: bytes) -> Any:
    return pickle.loads(data)  # noqa: S301 - written by the authenticated workers of this very job


def print_output(worker: int, stream: str, text: str) -> None:
    """What workers print goes to the same stream here; log records go to stderr."""
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text)
    target.flush()


def start(prepared: Prepared, output: Output, observers: Sequence[str]) -> Session:
    """Start a prepared job.

    :param output: takes what workers write and what the client has to say. :param observers: names of observer plugins.
    """
    for note in prepared.match.notes:
        output(-1, "log", f"note: {note}\n")
    for warning in prepared.resolved.warnings:
        output(-1, "log", f"warning: {warning}\n")
    chosen = [(name, prepared.resolved.plugin("observe", name)) for name in observers]
    loaded = ObserverSet.load(prepared.host, chosen, "client", lambda text: output(-1, "log", f"warning: {text}\n"))
    session = Session(prepared, output, loaded)
    session.start()
    return session
