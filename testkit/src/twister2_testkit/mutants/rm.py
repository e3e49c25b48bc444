"""Resource managers with one fault each; :class:`twister2_testkit.rm.ResourceManagerSuite` must reject every one.

All vary the manager of :mod:`twister2_testkit.hostile` at its friendliest, which the suite accepts.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from twister2.spec.errors import JobNotFoundError, ResourceError
from twister2.spec.rm import Allocation, JobHandle, JobState, JobStatus, LogChunk, ResourceManager, RmContext
from twister2_testkit.hostile.cluster import MARKER, JobObjects
from twister2_testkit.hostile.manager import HostileManager
from twister2_testkit.hostile.plugin import HostileConfig, HostilePlugin
from twister2_testkit.processes import carrying
from twister2_testkit.rm import ResourceManagerSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Sound(HostileManager):
    """A manager without a fault."""

    twice = 0
    restarts = 0

    def __init__(self, state_dir: Path) -> None:
        config = HostileConfig(late_s=0.05, twice=self.twice, secret_late_s=0.05, master_restarts=self.restarts)
        super().__init__(config, RmContext(str(state_dir), call_timeout_s=10.0))


class ForgetsASlot(Sound):
    """Starts one copy less."""

    def _start_node(self, objects: JobObjects, slots: Sequence[int], first: str) -> None:
        super()._start_node(objects, slots[:-1], first)


class StartsASlotTwice(Sound):
    """Starts one copy more, with the slot of another."""

    twice = 1


class TellsCopiesApart(Sound):
    """Gives the copies environments that differ in more than the slot: one sees an old one."""

    def _start_node(self, objects: JobObjects, slots: Sequence[int], first: str) -> None:
        super()._start_node(objects, slots[:1], first)
        deadline = time.monotonic() + 5
        while not (objects.read("status.json") or {"slots": {}})["slots"] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        spec = objects.read("spec.json")
        spec["environment"]["KIT_LATE"] = "1"
        objects.write("spec.json", json.dumps(spec).encode())
        super()._start_node(objects, slots[1:], "again")


class DropsEmptyVariables(Sound):
    """Takes an empty variable for none."""

    def _environment(self, allocation: Allocation) -> dict[str, str]:
        return {key: value for key, value in super()._environment(allocation).items() if value}


class TicketInTheEnvironment(Sound):
    """Hands the ticket out as a variable, for all to see."""

    def _environment(self, allocation: Allocation) -> dict[str, str]:
        return {**super()._environment(allocation), "TICKET": allocation.ticket.decode()}


class TicketInTheDryRun(Sound):
    """Renders the secret."""

    def render(self, allocation: Allocation) -> str:
        return f"{super().render(allocation)}ticket: {allocation.ticket.decode()}\n"


class WritesTicketsInPieces(Sound):
    """Replaces the ticket where it lies, but not as a whole."""

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        with open(self._known(handle).path / "ticket", "wb", buffering=0) as file:
            file.write(ticket[: len(ticket) // 2])
            time.sleep(0.06)
            file.write(ticket[len(ticket) // 2 :])


class IgnoresKill(Sound):
    """Says yes and does nothing."""

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        self.state(handle)


class KillsOnlyItsOwnChildren(Sound):
    """Ends node and copies; what the copies started lives on."""

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        for pid in carrying(f"{MARKER}={handle.job_id}"):
            try:
                if os.getsid(pid) == pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.state(handle)


class KillsAtOnce(Sound):
    """Gives no grace."""

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        super().kill(handle, 0.0)


class AsksOnly(Sound):
    """Asks the copies to end and does not insist."""

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        for pid in carrying(f"{MARKER}={handle.job_id}"):
            os.kill(pid, signal.SIGTERM)
        time.sleep(grace_s)


class KillsOnlyWhatItStarted(Sound):
    """Works only in the process that submitted the job."""

    _mine: tuple[str, ...] = ()

    def submit(self, allocation: Allocation) -> JobHandle:
        handle = super().submit(allocation)
        self._mine = (*self._mine, handle.job_id)
        return handle

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        if handle.job_id in self._mine:
            super().kill(handle, grace_s)


class KillsTheNeighbours(Sound):
    """Ends all jobs of the user."""

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        for path in Path(self._cluster).iterdir():
            super().kill(attrs.evolve(handle, job_id=path.name), grace_s)


class RaisesForUnknownJobs(Sound):
    """Takes a job that is gone for a mistake."""

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        if not self._objects(handle.job_id).exists:
            raise JobNotFoundError("no such job", why="it is gone", remedy="none")
        super().kill(handle, grace_s)


class StuckRunning(Sound):
    """Never sees the end of a job."""

    def state(self, handle: JobHandle) -> JobStatus:
        status = super().state(handle)
        return attrs.evolve(status, state=JobState.RUNNING) if status.state.final else status


class GoesBackInTime(Sound):
    """Shows a job that runs as queued now and then."""

    _asked = 0

    def state(self, handle: JobHandle) -> JobStatus:
        status = super().state(handle)
        self._asked += 1
        odd = self._asked % 5 == 0 and status.state is JobState.RUNNING
        return attrs.evolve(status, state=JobState.QUEUED) if odd else status


class LosesExitCodes(Sound):
    """Knows that copies have ended, but not how."""

    def state(self, handle: JobHandle) -> JobStatus:
        status = super().state(handle)
        return attrs.evolve(status, slots=dict.fromkeys(status.slots, "exited 0"))


class StartsNothingAgain(Sound):
    """Takes the order for another life of a slot and forgets it."""

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        self.state(handle)


class StopsAllSlots(Sound):
    """Ends the whole attempt when asked for one slot."""

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        super().stop_attempt(handle, range(ResourceManagerSuite.n_workers), grace_s)


class CleansNothing(Sound):
    """Says that everything is removed."""

    def clean(self, handle: JobHandle) -> list[str]:
        self.state(handle)
        return []


class CutsLogs(Sound):
    """Gives the first page of what a copy wrote."""

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        room: dict[int, int] = {}
        for chunk in super().logs(handle, slot=slot, follow=follow):
            left = room.get(chunk.slot, 4096)
            room[chunk.slot] = max(0, left - len(chunk.text))
            yield attrs.evolve(chunk, text=chunk.text[:left])


class DropsUnfinishedLines(Sound):
    """Gives whole lines of what copies wrote, also at the end."""

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        for chunk in super().logs(handle, slot=slot, follow=follow):
            whole, newline, _ = chunk.text.rpartition("\n")
            yield attrs.evolve(chunk, text=whole + newline)


class FindsNothing(Sound):
    """Knows a job only by its handle."""

    def find(self, job_id: str) -> JobHandle | None:
        return None


class TakesJobsItCannotHold(Sound):
    """Ignores what it does not provide."""

    def submit(self, allocation: Allocation) -> JobHandle:
        return super().submit(attrs.evolve(allocation, world=None))


class WaitsForTheEnd(Sound):
    """Submits like a shell: returns when the job is over."""

    def submit(self, allocation: Allocation) -> JobHandle:
        handle = super().submit(allocation)
        deadline = time.monotonic() + 2.0
        while not self.state(handle).state.final:
            if time.monotonic() > deadline:
                raise ResourceError("too slow", why="it waits for the job", remedy="none")
            time.sleep(0.01)
        return handle


class EndsWithItsObject(Sound):
    """Takes the jobs down when the backend object is closed."""

    _job: JobHandle | None = None

    def submit(self, allocation: Allocation) -> JobHandle:
        self._job = super().submit(allocation)
        return self._job

    def close(self) -> None:
        if self._job is not None:
            self.kill(self._job, 0.0)


class LetsMastersLie(Sound):
    """Offers to start masters again, and does not."""

    restarts = 2

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._config = attrs.evolve(self._config, master_restarts=0)


class ForgetsNotes(Sound):
    """Keeps no notes of masters."""

    restarts = 2

    def remembered(self, handle: JobHandle) -> bytes | None:
        return None


class ForgetsHowJobsEnd(Sound):
    """Takes a job whose master has ended in order for one that has completed."""

    restarts = 2

    def remember(self, handle: JobHandle, note: bytes, ended: JobState | None = None) -> None:
        super().remember(handle, note)


RETURNS = "test_a_master_that_dies_is_started_again_until_the_job_has_ended"
MUTANTS: dict[type[Sound], str] = {
    ForgetsASlot: "test_copies_have_every_slot_once_and_else_one_environment",
    StartsASlotTwice: "test_copies_have_every_slot_once_and_else_one_environment",
    TellsCopiesApart: "test_copies_have_every_slot_once_and_else_one_environment",
    DropsEmptyVariables: "test_copies_have_every_slot_once_and_else_one_environment",
    TicketInTheEnvironment: "test_the_ticket_is_in_no_environment_and_no_command_line",
    TicketInTheDryRun: "test_render_tells_the_command_and_no_secret",
    WritesTicketsInPieces: "test_publish_replaces_the_ticket_as_a_whole",
    IgnoresKill: "test_kill_ends_children_and_daemons",
    KillsOnlyItsOwnChildren: "test_kill_ends_children_and_daemons",
    KillsAtOnce: "test_kill_ends_what_ignores_term",
    AsksOnly: "test_kill_ends_what_ignores_term",
    KillsOnlyWhatItStarted: "test_kill_from_another_process_and_again",
    KillsTheNeighbours: "test_two_jobs_do_not_see_each_other",
    RaisesForUnknownJobs: "test_an_unknown_job_is_no_error",
    StuckRunning: "test_states_up_to_completed",
    GoesBackInTime: "test_states_up_to_completed",
    LosesExitCodes: "test_exit_codes_show_per_slot",
    StartsNothingAgain: "test_single_slots_stop_and_start_again",
    StopsAllSlots: "test_single_slots_stop_and_start_again",
    CleansNothing: "test_clean_leaves_nothing_and_may_be_called_again",
    CutsLogs: "test_logs",
    DropsUnfinishedLines: "test_logs",
    FindsNothing: "test_find",
    TakesJobsItCannotHold: "test_a_world_that_is_not_offered_is_refused",
    WaitsForTheEnd: "test_submit_returns_before_the_copies_end",
    EndsWithItsObject: "test_closing_leaves_the_job_alone",
    LetsMastersLie: RETURNS,
    ForgetsNotes: RETURNS,
    ForgetsHowJobsEnd: RETURNS,
}
"""Every mutant, and the test of the suite that must reject it."""


def suite_of(make: Callable[[Path], ResourceManager]) -> type[ResourceManagerSuite]:
    """The suite as a plugin's author would write it; what the manager leaves is ended by a sound one."""

    class MutantSuite(ResourceManagerSuite):
        slot_source = HostilePlugin.slot_source
        timeout_s = 5.0

        def make_backend(self, state_dir: Path) -> ResourceManager:
            return make(state_dir)

        @pytest.fixture
        def jobs(self, state_dir: Path) -> Iterator[list[JobHandle]]:
            handles: list[JobHandle] = []
            yield handles
            sound = Sound(state_dir)
            names = [path.name for path in Path(sound._cluster).glob("*")]
            for job_id in {*names, *(handle.job_id for handle in handles)}:
                handle = JobHandle("hostile", job_id, "", {})
                sound.kill(handle, 0.1)
                sound.clean(handle)
            sound.close()

    return MutantSuite
