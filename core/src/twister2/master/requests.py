"""What clients ask of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.master.status import job_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.control.messages import Message
    from twister2.master.job import Job


def attach(job: Job, peer: bytes, message: Message) -> bool:
    """A client proves itself, and follows the job if it wants to; False: it has not the key."""
    greeting = {
        "state": job.state.value,
        "reason": job.reason,
        "attempt": job.attempt,
        "wants_package": not job.package,
    }
    body = message.body
    name, follow = str(body.get("name", "")), bool(body.get("follow"))
    return job.clients.attach(peer, body.get("client_key"), greeting, follow=follow, name=name, **_heard(body))


def request(job: Job, peer: bytes, message: Message) -> None:
    """A client that has proved itself says something."""
    match message.kind:
        case "push" if not job.package:
            job.take_package(message.blobs[0])
            job.post(peer, "pushed", {})
        case "kill":
            job.kill(str(message.body.get("reason", "")))
        case "scale" | "restart":
            job.scaling.asked(peer, message)
        case "status":
            job.post(peer, "status", job_status(job))
        case "took":
            job.clients.took(peer, int(message.body["size"]), **_heard(message.body))
            job.relay.release()
        case "ping":
            job.clients.spoke(peer)
            job.post(peer, "pong", {})
        case "detach":
            job.clients.detach(peer)


def _heard(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a follower says of the messages that have come to it."""
    return {"heard": int(body.get("heard", 0)), "token": str(body.get("token", ""))}
