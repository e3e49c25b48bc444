"""The state machine of a job: takes messages and ticks, posts messages. Knows nothing of sockets or processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twister2.control.ticket import Ticket, new_key
from twister2.master.causes import (
    abort_for_others,
    ended_before_joining,
    exited,
    lost,
    never_joined,
    not_joined,
    retryable,
    with_attempts,
)
from twister2.master.checkpoints import Checkpoints
from twister2.master.clients import Clients, Post
from twister2.master.deadlocks import Deadlocks
from twister2.master.exchanges import Exchanges
from twister2.master.joining import refusal, start, welcome
from twister2.master.relay import Relay
from twister2.master.slots import Slot
from twister2.master.status import job_status
from twister2.master.steps import Groups, find_left_out, find_mismatch, unreachable
from twister2.master.whereabouts import Whereabouts
from twister2.spec.errors import (
    JobKilledError,
    NetworkError,
    StepAbortedError,
    Twister2Error,
    from_dict,
)
from twister2.spec.rm import JobState, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.control.messages import Message
    from twister2.master.calls import Calls
    from twister2.master.facts import JobFacts
    from twister2.master.journal import Journal
    from twister2.master.manager import Manager
    from twister2.spec.state import StateStore

CHUNK = 4 << 20
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


class Job:
    """One job. All methods are called by the master's main thread."""

    def __init__(
        self,
        facts: JobFacts,
        join_key: str,
        post: Post,
        manager: Manager,
        journal: Journal,
        store: Callable[[], StateStore],
        calls: Calls,
    ) -> None:
        """
        :param store: makes the state store, at its first use. :param calls: runs what uses it.
        """
        self.facts, self._post, self._manager, self._journal = facts, post, manager, journal
        self.state = JobState.QUEUED
        self.reason = ""
        self.attempt = 1
        self.join_key = join_key
        self.addresses: tuple[str, ...] = ()
        self.package = b""
        self.slots = [Slot(number) for number in range(facts.n_workers)]
        self.results: dict[int, bytes] = {}
        self.error: Twister2Error | None = None
        self.finished = False
        self._by_peer: dict[bytes, Slot] = {}
        self.clients = Clients(facts.client_key, post, expected=facts.expects_client)
        self._exchanges = exchanges = Exchanges(self.slots, post)
        self.groups = Groups()
        self._deadlocks = Deadlocks(facts.config.heartbeat_s, facts.config.lost_after_s)
        self._cause: Twister2Error | None = None
        self._started = self._someone_runs = False
        self.begun = time.monotonic()
        self._waiting_since = time.monotonic()
        self._aborted_at = 0.0
        self._before_package: list[tuple[bytes, Message]] = []
        self._suspicion: tuple[Twister2Error, int, float] | None = None
        """A broken connection, by whom, and until when a better explanation is waited for."""
        self.relay = relay = Relay(post, self.clients, journal)
        self.checkpoints = checkpoints = Checkpoints(facts, post, self.clients, journal, store, calls)
        asked = {"whereabouts": Whereabouts(self.slots, lambda: self.groups, post).asked}
        self._handlers: dict[str, Callable[[Slot, Message], None]] = {
            "beat": self._on_beat,
            "output": relay.output,
            "log": relay.log,
            "progress": relay.progress,
            "exchange": exchanges.exchange,
            "request": lambda slot, message: asked.get(message.body["kind"], checkpoints.request)(slot, message),
            "committed": checkpoints.committed,
            "committing": checkpoints.committing,
            "group": self._on_group,
            "failed": self._on_failed,
            "ended": self._on_ended,
            "fence": exchanges.fence,
        }

    # -- messages ------------------------------------------------------------------------------------------------------

    def receive(self, peer: bytes, message: Message) -> None:
        """Take a message. What a peer may say depends on how it proved itself."""
        slot = self._by_peer.get(peer)
        if message.kind == "knock":
            self._post(peer, "open", {})
        elif message.kind == "hello":
            self._on_hello(peer, message)
        elif message.kind == "attach":
            self._on_attach(peer, message)
        elif slot is not None:
            self._from_worker(slot, message)
        elif peer in self.clients:
            self._from_client(peer, message)
        elif message.kind != "bye":
            self._post(peer, "refused", {"text": "this copy was given up as lost", "wait": False})

    def _from_worker(self, slot: Slot, message: Message) -> None:
        if slot.gone and slot.phase == "lost" and not self.state.final:
            self._post(slot.peer, "refused", {"text": f"slot {slot.number} was given up as lost", "wait": False})
            return
        slot.heard = time.monotonic()
        if message.kind == "package":
            offset = int(message.body["offset"])
            self._post(slot.peer, "chunk", {}, [self.package[offset : offset + CHUNK]])
        elif message.kind == "bye":
            # One that failed because of another says more than its end; the other is still to be heard.
            if not self.state.final and not (slot.phase == "ended" and self._suspicion):
                self._lose(slot, str(message.body.get("why") or "its supervisor said goodbye"))
            slot.gone = True
        elif message.body.get("attempt") == self.attempt and message.kind in self._handlers:
            try:
                self._handlers[message.kind](slot, message)
            except MALFORMED as error:
                self._lose(
                    slot, f"it sent a message {message.kind!r} that makes no sense ({type(error).__name__}: {error})"
                )

    # -- joining -------------------------------------------------------------------------------------------------------

    def _on_hello(self, peer: bytes, message: Message) -> None:
        if not self.package:
            self._before_package.append((peer, message))
            return
        body = message.body
        number = body.get("slot")
        over = self.finished or self.state.final
        why, wait = refusal(body, self.slots, self.attempt, self.join_key, over)
        if why:
            self._journal.event("join_refused", slot=number, why=why)
            self._post(peer, "refused", {"text": why, "wait": wait})
            return
        slot = self.slots[int(body["slot"])]
        slot.reset()
        self._by_peer.pop(slot.peer, None)
        self._by_peer[peer] = slot
        slot.peer, slot.phase, slot.heard, slot.key = peer, "joined", time.monotonic(), body["key"]
        slot.facts = dict(body)
        self._journal.event("worker_joined", worker=slot.number, attempt=self.attempt, host=body["node"]["host"])
        if self.state is JobState.QUEUED:
            self._set_state(JobState.STARTING, "workers are joining")
        self._tell_of(slot, "joined")
        self._welcome(slot, "welcome")
        self._start_if_complete()

    def _tell_of(self, slot: Slot, kind: str, text: str = "") -> dict[str, Any]:
        event = {"kind": kind, "worker_id": slot.number, "attempt": self.attempt, "text": text}
        self.clients.tell("worker", event)
        return event

    def _welcome(self, slot: Slot, kind: str) -> None:
        body, blobs = welcome(self.facts, slot, self.attempt, self.package)
        self._post(slot.peer, kind, body, blobs)

    def _start_if_complete(self) -> None:
        if self._started or any(slot.phase != "joined" for slot in self.slots) or self._cause is not None:
            return
        self._started = True
        told = start(self.facts, self.slots, self.attempt, self.checkpoints.latest)
        for slot in self.slots:
            self._post(slot.peer, "start", {"start": told, "attempt": self.attempt})
        self._journal.event(
            "attempt_started", attempt=self.attempt, workers=len(self.slots), checkpoint=self.checkpoints.latest
        )
        self._set_state(JobState.RUNNING, "")
        self.clients.tell("attempt", {"attempt": self.attempt, "n_workers": len(self.slots)})

    # -- what workers say ----------------------------------------------------------------------------------------------

    def _on_beat(self, slot: Slot, message: Message) -> None:
        if slot.phase == "joined":  # an ended user process has no board any more; its last notes came with its end
            slot.note_steps(message.body["steps"])
            slot.beats += 1
        slot.waits_for, slot.memory = message.body["waits_for"], message.body["memory"]
        self._post(slot.peer, "ack", {})
        self._check_steps()

    def _check_steps(self) -> None:
        if self._started and self._cause is None:
            error = find_mismatch(self.slots, self.groups)
            if error is not None:
                self._abort(error)

    def _on_group(self, slot: Slot, message: Message) -> None:
        try:
            self.groups.add(message.body["number"], message.body["members"], self.slots, message.body.get("line", ""))
        except NetworkError as error:
            self._abort(error, by=slot.number)

    def _on_failed(self, slot: Slot, message: Message) -> None:
        if self.state.final:
            return  # it was told to end
        error = from_dict(message.body["error"])
        self._journal.event("worker_failed", worker=slot.number, attempt=self.attempt, error=error.to_dict())
        if self._cause is not None or isinstance(error, StepAbortedError):
            return
        error.details.setdefault("worker", slot.number)
        if type(error) is NetworkError:
            # most often the other end has returned, raised or died: what is heard of that says more
            until = time.monotonic() + 2 * self.facts.config.heartbeat_s
            self._suspicion = self._suspicion or (error, slot.number, until)
            self._check_steps()
        else:
            self._abort(error, by=slot.number)

    def _on_ended(self, slot: Slot, message: Message) -> None:
        body = message.body
        slot.phase, slot.returned, slot.tail = "ended", body["returned"], body["tail"]
        slot.note_steps(body["steps"])
        slot.last = {group: step for group, step in body["last"]}
        self._journal.event("worker_ended", worker=slot.number, attempt=self.attempt, code=body["code"])
        if body["returned"] and self._cause is None:
            self.results[slot.number] = message.blobs[0] if message.blobs else b""
        elif not body["failed"] and self._cause is None:
            self._tell_of(slot, "lost", f"its user process ended with code {body['code']}")
            self._abort(exited(slot, body["code"]), by=slot.number)
        self._check_steps()
        self._finish_attempt_if_over()

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _abort(self, cause: Twister2Error, by: int | None = None) -> None:
        """The attempt is over: the first cause wins, everybody raises."""
        if self._cause is not None or self.state.final:
            return
        self._cause = cause
        self._aborted_at = time.monotonic()
        self._journal.event("abort", attempt=self.attempt, error=cause.to_dict())
        error = abort_for_others(cause, by)
        grace_s = self.facts.config.kill_grace_s
        for slot in self.slots:
            if slot.phase == "joined":
                body = {"error": error.to_dict(), "grace_s": grace_s, "attempt": self.attempt}
                self._post(slot.peer, "abort", body)
        self._finish_attempt_if_over()

    def _abort_for(self, error: Twister2Error, by: int) -> None:
        """Nobody has a better explanation for a connection that broke."""
        self._abort(unreachable(error, self.slots[by], self.slots), by=by)

    def _lose(self, slot: Slot, why: str) -> None:
        if slot.phase in ("lost", "absent") or slot.gone:
            return
        slot.gone = True
        if slot.phase == "ended" and slot.returned:
            return
        slot.phase = "lost"
        self._journal.event("worker_lost", worker=slot.number, attempt=self.attempt, why=why)
        event = self._tell_of(slot, "lost", why)
        for other in self.slots:
            if other.phase == "joined":
                self._post(other.peer, "event", event)
        self._abort(lost(slot, why), by=slot.number)
        self._finish_attempt_if_over()

    def rm_status(self, status: JobStatus) -> None:
        """The resource manager's view; sees ended copies before their silence does."""
        if self.state.final or self.finished:
            return
        for number, text in status.slots.items():
            if text.startswith("exited") and number < len(self.slots):
                self._copy_exited(self.slots[number], text)
        if status.state.final and not self._started:
            self._fail_now(ended_before_joining(status))
        elif self.state is JobState.QUEUED and status.reason != self.reason:
            self._set_state(JobState.QUEUED, status.reason)

    def _copy_exited(self, slot: Slot, text: str) -> None:
        if slot.phase in ("joined", "ended"):
            # Of two copies of a slot one is refused and exits: who still beats has not ended.
            if time.monotonic() - slot.heard > 1.5 * self.facts.config.heartbeat_s:
                self._lose(slot, f"its supervisor {text}")
        elif slot.phase == "absent" and self._cause is None:
            slot.phase, slot.gone = "lost", True
            self._abort(never_joined(slot, text), by=slot.number)

    def tick(self) -> None:
        """Deadlines: silent supervisors, joins, exchanges, user processes that do not end after an abort."""
        now, config = time.monotonic(), self.facts.config
        self.relay.release()
        if self.state.final:
            return
        for slot in self.slots:
            if not slot.gone and slot.phase in ("joined", "ended") and now - slot.heard > config.lost_after_s:
                self._lose(slot, f"its supervisor was silent for {config.lost_after_s:g} s")
        if self._suspicion is not None and now > self._suspicion[2] and not self._someone_may_be_lost(now):
            self._abort_for(self._suspicion[0], self._suspicion[1])
        if self._started and self._cause is None:
            deadlock = self._deadlocks.look(self.slots, self.groups, now)
            if deadlock is not None:
                self._abort(deadlock)
        overdue = self._exchanges.overdue()
        if overdue is not None:
            self._abort(overdue)
        if not self._started and self._cause is None:
            self._check_join_deadline(now)
        if self._cause is not None and now - self._aborted_at > config.kill_grace_s + config.lost_after_s + 5.0:
            for slot in self.slots:
                if slot.phase == "joined":
                    self._lose(slot, "its user process did not end after the abort")
            self._finish_attempt_if_over()

    def _someone_may_be_lost(self, now: float) -> bool:
        """Whether a supervisor is silent: it beats again, or is lost soon, which is why others could not reach it."""
        limit = now - 1.5 * self.facts.config.heartbeat_s
        return any(slot.heard < limit and not slot.gone and slot.phase in ("joined", "ended") for slot in self.slots)

    def _check_join_deadline(self, now: float) -> None:
        config = self.facts.config
        limit = config.queue_deadline_s if self.state is JobState.QUEUED else config.start_deadline_s
        if self.state is JobState.QUEUED and self._someone_runs:
            limit = config.start_deadline_s
        if limit and now - self._waiting_since > limit:
            self._fail_now(not_joined(self.slots, limit, self.reason))

    def runs(self) -> None:
        """The resource manager has started the copies: the start deadline counts from now."""
        if not self._someone_runs:
            self._someone_runs, self._waiting_since = True, time.monotonic()

    # -- the end of an attempt -----------------------------------------------------------------------------------------

    def _finish_attempt_if_over(self) -> None:
        if self.state.final or any(slot.phase == "joined" for slot in self.slots):
            return
        if self._cause is None and self._suspicion is not None:
            self._abort_for(self._suspicion[0], self._suspicion[1])
            return
        if self._cause is None:
            if all(slot.phase == "ended" and slot.returned for slot in self.slots):
                self._cause = find_left_out(self.slots, self.groups)
                self._end(JobState.FAILED if self._cause else JobState.COMPLETED, self._cause)
            return
        fresh = self.facts.fresh_world
        lost_slots = [slot.number for slot in self.slots if fresh or slot.gone or slot.phase == "absent"]
        last = self.attempt >= self.facts.config.attempts
        if retryable(self._cause) and not last and self._manager.restarts(lost_slots):
            self._next_attempt(lost_slots)
        else:
            self._end(JobState.FAILED, with_attempts(self._cause, self.attempt, self.facts.config.attempts))

    def _next_attempt(self, lost_slots: list[int]) -> None:
        cause = self._cause
        self.attempt += 1
        self.join_key = new_key()
        self._cause, self._suspicion, self._started, self.results = None, None, False, {}
        self._exchanges.reset()
        self.groups = Groups()
        self._deadlocks.reset()
        self._waiting_since = time.monotonic()
        why = cause.what if cause else ""
        self._set_state(JobState.RESTARTING, f"attempt {self.attempt} of {self.facts.config.attempts}: {why}")
        self._manager.publish(self.ticket())
        for slot in self.slots:
            slot.reset()
            if slot.number in lost_slots:
                self._by_peer.pop(slot.peer, None)
                slot.phase = "absent"
            else:
                slot.phase, slot.heard = "joined", time.monotonic()
                self._welcome(slot, "next")
                self._tell_of(slot, "restarted")
        if lost_slots:
            self._manager.start_attempt(self.attempt, lost_slots)
        self._start_if_complete()

    def ticket(self) -> Ticket:
        return Ticket(self.facts.job_id, self.attempt, self.addresses, self.facts.master_public, self.join_key)

    def fail(self, error: Twister2Error) -> None:
        """The job cannot go on: something outside the workers failed."""
        if not self.state.final:
            self._abort(error)
            self._end(JobState.FAILED, self._cause)

    def _fail_now(self, error: Twister2Error) -> None:
        self._cause = self._cause or error
        self._end(JobState.FAILED, self._cause)

    def kill(self, reason: str) -> None:
        """Somebody wants the job to end."""
        if not self.state.final:
            error = JobKilledError("the job was killed", why=reason, remedy="submit it again when it is wanted")
            if self._cause is None:
                self._abort_for_kill(error)
            self._end(JobState.KILLED, error)

    def _abort_for_kill(self, error: Twister2Error) -> None:
        """Programs hear of it at once and get their grace; who does not want to wait ends the processes himself."""
        body = {"error": error.to_dict(), "grace_s": self.facts.config.kill_grace_s, "attempt": self.attempt}
        body["interrupt"] = True
        for slot in self.slots:
            if slot.phase == "joined":
                self._post(slot.peer, "abort", body)

    def _end(self, state: JobState, error: Twister2Error | None) -> None:
        self.error = error
        self._set_state(state, error.what if error else "")
        seconds = round(time.monotonic() - self.begun, 3)
        self._journal.event("job_ended", state=state.value, seconds=seconds, error=error.to_dict() if error else None)
        for slot in self.slots:
            if slot.phase in ("joined", "ended"):
                self._post(slot.peer, "end", {})

    @property
    def all_gone(self) -> bool:
        """Whether no supervisor is connected any more."""
        return all(slot.gone or slot.phase == "absent" for slot in self.slots)

    def announce_end(self) -> None:
        """Tell the clients: state, error, results. The last thing the master says, when all processes have ended."""
        self.finished = True
        self.checkpoints.remove_all()
        body = {
            "state": self.state.value,
            "error": self.error.to_dict() if self.error else None,
            "seconds": round(time.monotonic() - self.begun, 3),
            "attempts": self.attempt,
            "workers": sorted(self.results),
            "incomplete": self._journal.incomplete,
        }
        blobs = [self.results[worker] for worker in sorted(self.results)]
        self.clients.tell("ended", body, blobs)

    # -- clients -------------------------------------------------------------------------------------------------------

    def _on_attach(self, peer: bytes, message: Message) -> None:
        greeting = {
            "state": self.state.value,
            "reason": self.reason,
            "attempt": self.attempt,
            "wants_package": not self.package,
        }
        follow = bool(message.body.get("follow"))
        if not self.clients.attach(peer, message.body.get("client_key"), greeting, follow=follow):
            self._journal.event("client_refused")

    def _from_client(self, peer: bytes, message: Message) -> None:
        if message.kind == "push" and not self.package:
            self.package = message.blobs[0]
            waiting, self._before_package = self._before_package, []
            for worker, hello in waiting:
                self._on_hello(worker, hello)
            self._post(peer, "pushed", {})
        elif message.kind == "kill":
            self.kill(str(message.body.get("reason", "")))
        elif message.kind == "status":
            self._post(peer, "status", job_status(self))
        elif message.kind == "took":
            self.clients.took(peer, int(message.body["size"]))
            self.relay.release()
        elif message.kind == "detach":
            self.clients.detach(peer)

    def _set_state(self, state: JobState, reason: str) -> None:
        self.state, self.reason = state, reason
        self._journal.event("state", state=state.value, reason=reason)
        facts: dict[str, Any] = {
            "state": state.value,
            "reason": reason,
            "attempt": self.attempt,
            "updated": time.time(),
        }
        if state.final:
            facts.update(ended=time.time(), error=self.error.to_dict() if self.error else None)
        self._journal.state(**facts)
        self.clients.tell("state", {"state": state.value, "reason": reason})
