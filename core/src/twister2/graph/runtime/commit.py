"""The two-phase commit of sinks at the end of a run.

Every task of a sink prepares, on its worker; the committables of all are exchanged; the worker of a sink's first task
commits them; the outcome is exchanged. So either all workers see success or all raise the same error, and nothing is
committed when any task of any sink failed to prepare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.errors import Twister2Error, from_dict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from twister2.graph.runtime.consumers import SinkRunner
    from twister2.spec.network import Network


def commit_sinks(
    plan: str,
    names: Collection[str],
    runners: Sequence[SinkRunner],
    network: Network,
    worker_id: int,
    checkpoint: int,
) -> None:
    """Prepare and commit all sinks that declare two phases. Collective over all workers.

    :param plan: its name. :param names: these sinks, at least one. :param runners: the tasks of sinks on this worker.
    :param checkpoint: number given to ``prepare``.
    :raises Twister2Error: a sink failed anywhere; nothing was committed unless a commit itself failed.
    """
    local = [runner for runner in runners if runner.place.vertex in names]
    prepared: dict[str, list[tuple[int, list[Any]]]] = {name: [] for name in names}
    failure: Twister2Error | None = None
    try:
        for runner in local:
            committables = list(runner.guarded("prepare", runner.task.prepare, checkpoint))
            prepared[runner.place.vertex].append((runner.place.index, committables))
    except Twister2Error as error:
        failure = error
    answers = _agree(network, failure, prepared, f"sinks of {plan!r} prepared")
    try:
        for runner in local:
            if runner.place.index == 0:
                runner.guarded("commit", runner.task.commit, _in_order(answers, runner.place.vertex))
    except Twister2Error as error:
        failure = error
    _agree(network, failure, None, f"sinks of {plan!r} committed")


def _agree(network: Network, failure: Twister2Error | None, value: Any, what: str) -> list[Any]:
    """Everybody's value by worker, or the first failure, raised on all."""
    answers = network.exchange_objects((None if failure is None else failure.to_dict(), value), what=what)
    if failure is not None:
        raise failure
    for error, _ in answers:
        if error is not None:
            raise from_dict(error)
    return [value for _, value in answers]


def _in_order(answers: Sequence[dict[str, list[tuple[int, list[Any]]]]], sink: str) -> list[Any]:
    tasks = sorted((task for answer in answers for task in answer[sink]), key=lambda task: task[0])
    return [committable for _, committables in tasks for committable in committables]
