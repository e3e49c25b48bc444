"""A job master that its manager has started again, and what an earlier life of it has left with the manager.

It begins a new attempt from the latest commit: what the life before knew of steps, exchanges and results went with it.
The supervisors that still run are taken back: they see a ticket of a later life, end their user processes and say hello
as in the beginning. Slots whose supervisor does not come are started again. None of that counts as one of
``job.attempts``; the manager decides how often it starts a master.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.control.package import digest
from twister2.control.ticket import new_key
from twister2.master.slots import Slot
from twister2.spec.errors import JobFailedError, Twister2Error, from_dict
from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from twister2.control.messages import Message
    from twister2.master.job import Job

LONGEST_ERROR = 16 << 10
"""Bytes of an error that are kept; of a longer one only its sentences."""
LONGEST_REASON = 1000
"""Characters of a state's reason that are kept."""
GIVE_S = 10.0
"""How long one worker may take to hand over the package."""


@attrs.frozen
class Note:
    """What a life of the master leaves for the next one.

    :ivar master: which life it is, from 1. :ivar attempt: the latest one that was begun, :ivar lives: how many of them
        count as ``job.attempts``. :ivar begun: seconds since 1970. :ivar checkpoint: the latest commit that it knew of.
    :ivar slots: in the order of worker ids: first place, number of places that follow each other, name of the group.
    :ivar places: slots that the allocation was asked to have. :ivar ended: how the job ended, ``state`` and ``error``.
    :ivar state: what the job did, :ivar reason: and why, :ivar noted: at that time: for shells that cannot ask.
    """

    master: int
    attempt: int
    lives: int
    begun: float
    checkpoint: int
    slots: list[tuple[int, int, str]]
    places: int
    ended: dict[str, Any] | None = None
    state: str = JobState.QUEUED.value
    reason: str = ""
    noted: float = attrs.field(factory=time.time)

    @property
    def now(self) -> dict[str, Any]:
        """What the job does, as the state file has it; ``noted``: when that was."""
        n_workers = sum(count for _, count, _ in self.slots)
        return {
            "state": self.state,
            "reason": self.reason,
            "attempt": self.attempt,
            "n_workers": n_workers,
            "noted": self.noted,
        }

    def encode(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Note:
        """
        :raises JobFailedError: nobody can make sense of it.
        """
        try:
            values = json.loads(data)
            slots = [(int(first), int(count), str(group)) for first, count, group in values["slots"]]
            return cls(**{**values, "slots": slots})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JobFailedError(
                "the job master that was started again cannot read what it has left",
                why=f"{type(error).__name__}: {error}",
                remedy="submit the job again; all of one job must be of one version of Twister2",
            ) from error


class Returning:
    """The lives of one job's master.

    :ivar master: which life this is; 0 where the manager does not start masters again.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.master = 0
        self.begun = time.time()
        self._until = 0.0
        """Monotonic time until which supervisors of the life before are waited for; 0: no longer."""
        self._gone: set[int] = set()
        """Places whose copies have ended meanwhile."""
        self._old: Note | None = None
        """Of the life before, as long as the latest commit is not known."""
        self._looks = False
        self._asked: tuple[bytes, float] | None = None
        self._tried: set[bytes] = set()
        self._over = False

    # -- notes ---------------------------------------------------------------------------------------------------------

    def note(self) -> Note:
        """What a later life needs to know now."""
        job = self._job
        ended = None
        if job.state.final:
            error = job.error.to_dict() if job.error else None
            if error and len(json.dumps(error)) > LONGEST_ERROR:
                cut = {name: str(error.get(name, ""))[: LONGEST_ERROR // 16] for name in ("what", "why", "remedy")}
                error = {**error, **cut, "details": {}}
            ended = {"state": job.state.value, "error": error}
        return Note(
            self.master,
            job.attempt,
            job.lives,
            self.begun,
            max(job.checkpoints.latest, self._old.checkpoint if self._old else 0),
            _runs(job.slots),
            job.scaling.places,
            ended,
            job.state.value,
            job.reason[:LONGEST_REASON],
        )

    # -- a new life ----------------------------------------------------------------------------------------------------

    def begin(self, data: bytes | None) -> bool:
        """Go on from what the life before has left; False when the job had ended by then.

        :param data: its note; None: this is the first life.
        :raises JobFailedError: it makes no sense.
        """
        note = None if data is None else Note.decode(data)
        self.master = 1 if note is None else note.master + 1
        if note is None:
            return True
        job = self._job
        self.begun = note.begun
        job.begun = time.monotonic() - max(0.0, time.time() - note.begun)
        job.attempt, job.lives, job.join_key = note.attempt + 1, note.lives, new_key()
        groups = {group.name: group for group in job.facts.groups}
        try:
            found = [
                (place, groups[name]) for first, count, name in note.slots for place in range(first, first + count)
            ]
        except KeyError as error:
            raise JobFailedError(
                "the job master that was started again cannot read what it has left",
                why=f"it names a group {error} that the job has not",
                remedy="submit the job again",
            ) from error
        job.slots[:] = [Slot(number, place=place, resources=group) for number, (place, group) in enumerate(found)]
        self._old = note
        if note.ended is not None:
            self._over = True
            job.checkpoints.begun = True
            told = note.ended["error"]
            job.error = from_dict(told) if told else None
            job.set_state(JobState(note.ended["state"]), job.error.what if job.error else "")
            return False
        self._until = time.monotonic() + job.facts.config.master_return_s
        self._gone = {slot.place for slot in job.slots} if job.facts.fresh_world else set()
        job.journal.event("master_returned", master=self.master, attempt=job.attempt)
        job.wait_for_workers(f"attempt {job.attempt}: the job master was started again, and takes its workers back")
        return True

    def published(self) -> None:
        """The workers can find this life now: what was asked for and is not needed is given back."""
        if self._old is not None:
            self._job.scaling.restored(self._old.places)

    @property
    def was_over(self) -> bool:
        """Whether the job had ended before this life began: nothing is left but to say so."""
        return self._over

    # -- taking back ---------------------------------------------------------------------------------------------------

    def ended(self, slot: Slot) -> bool:
        """A copy that has not come back has ended: whether that is no surprise."""
        if self._until:
            self._gone.add(slot.place)
        return bool(self._until)

    def tick(self, now: float) -> None:
        """Start again what does not come back."""
        job = self._job
        if self._asked is not None and now > self._asked[1]:
            self._ask_next()
        if not self._until:
            return
        absent = [slot.place for slot in job.slots if slot.phase == "absent"]
        if not job.package and now > self._until:
            self._until = 0.0
            job.fail(_no_package())
        elif not absent:
            self._until = 0.0
        elif again := absent if now > self._until else [place for place in absent if place in self._gone]:
            if len(again) == len(absent) and (job.package or job.facts.expects_client):
                self._until = 0.0  # else there may be nobody who has the package: that is told then
            self._gone.clear()
            self._start(again)

    def _start(self, places: list[int]) -> None:
        job = self._job
        if job.manager.restarts(places):
            job.manager.start_attempt(job.attempt, places)
        else:
            job.fail(
                JobFailedError(
                    "workers were lost while there was no job master",
                    why=f"slots {', '.join(map(str, places))} did not come back to the one that was started again",
                    remedy="submit the job again",
                )
            )

    # -- the package ---------------------------------------------------------------------------------------------------

    def wants_package(self) -> None:
        """Workers that have joined before may have the package, which a life before had from the client."""
        if self._asked is None:
            self._ask_next()

    def _ask_next(self) -> None:
        """Ask the next worker that says that it has it."""
        self._asked = None
        job = self._job
        if job.package or not job.facts.package:
            return
        for peer, hello in job.before_package:
            if hello.body.get("package") == job.facts.package and peer not in self._tried:
                self._tried.add(peer)
                self._asked = peer, time.monotonic() + GIVE_S
                job.post(peer, "give", {})
                return

    def given(self, peer: bytes, message: Message) -> None:
        """A worker hands over the package, or says that it cannot."""
        job = self._job
        if self._asked is None or self._asked[0] != peer:
            return
        if not job.package and message.blobs and digest(message.blobs[0]) == job.facts.package:
            self._asked = None
            job.take_package(message.blobs[0])
        else:
            self._ask_next()

    # -- the latest commit ---------------------------------------------------------------------------------------------

    def knows_commit(self) -> bool:
        """Whether it is known where the attempt begins. The store is looked at when all have come: until then a worker
        of the life before might still write the last of a commit.
        """
        if self._old is None:
            return True
        if not self._looks:
            self._looks = True
            self._job.checkpoints.find_latest(self._found)
        return False

    def _found(self, error: Twister2Error | None) -> None:
        job, old = self._job, self._old
        self._old, self._looks = None, False
        if error is not None:
            job.fail(error)
            return
        latest = job.checkpoints.latest
        if old is not None and latest < old.checkpoint:
            at = f"commit {latest}" if latest else "the start"
            job.relay.warn(
                f"warning: commit {old.checkpoint} has gone with the job master that wrote it; "
                f"the job goes on from {at} (a store that outlives it keeps them: job.state)\n"
            )
        job.start_if_complete()


def _runs(slots: list[Slot]) -> list[tuple[int, int, str]]:
    """Slots whose places follow each other, of one group, together."""
    runs: list[tuple[int, int, str]] = []
    for slot in slots:
        first, count, group = runs[-1] if runs else (0, 0, "")
        if count and (slot.place, slot.group) == (first + count, group):
            runs[-1] = (first, count + 1, group)
        else:
            runs.append((slot.place, 1, slot.group))
    return runs


def _no_package() -> JobFailedError:
    return JobFailedError(
        "the job master that was started again has no package for the workers",
        why="the client that had pushed it has gone, and no worker that has it came back",
        remedy="submit the job again",
    )
