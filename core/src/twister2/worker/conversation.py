"""What every :class:`Link` does alike, whatever carries its messages: exchanges, requests, events, step numbers,
aborts.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from twister2.spec.environment import WorkerEvent
from twister2.spec.errors import StepAbortedError, Twister2Error, from_dict
from twister2.worker.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROGRESS_S = 0.005
"""How often what must go on during an exchange is called."""
LOG_PIECE = 1 << 20
"""Characters of a long text that go into the worker's log at once."""


class Conversation(Link):
    """A link whose subclass brings messages: ``post`` sends one, ``poll`` hands what came to :meth:`take`."""

    def __init__(self, worker_id: int, attempt: int) -> None:
        self.worker_id, self.attempt = worker_id, attempt
        self._cause: Twister2Error | None = None
        self.told = False
        """Whether the program has heard of the abort: by an error that a call raised, or by an interrupt."""
        self.overdue: Callable[[], None] | None = None
        """Raises the interrupt that came in the middle of code of ours, in the thread that runs the program."""
        self._answers: dict[tuple[str, str], list[Any]] = {}
        self._replies: dict[int, tuple[Mapping[str, Any], bytes]] = {}
        self._given_up: set[int] = set()
        """Numbers of requests whose replies nobody waits for any more."""
        self._events: list[WorkerEvent] = []
        self._requests = 0
        self._steps: dict[int, int] = {}

    def take(self, kind: str, body: Mapping[str, Any], blob: bytes) -> None:
        """Take in a message from the master; kinds that are not known here are passed over."""
        if kind == "abort":
            self._cause = self._cause or from_dict(body["error"])
        elif kind == "exchanged":
            self._answers[(body["kind"], body["name"])] = body["values"]
        elif kind == "event":
            self._events.append(WorkerEvent(**body))
        elif kind == "reply" and body["request"] in self._given_up:
            self._given_up.remove(body["request"])
        elif kind == "reply":
            self._replies[body["request"]] = (body, blob)

    @abstractmethod
    def learn_cause(self) -> None:
        """The abort flag is up and the cause is not known yet: wait a moment for it."""

    def raise_if_aborted(self) -> None:
        if not self.aborted:
            return
        if self._cause is None:
            self.learn_cause()
        if self._cause is None:
            self._cause = StepAbortedError(
                "the attempt was aborted", why="the abort flag is up", remedy="see the job's first error"
            )
        self.told = True
        raise from_dict(self._cause.to_dict())

    def heed(self) -> None:
        if self.overdue is not None:
            self.overdue()

    def next_step(self, group: int) -> int:
        number = self._steps.get(group, 0) + 1
        self._steps[group] = number
        return number

    def last_steps(self) -> list[list[int]]:
        """Pairs of group and number of its latest step here."""
        return [[group, number] for group, number in self._steps.items()]

    def exchange(
        self,
        kind: str,
        name: str,
        value: Any,
        deadline_s: float | None,
        progress: Callable[[], object] | None = None,
    ) -> list[Any]:
        self.raise_if_aborted()
        self.waiting(f"{kind} {name!r}" if name else kind)
        self.post("exchange", {"kind": kind, "name": name, "value": value, "deadline_s": deadline_s})
        try:
            while (kind, name) not in self._answers:
                self.poll(1.0 if progress is None else PROGRESS_S)
                self.raise_if_aborted()
                if progress is not None:
                    progress()
            return self._answers.pop((kind, name))
        finally:
            self.waiting("")

    def request(
        self, kind: str, body: Mapping[str, Any], blob: bytes = b"", deadline_s: float | None = None
    ) -> bytes | None:
        self._requests += 1
        number = self._requests
        self.post("request", {"request": number, "kind": kind, "body": dict(body)}, blob)
        left, until = 1.0, 0.0 if deadline_s is None else time.monotonic() + deadline_s
        while number not in self._replies:
            self.raise_if_aborted()
            if until and (left := min(1.0, until - time.monotonic())) <= 0:
                self._given_up.add(number)
                return None
            self.poll(left)
        answer, data = self._replies.pop(number)
        if "error" in answer:
            raise from_dict(answer["error"])
        return data if answer["found"] else None

    def take_events(self) -> list[WorkerEvent]:
        self.poll()
        taken, self._events = self._events, []
        return taken

    def fail(self, error: Twister2Error) -> None:
        told = error.to_dict()
        if any(getattr(error, part) != text for part, text in told.items()):
            whole = f"{error}\n"
            for begin in range(0, len(whole), LOG_PIECE):  # before the abort: it ends this process
                self.post("output", {"stream": "", "text": whole[begin : begin + LOG_PIECE]})
            told["remedy"] += f"; the log of worker {self.worker_id} has the whole text"
        self.post("failed", {"error": told})
