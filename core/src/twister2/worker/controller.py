"""The worker controller: who is there, named barriers, exchanges of small values, events. All through the job
master.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from twister2.spec.environment import WorkerController, WorkerEvent, WorkerInfo
from twister2.spec.errors import UsageError
from twister2.spec.network import Fingerprint, Group
from twister2.worker.callers import caller_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.worker.link import Link

EXCHANGE_LIMIT = 64 << 10


class Controller(WorkerController):
    """Implementation over a :class:`Link`."""

    def __init__(self, link: Link, workers: Sequence[WorkerInfo], deadline_s: float | None) -> None:
        self._link, self._workers, self._deadline_s = link, workers, deadline_s
        self._world = Group(0, tuple(range(len(workers))))
        kind: Literal["joined", "restarted"] = "joined" if link.attempt == 1 else "restarted"
        self._events = [WorkerEvent(kind, worker.worker_id, link.attempt) for worker in workers]

    def workers(self) -> Sequence[WorkerInfo]:
        return self._workers

    def barrier(self, name: str = "", deadline_s: float | None = None) -> None:
        self._exchange("barrier", name, None, deadline_s or self._deadline_s)

    def exchange(self, name: str, value: Any) -> list[Any]:
        try:
            size = len(json.dumps(value))
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"exchange {name!r} needs JSON-able data",
                why=str(error),
                remedy="exchange numbers, text, lists and dicts; send other things with an operator",
            ) from error
        if size > EXCHANGE_LIMIT:
            raise UsageError(
                f"exchange {name!r} of {size} bytes is too large",
                why=f"values go through the job master; the limit is {EXCHANGE_LIMIT} bytes",
                remedy="send larger things with an operator such as allgather",
            )
        return self._exchange("exchange", name, value, self._deadline_s)

    def _exchange(self, kind: str, name: str, value: Any, deadline_s: float | None) -> list[Any]:
        number = self._link.next_step(0)
        self._link.enter_step(self._world, number, Fingerprint(kind, name, caller_line()))
        answer = self._link.exchange(kind, f"{name}#{number}", value, deadline_s)
        self._link.leave_step(self._world, number)
        return answer

    def events(self) -> list[WorkerEvent]:
        events, self._events = [*self._events, *self._link.take_events()], []
        return events
