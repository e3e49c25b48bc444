"""The state machine of a job: takes messages and ticks, posts messages. Knows nothing of sockets or processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twister2.control.ticket import Ticket, new_key
from twister2.master.causes import (
    abort_for_others,
    copy_ended,
    ended_before_joining,
    exited,
    explained,
    lost,
    never_joined,
    retryable,
    told_where,
    with_attempts,
)
from twister2.master.checkpoints import Checkpoints
from twister2.master.clients import Clients, Post
from twister2.master.deadlocks import Deadlocks
from twister2.master.exchanges import Exchanges
from twister2.master.joining import hello, start, welcome
from twister2.master.relay import Relay
from twister2.master.requests import attach, request
from twister2.master.returning import Returning
from twister2.master.scaling import Scaling
from twister2.master.slots import Slot, may_be_lost, slots_of
from twister2.master.status import job_end, job_state
from twister2.master.steps import Groups, find_left_out, find_mismatch, standing, unreachable
from twister2.master.waiting import Waiting
from twister2.master.whereabouts import Whereabouts
from twister2.spec.errors import JobKilledError, NetworkError, StepAbortedError, Twister2Error, from_dict
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
LEAVES_S = 4.0
"""How long the resource manager may take to say why a copy has gone that said goodbye unasked."""
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
        self.facts, self.post, self.manager, self.journal = facts, post, manager, journal
        self.state = JobState.QUEUED
        self.reason = ""
        self.attempt = self.lives = 1
        self.join_key = join_key
        self.addresses: tuple[str, ...] = ()
        self.package = b""
        self.slots = slots_of(facts.groups)
        self.scaling = Scaling(self, facts.groups)
        self.results: dict[int, bytes] = {}
        self.error: Twister2Error | None = None
        self.finished = False
        self.by_peer: dict[bytes, Slot] = {}
        self.clients = Clients(facts.client_key, post, expected=facts.expects_client)
        self._exchanges = exchanges = Exchanges(self.slots, post)
        self.groups = Groups()
        self._deadlocks = Deadlocks(facts.config.heartbeat_s, facts.config.lost_after_s)
        self._cause: Twister2Error | None = None
        self._started = False
        self.begun = time.monotonic()
        self.waiting = Waiting(facts.config)
        self._aborted_at = 0.0
        self.before_package: list[tuple[bytes, Message]] = []
        self._suspicion: tuple[Twister2Error, int, float] | None = None
        """A broken connection, by whom, and until when a better explanation is waited for."""
        self.relay = relay = Relay(post, self.clients, journal)
        self.checkpoints = checkpoints = Checkpoints(facts, post, self.clients, journal, store, calls)
        self.returning = Returning(self)
        asked = {"whereabouts": Whereabouts(self.slots, lambda: self.groups, post).asked}
        self._handlers: dict[str, Callable[[Slot, Message], None]] = {
            "beat": self._on_beat,
            "output": relay.output,
            "log": relay.log,
            "progress": relay.progress,
            "exchange": exchanges.exchange,
            "request": lambda slot, message: asked.get(message.body["kind"], checkpoints.request)(slot, message),
            "committed": self._on_committed,
            "committing": checkpoints.committing,
            "group": self._on_group,
            "failed": self._on_failed,
            "ended": self._on_ended,
            "fence": exchanges.fence,
        }

    # -- messages ------------------------------------------------------------------------------------------------------

    def receive(self, peer: bytes, message: Message) -> None:
        """Take a message. What a peer may say depends on how it proved itself."""
        slot = self.by_peer.get(peer)
        if message.kind == "knock":
            self.post(peer, "open", {})
        elif message.kind == "hello":
            hello(self, peer, message)
        elif message.kind == "given":
            self.returning.given(peer, message)
        elif message.kind == "attach":
            if not attach(self, peer, message):
                self.journal.event("client_refused")
        elif slot is not None:
            self._from_worker(slot, message)
        elif peer in self.clients:
            request(self, peer, message)
        elif message.kind != "bye":
            wait = self.returning.master > 1  # it may be one of an earlier life, and looks for the ticket of this one
            self.post(peer, "refused", {"text": "this copy was given up as lost", "wait": wait})

    def _from_worker(self, slot: Slot, message: Message) -> None:
        if slot.gone and slot.phase == "lost" and not self.state.final:
            self.post(slot.peer, "refused", {"text": f"slot {slot.number} was given up as lost", "wait": False})
            return
        slot.heard = time.monotonic()
        if slot.phase == "standby":
            if message.kind == "bye":
                self.scaling.say_bye(slot, str(message.body.get("why") or "its supervisor said goodbye"))
            self.post(slot.peer, "ack", {})
        elif message.kind == "package":
            offset = int(message.body["offset"])
            self.post(slot.peer, "chunk", {}, [self.package[offset : offset + CHUNK]])
        elif message.kind == "bye":
            # One that failed because of another says more than its end; the other is still to be heard.
            if not self.state.final and not (slot.phase == "ended" and self._suspicion):
                why = str(message.body.get("why") or "")
                if self.facts.elsewhere and not why:  # evicted, say: its manager knows more
                    slot.leaves = time.monotonic() + LEAVES_S
                    self.manager.look()
                    return
                self._lose(slot, why or "its supervisor said goodbye")
            slot.gone = True
        elif message.body.get("attempt") == self.attempt and message.kind in self._handlers:
            try:
                self._handlers[message.kind](slot, message)
            except MALFORMED as error:
                self._lose(
                    slot, f"it sent a message {message.kind!r} that makes no sense ({type(error).__name__}: {error})"
                )

    # -- joining -------------------------------------------------------------------------------------------------------

    def tell_of(self, slot: Slot, kind: str, text: str = "") -> dict[str, Any]:
        """Tell the clients what has become of a worker; returns it, for the other workers."""
        event = {"kind": kind, "worker_id": slot.number, "attempt": self.attempt, "text": text}
        self.clients.tell("worker", event)
        return event

    def start_if_complete(self) -> None:
        """Start the attempt when all are there."""
        if self._started or any(slot.phase != "joined" for slot in self.slots) or self._cause is not None:
            return
        if not self.returning.knows_commit():
            return
        self._started = True
        told = start(self.facts, self.slots, self.attempt, self.checkpoints.latest)
        for slot in self.slots:
            self.post(slot.peer, "start", {"attempt": self.attempt}, [told])
        self.journal.event(
            "attempt_started", attempt=self.attempt, workers=len(self.slots), checkpoint=self.checkpoints.latest
        )
        self.set_state(JobState.RUNNING, "")
        self.clients.tell("attempt", {"attempt": self.attempt, "n_workers": len(self.slots)})

    # -- what workers say ----------------------------------------------------------------------------------------------

    def _on_beat(self, slot: Slot, message: Message) -> None:
        if slot.phase == "joined":  # an ended user process has no board any more; its last notes came with its end
            slot.note_steps(message.body["steps"])
            slot.beats += 1
        slot.waits_for, slot.memory = message.body["waits_for"], message.body["memory"]
        slot.ways = message.body.get("ways", "")
        self.post(slot.peer, "ack", {})
        self._check_steps()

    def _on_committed(self, slot: Slot, message: Message) -> None:
        self.checkpoints.committed(slot, message)
        self.scaling.committed()

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
        self.journal.event("worker_failed", worker=slot.number, attempt=self.attempt, error=error.to_dict())
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
        self.journal.event("worker_ended", worker=slot.number, attempt=self.attempt, code=body["code"])
        if body["returned"] and self._cause is None:
            self.results[slot.number] = message.blobs[0] if message.blobs else b""
        elif not body["failed"] and (self._cause is None or not (body["returned"] or body.get("aborted"))):
            self.tell_of(slot, "lost", f"its user process ended with code {body['code']}")
            self._abort(exited(slot, body["code"], body.get("memory_limit_mb")), by=slot.number)
        self._check_steps()
        self._finish_attempt_if_over()

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _abort(self, cause: Twister2Error, by: int | None = None) -> None:
        """The attempt is over: the first cause wins, but for one that another explains; everybody raises."""
        if self._cause is not None or self.state.final:
            if self._cause is not None and not self.state.final:
                self._cause = explained(self._cause, cause)
            return
        if by is not None:
            told_where(cause, standing(self.slots, self.groups, by))
        self._cause = cause
        self._aborted_at = time.monotonic()
        self.journal.event("abort", attempt=self.attempt, error=cause.to_dict())
        error = abort_for_others(cause, by)
        grace_s = self.facts.config.kill_grace_s
        for slot in self.slots:
            if slot.phase == "joined":
                body = {"error": error.to_dict(), "grace_s": grace_s, "attempt": self.attempt}
                self.post(slot.peer, "abort", body)
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
        self.journal.event("worker_lost", worker=slot.number, attempt=self.attempt, why=why)
        event = self.tell_of(slot, "lost", why)
        for other in self.slots:
            if other.phase == "joined":
                self.post(other.peer, "event", event)
        if self._cause is None or slot.heard <= self._aborted_at:  # else it has gone since
            self._abort(lost(slot, why), by=slot.number)
        self._finish_attempt_if_over()

    def rm_status(self, status: JobStatus) -> None:
        """The resource manager's view; sees ended copies before their silence does."""
        if self.state.final or self.finished:
            return
        attempt = self.attempt
        for slot in self.slots:
            how = copy_ended(status.slots.get(slot.place, ""), leaves=bool(slot.leaves))
            if how and self.attempt == attempt:  # what is said is not of the next one
                self._copy_exited(slot, how)
        self.scaling.status(status)
        if self.attempt != attempt or self._started or self.state.final:
            return  # it is older than the attempt, or a copy's end was
        if self.waiting.ended(status):
            self._fail_now(ended_before_joining(status))
        else:
            self._tell_waiting(self.waiting.heard(status, self.slots))

    def rm_troubled(self, text: str) -> None:
        """The resource manager cannot be asked, or not now: who waits for workers is told so."""
        if not (self._started or self.state.final):
            self._tell_waiting(self.waiting.troubled(text))

    def _tell_waiting(self, reason: str) -> None:
        if reason != self.reason:
            self.set_state(self.state, reason)

    def _copy_exited(self, slot: Slot, text: str) -> None:
        if slot.phase in ("joined", "ended"):
            # Of two copies of a slot one is refused and exits: who still beats has not ended.
            if slot.leaves or time.monotonic() - slot.heard > 1.5 * self.facts.config.heartbeat_s:
                self._lose(slot, f"its supervisor {text}")
        elif slot.phase == "absent" and self._cause is None and not self.returning.ended(slot):
            slot.phase, slot.gone = "lost", True
            self._abort(never_joined(slot, text), by=slot.number)

    def tick(self) -> None:
        """Deadlines: silent supervisors, joins, exchanges, user processes that do not end after an abort."""
        now, config = time.monotonic(), self.facts.config
        self.relay.release()
        if self.state.final:
            return
        self._lose_silent(now, config.lost_after_s)
        suspicion, silent_s = self._suspicion, 1.5 * config.heartbeat_s
        if suspicion is not None and now > suspicion[2] and not may_be_lost(self.slots, silent_s, now):
            self._abort_for(*suspicion[:2])
        if self._started and self._cause is None:
            deadlock = self._deadlocks.look(self.slots, self.groups, now)
            if deadlock is not None:
                self._abort(deadlock)
        self.scaling.tick(now)
        self.returning.tick(now)
        overdue = self._exchanges.overdue() if self._cause is None else None
        if overdue is not None:
            self._abort(overdue)
        if not self._started and self._cause is None and (error := self.waiting.overdue(self.slots, now)):
            self._fail_now(error)
        if self._cause is not None and now - self._aborted_at > config.kill_grace_s + config.lost_after_s + 5.0:
            for slot in self.slots:
                if slot.phase == "joined":
                    self._lose(slot, "its user process did not end after the abort")
            self._finish_attempt_if_over()

    def _lose_silent(self, now: float, lost_after_s: float) -> None:
        for slot in self.slots:
            if not slot.gone and slot.phase in ("joined", "ended") and now - slot.heard > lost_after_s:
                self._lose(slot, f"its supervisor was silent for {lost_after_s:g} s")
            elif slot.leaves and now > slot.leaves:
                self._lose(slot, "its supervisor said goodbye")

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
        change = self.scaling.apply()
        fresh = self.facts.fresh_world
        lost_slots = [slot for slot in self.slots if fresh or slot.gone or slot.phase == "absent"]
        last = not change and self.lives >= self.facts.config.attempts
        goes_on = change or retryable(self._cause)
        if goes_on and not last and self.manager.restarts([slot.place for slot in lost_slots]):
            self._next_attempt(lost_slots, change)
        else:
            self._end(JobState.FAILED, with_attempts(self._cause, self.lives, self.facts.config.attempts))

    def _next_attempt(self, lost_slots: list[Slot], change: str) -> None:
        """
        :param change: why it is begun on purpose, else empty.
        """
        cause = self._cause
        self.attempt += 1
        self.lives += not change
        self.join_key = new_key()
        self._cause, self._suspicion, self._started, self.results = None, None, False, {}
        self.groups = Groups()
        self._deadlocks.reset()
        why = f"{self.lives} of {self.facts.config.attempts}: {cause.what if cause else ''}"
        self.wait_for_workers(f"attempt {f'{self.attempt}: {change}' if change else why}")
        self.manager.publish(self.ticket())
        for slot in self.slots:
            slot.reset()
            if slot in lost_slots:
                self.by_peer.pop(slot.peer, None)
                slot.phase = "absent"
            else:
                slot.phase, slot.heard = "joined", time.monotonic()
                welcome(self, slot, "next")
                self.tell_of(slot, "scaled" if change else "restarted", change)
        if lost_slots:
            self.manager.start_attempt(self.attempt, [slot.place for slot in lost_slots])
        self.start_if_complete()

    @property
    def aborting(self) -> bool:
        """Whether the attempt is being ended."""
        return self._cause is not None

    def end_attempt_for(self, cause: Twister2Error) -> None:
        """End the attempt, so that the next one begins."""
        self._abort(cause)

    def forget(self, slot: Slot) -> None:
        """What the copy of a slot says from here on is not heard."""
        self.by_peer.pop(slot.peer, None)

    def ticket(self) -> Ticket:
        facts, master = self.facts, self.returning.master
        return Ticket(facts.job_id, self.attempt, self.addresses, facts.master_public, self.join_key, master)

    def fail(self, error: Twister2Error) -> None:
        """The job cannot go on: something outside the workers failed."""
        if not self.state.final:
            self._abort(error)
        if not self.state.final:  # which an attempt without workers ends by itself
            self._end(JobState.FAILED, self._cause or error)

    def _fail_now(self, error: Twister2Error) -> None:
        self._cause = self._cause or error
        self._end(JobState.FAILED, self._cause)

    def kill(self, reason: str) -> None:
        """Somebody wants the job to end."""
        if not self.state.final:
            error = JobKilledError("the job was killed", why=reason, remedy="submit it again when it is wanted")
            self._abort_for_kill(error)
            self._end(JobState.KILLED, error)

    def _abort_for_kill(self, error: Twister2Error) -> None:
        """Programs hear of it at once and get their grace; who does not want to wait ends the processes himself."""
        grace_s = self.facts.config.kill_grace_s
        body = {"error": error.to_dict(), "grace_s": grace_s, "attempt": self.attempt, "interrupt": True}
        for slot in self.slots:
            if self._cause is None and slot.phase == "joined":
                self.post(slot.peer, "abort", body)

    def _end(self, state: JobState, error: Twister2Error | None) -> None:
        state, self.error = self.journal.end(state, error)  # another's, if that was written down before
        self.set_state(state, self.error.what if self.error else "")
        seconds, told = round(time.monotonic() - self.begun, 3), job_end(self)["error"]
        self.journal.event("job_ended", state=state.value, seconds=seconds, error=told)
        if not self.returning.master:
            self.dismiss()

    def dismiss(self) -> None:
        """Let the workers go; where a master is started again, once its manager knows that the job has ended."""
        for slot in self.slots:
            if slot.phase in ("joined", "ended"):
                self.post(slot.peer, "end", {})
        self.scaling.job_ended()

    def wait_for_workers(self, why: str) -> None:
        """The workers of the attempt are to join, from now on."""
        self._exchanges.reset()
        self.waiting.anew(why)
        self.set_state(JobState.RESTARTING, why)

    @property
    def all_gone(self) -> bool:
        """Whether no supervisor is connected any more."""
        return all(slot.gone or slot.phase == "absent" for slot in self.slots)

    def announce_end(self) -> None:
        """Tell the clients: state, error, results. The last thing the master says, when all processes have ended."""
        self.finished = True
        self.checkpoints.remove_all()
        body = {**job_end(self), "incomplete": self.journal.incomplete}
        blobs = [self.results[worker] for worker in sorted(self.results)]
        self.clients.tell("ended", body, blobs)

    # -- clients -------------------------------------------------------------------------------------------------------

    def take_package(self, package: bytes) -> None:
        """What the workers run has come; those that asked for it before are let in."""
        self.package = package
        waiting, self.before_package = self.before_package, []
        for worker, said in waiting:
            hello(self, worker, said)

    def set_state(self, state: JobState, reason: str) -> None:
        """Write down and tell what the job does now."""
        self.state, self.reason = state, reason
        self.journal.event("state", state=state.value, reason=reason)
        facts = job_state(self)
        self.journal.state(**facts)
        self.clients.tell("state", {name: facts[name] for name in ("state", "reason", "error") if name in facts})
