"""From what a master tells its clients to the hooks of observers: the same in the client and in the master."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.environment import WorkerEvent
from twister2.spec.observe import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.host import ObserverSet


def observe(
    observers: ObserverSet, job_id: str, kind: str, body: Mapping[str, Any], *, output_wait_s: float = 0.0
) -> None:
    """Call the hook that belongs to a message of the master; messages without one are passed over.

    :param output_wait_s: how long observers are waited for before output is shown, so that a display can step aside.
    """
    call = observers.call
    match kind:
        case "output" if body["stream"]:  # else for the log alone
            text = {"worker_id": body["worker"], "stream": body["stream"], "text": body["text"]}
            call("output", output_wait_s, job_id=job_id, **text)
        case "state":
            call("job_state", job_id=job_id, state=body["state"], reason=body["reason"])
        case "attempt":
            call("attempt_started", job_id=job_id, attempt=body["attempt"], n_workers=body["n_workers"])
        case "worker":
            call("worker_event", job_id=job_id, event=_worker_event(body))
        case "progress":
            call("progress", job_id=job_id, progress=_progress(body))
        case "checkpoint":
            call("checkpoint_committed", job_id=job_id, number=body["number"])


def _worker_event(body: Mapping[str, Any]) -> WorkerEvent:
    event = WorkerEvent(**body)
    again = event.kind == "joined" and event.attempt > 1
    return attrs.evolve(event, kind="restarted") if again else event


def _progress(body: Mapping[str, Any]) -> Progress:
    return Progress(
        worker_id=body["worker"],
        attempt=body.get("attempt", 0),
        step=body.get("step", ""),
        done=body.get("done", 0.0),
        total=body.get("total"),
        unit=body.get("unit", ""),
        counters=body.get("counters", {}),
        memory=body.get("memory", 0),
        final=body.get("final", False),
        runs=body.get("runs", 0),
    )
