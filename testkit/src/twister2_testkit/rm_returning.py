"""Conformance of resource managers that start a job master again (``restarts_master``)."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from twister2.spec.errors import CapabilityError
from twister2.spec.rm import JobHandle, JobState, ResourceGroup, ResourceManager
from twister2_testkit.capabilities import SKIP_PREFIX
from twister2_testkit.processes import ended
from twister2_testkit.rm_harness import REPORT, STAND, ResourceManagerHarness

if TYPE_CHECKING:
    from pathlib import Path

MASTER = (
    REPORT
    + r"""
with open(os.environ["TWISTER2_MASTER_TICKET"]) as file:
    ticket = file.read()
kept = {name: value for name, value in os.environ.items() if name.startswith(("KIT_", "TWISTER2_"))}
write("master", [os.getpid(), ticket, kept])
deadline = time.monotonic() + 600
while time.monotonic() < deadline and not os.path.exists(os.path.join(folder, "over")):
    time.sleep(0.05)
"""
)
"""Tell ticket and environment, then stay until there is a file ``over``."""


class ReturningMasterCases(ResourceManagerHarness):
    """What a manager must do that offers ``restarts_master``."""

    def test_a_master_that_dies_is_started_again_until_the_job_has_ended(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        if not rm.offers.restarts_master:
            nothing = JobHandle(self.handle_name(rm), "kit-nothing", "0", {})
            with pytest.raises(CapabilityError):
                rm.remember(nothing, b"note")
            with pytest.raises(CapabilityError):
                rm.remembered(nothing)
            assert not rm.master_returns(nothing)
            return
        handle = self._submit_with_master(rm, jobs, state_dir, reports, master_ticket=b"the master's")
        workers = [*self.environments(reports, self.n_workers)]
        ((first, *said),) = self.read(reports, "master", 1)
        assert rm.remembered(handle) is None, "there is a note that nobody has made"
        rm.remember(handle, b"one")
        note = b"\0two " * 6_000
        self.make_backend(state_dir).remember(handle, note)
        assert rm.master_returns(handle)
        os.kill(first, signal.SIGKILL)
        lives = {pid: told for pid, *told in self.read(reports, "master", 2)}
        assert len(lives) == 2
        assert lives.pop(first) == said
        assert [*lives.values()] == [said], "the master's second life has other tickets or variables"
        assert not any(ended(pid) for pid in workers), "the workers ended with the master"
        self.until_state(rm, handle, JobState.RUNNING)
        assert self.make_backend(state_dir).remembered(handle) == note
        rm.remember(handle, b"three", JobState.FAILED)
        rm.remove_secrets(handle)
        rm.remove_secrets(handle)
        assert rm.remembered(handle) == b"three"
        (reports / "over").touch()
        self.until_state(rm, handle, JobState.FAILED)
        time.sleep(1.0)  # a third life would be seen now
        assert len(self.read(reports, "master", 2)) == 2, "a master that has ended the job was started again"
        rm.kill(handle, 1.0)
        assert not rm.master_returns(handle)
        assert not rm.clean(handle)
        assert all(ended(pid) for pid in [*workers, *lives])

    def test_a_ticket_as_large_as_is_promised_reaches_the_master(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        ticket = os.urandom(rm.offers.ticket_limit // 2).hex()
        if not ticket:
            pytest.skip(f"{SKIP_PREFIX}ticket_limit is 0: packages go another way")
        self._submit_with_master(rm, jobs, state_dir, reports, master_ticket=ticket.encode())
        ((_, told, _),) = self.read(reports, "master", 1)
        assert told == ticket

    def test_a_job_that_was_killed_has_no_other_master(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        if not rm.offers.restarts_master:
            why = rm.offers.why.get("restarts_master", "no master is in the allocation")
            pytest.skip(f"{SKIP_PREFIX}restarts_master is closed: {why}")
        handle = self._submit_with_master(rm, jobs, state_dir, reports)
        self.environments(reports, self.n_workers)
        self.read(reports, "master", 1)
        self.make_backend(state_dir).kill(handle, 0.5)
        assert not rm.master_returns(handle)
        time.sleep(1.0)
        assert len(self.read(reports, "master", 1)) == 1, "a job that was killed has another master"
        assert rm.state(handle).state in (JobState.KILLED, JobState.UNKNOWN)

    def _submit_with_master(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path, **changes: Any
    ) -> JobHandle:
        """Submit copies that stand, and a master that stays until there is a file ``over``."""
        return self.submit(
            rm,
            jobs,
            state_dir,
            self.program(STAND, reports),
            master=ResourceGroup("master", 1, cpus=0.1),
            master_command=self.program(MASTER, reports),
            **changes,
        )
