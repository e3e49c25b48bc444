"""Conformance of resource managers.

The suite starts plain commands in place of ``twister2.worker``: nothing of the core runs in the copies. A plugin's test
class gives a backend and, where needed, a folder in which copies can leave files for the test::

    class TestStandalone(ResourceManagerSuite):
        def make_backend(self, state_dir):
            return StandalonePlugin().rm_create(config=StandaloneConfig(), context=RmContext(str(state_dir)))

What a backend closes in its ``offers`` is skipped with the reason in ``offers.why``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
import uuid
from pathlib import Path

import attrs
import pytest

from twister2.spec.errors import CapabilityError, ResourcesExceededError
from twister2.spec.rm import JobHandle, JobState, ResourceGroup, ResourceManager
from twister2_testkit.capabilities import SKIP_PREFIX
from twister2_testkit.processes import carrying, children, cmdlines_and_environments, ended, exit_code, wait_until
from twister2_testkit.rm_harness import DAEMONS, LINES, READ_TICKETS, REPORT, SECRET, SPEAK, STAND, STUBBORN
from twister2_testkit.rm_returning import ReturningMasterCases


class ResourceManagerSuite(ReturningMasterCases):
    """What every resource manager must do; see the module."""

    # -- before anything starts ----------------------------------------------------------------------------------------

    def test_render_tells_the_command_and_no_secret(self, rm: ResourceManager, state_dir: Path) -> None:
        wanted = self.allocation(state_dir, "sleep", "4242", master_ticket=b"master-secret-0815")
        text = rm.render(wanted)
        assert wanted.summary in text
        assert "sleep" in text
        assert "4242" in text
        assert SECRET.decode() not in text
        assert "master-secret" not in text
        assert not list(state_dir.glob("**/ticket*")), "render has written something"

    def test_a_closed_offer_has_a_reason(self, rm: ResourceManager) -> None:
        offers = rm.offers
        closed = [field.name for field in attrs.fields(type(offers)) if not getattr(offers, field.name)]
        needless = {"why", "python", "ticket_limit"}
        if not offers.master_in_allocation:
            needless |= {"restarts_master", "renews"}
        missing = sorted(set(closed) - set(offers.why) - needless)
        assert not missing, f"offers.why gives no reason for {', '.join(missing)}"

    def test_a_world_that_is_not_offered_is_refused(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path
    ) -> None:
        allocation = self.allocation(state_dir, "sleep", "600", world="no-such-world")
        with pytest.raises(Exception, match="no-such-world"):
            jobs.append(rm.submit(allocation))
        assert rm.find(allocation.job_id) is None
        assert not carrying(allocation.job_id)

    def test_more_than_can_ever_be_had_is_refused_at_once(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path
    ) -> None:
        if not rm.offers.same_host:
            pytest.skip(f"{SKIP_PREFIX}same_host is closed: {rm.offers.why.get('same_host', '')}")
        allocation = self.allocation(state_dir, "sleep", "600", n=10_000)
        allocation = attrs.evolve(allocation, groups=(ResourceGroup("worker", 10_000, memory_mb=10_000_000),))
        begin = time.monotonic()
        with pytest.raises(ResourcesExceededError) as caught:
            jobs.append(rm.submit(allocation))
        assert time.monotonic() - begin < 30
        assert "10,000" in str(caught.value) or "10000" in str(caught.value)
        assert not carrying(allocation.job_id), "something was started"
        assert rm.find(allocation.job_id) is None
        left = [path for path in state_dir.glob("**/*") if allocation.job_id in str(path)]
        assert not left, f"left behind: {left}"

    # -- copies --------------------------------------------------------------------------------------------------------

    def test_copies_have_every_slot_once_and_else_one_environment(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        environments = [*self.environments(reports, self.n_workers).values()]
        time.sleep(0.2)  # one too many would be seen now
        assert len(self.environments(reports, self.n_workers)) == self.n_workers
        assert sorted(self.slot(each) for each in environments) == list(range(self.n_workers))
        for each in environments:
            assert each["KIT_COLOUR"] == "blue green"
            assert each["KIT_EMPTY"] == ""
        own = self.own_variables()
        common = [{key: value for key, value in each.items() if key not in own} for each in environments]
        differing = {key for each in common for key in each if any(other.get(key) != each[key] for other in common)}
        assert not differing, f"copies differ in {sorted(differing)}"
        self.until_state(rm, handle, JobState.RUNNING)

    def own_variables(self) -> set[str]:
        """Variables in which copies may differ."""
        return {self.slot_source.variable}

    def test_submit_returns_before_the_copies_end(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        begin = time.monotonic()
        handle = self.submit(rm, jobs, state_dir, ("sleep", "600"))
        assert time.monotonic() - begin < 60
        assert rm.state(handle).state in (JobState.QUEUED, JobState.STARTING, JobState.RUNNING)

    def test_states_up_to_completed(self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path) -> None:
        handle = self.submit(rm, jobs, state_dir, ("sleep", "0.3"))
        seen: list[JobState] = []

        def done() -> bool:
            state = rm.state(handle).state
            if not seen or seen[-1] is not state:
                seen.append(state)
            return state.final

        wait_until(done, self.timeout_s, lambda: f"still {rm.state(handle)} after the copies have ended")
        order = [JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.COMPLETED]
        assert seen == [state for state in order if state in seen], f"went through {seen}"
        assert seen[-1] is JobState.COMPLETED

    def test_exit_codes_show_per_slot(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        variable, base = self.slot_source.variable, self.slot_source.base
        code = f"import os, sys; s = int(os.environ['{variable}']) + {base}; "
        code += "os.kill(os.getpid(), 9) if s == 1 else sys.exit(7 * s)"
        handle = self.submit(rm, jobs, state_dir, (self.python, "-c", code))
        self.until_state(rm, handle, JobState.FAILED)
        status = rm.state(handle)
        assert status.slots[0].startswith("exited 0")
        assert status.slots[1].startswith("exited 137")
        assert status.slots[2].startswith("exited 14")
        assert "137" in status.reason or "14" in status.reason, f"the reason names no culprit: {status.reason!r}"

    def test_a_command_that_does_not_exist_fails_with_its_name(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, ("no-such-program-of-the-suite",))
        self.until_state(rm, handle, JobState.FAILED)
        text = "".join(chunk.text for chunk in rm.logs(handle)) + rm.state(handle).reason
        assert "no-such-program-of-the-suite" in text

    # -- secrets -------------------------------------------------------------------------------------------------------

    def test_the_ticket_is_in_no_environment_and_no_command_line(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports), master_ticket=b"master-secret-0815")
        for environ in self.environments(reports, self.n_workers).values():
            assert not any(SECRET.decode() in value for value in environ.values())
        for pid, text in cmdlines_and_environments():
            assert SECRET not in text, f"process {pid} shows the ticket"
            assert b"master-secret-0815" not in text, f"process {pid} shows the master's ticket"
        assert SECRET.decode() not in json.dumps(attrs.asdict(handle))

    def test_publish_replaces_the_ticket_as_a_whole(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(READ_TICKETS, reports))
        self.read(reports, "tickets", self.n_workers)
        written = {(SECRET + b"first").decode()}
        for number in range(20):
            ticket = SECRET + str(number).encode() * (1 + 4001 * (number % 2))
            self.make_backend(state_dir).publish(handle, ticket)
            written.add(ticket.decode())
        last = SECRET + b"last"
        rm.publish(handle, last)
        written.add(last.decode())
        self.until_state(rm, handle, JobState.COMPLETED)
        for seen, mode, missed in self.read(reports, "tickets", self.n_workers):
            assert self.ticket_blinks or not missed, f"{missed} times there was no ticket"
            assert set(seen) <= written, f"a copy saw a partial ticket: {sorted(set(seen) - written)[:2]!r:.200}"
            assert mode in self.ticket_modes, f"the ticket has mode {mode}"

    # -- attempts ------------------------------------------------------------------------------------------------------

    def test_single_slots_stop_and_start_again(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        if not rm.offers.restarts_slots:
            pytest.skip(f"{SKIP_PREFIX}restarts_slots is closed: {rm.offers.why.get('restarts_slots', '')}")
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        before = {self.slot(environ): pid for pid, environ in self.environments(reports, self.n_workers).items()}
        other = self.make_backend(state_dir)
        other.stop_attempt(handle, [1], 2.0)
        other.stop_attempt(handle, [1], 2.0)
        assert ended(before[1]), "the copy of slot 1 still runs"
        assert not ended(before[0]), "the copy of slot 0 was ended too"
        wait_until(
            lambda: rm.state(handle).slots.get(1, "").startswith("exited"),
            self.timeout_s,
            lambda: f"slot 1 shows as {rm.state(handle).slots.get(1)!r}",
        )
        other.start_attempt(handle, 2, [1])
        environments = self.environments(reports, self.n_workers + 1)
        again = [pid for pid, environ in environments.items() if self.slot(environ) == 1 and pid != before[1]]
        assert len(again) == 1
        assert len(environments) == self.n_workers + 1
        assert not ended(before[0])
        self.until_state(rm, handle, JobState.RUNNING)
        own = self.own_variables()
        old, new = (
            {key: value for key, value in environments[pid].items() if key not in own} for pid in (before[1], again[0])
        )
        assert old == new, "the copy's second life has another environment"
        other.close()

    def test_a_slot_starts_again_after_all_have_ended(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        if not rm.offers.restarts_slots:
            pytest.skip(f"{SKIP_PREFIX}restarts_slots is closed: {rm.offers.why.get('restarts_slots', '')}")
        handle = self.submit(rm, jobs, state_dir, self.program(REPORT + "write('env', [os.getpid(), {}])", reports))
        self.read(reports, "env", self.n_workers)
        self.until_state(rm, handle, JobState.COMPLETED)
        rm.start_attempt(handle, 2, range(self.n_workers))
        self.read(reports, "env", 2 * self.n_workers)
        self.until_state(rm, handle, JobState.COMPLETED)

    def test_resize(self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        before = self.environments(reports, self.n_workers)
        if not rm.offers.resizes:
            with pytest.raises(CapabilityError):
                rm.resize(handle, self.n_workers + 1)
            return
        rm.resize(handle, self.n_workers + 1)
        grown = self.environments(reports, self.n_workers + 1)
        added = [pid for pid in grown if pid not in before]
        assert [self.slot(grown[pid]) for pid in added] == [self.n_workers]
        rm.resize(handle, self.n_workers - 1)
        left = {self.slot(environ) for pid, environ in grown.items() if not ended(pid)}
        assert left == set(range(self.n_workers - 1))

    def test_resize_with_workers_of_another_kind(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        """Twice, as a job master does for two groups: the new slots follow each other, the old copies go on."""
        if not rm.offers.resizes:
            pytest.skip(f"{SKIP_PREFIX}resizes is closed: {rm.offers.why.get('resizes', '')}")
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        before = self.environments(reports, self.n_workers)
        rm.resize(handle, self.n_workers + 1, ResourceGroup("worker", 1, cpus=0.1))
        self.make_backend(state_dir).resize(handle, self.n_workers + 3, ResourceGroup("thin", 2, cpus=0.05))
        grown = self.environments(reports, self.n_workers + 3)
        assert sorted(self.slot(environ) for environ in grown.values()) == list(range(self.n_workers + 3))
        assert not any(ended(pid) for pid in before), "a copy that was there before was ended"
        wait_until(lambda: not rm.state(handle).pending, self.timeout_s, lambda: rm.state(handle).pending)
        rm.kill(handle, 1.0)
        assert all(ended(pid) for pid in grown), "what was added outlives the kill"

    # -- doctor --------------------------------------------------------------------------------------------------------

    def test_what_doctor_finds_can_be_acted_on(self, state_dir: Path) -> None:
        checks = self.doctor(state_dir)
        if checks is None:
            pytest.skip(f"{SKIP_PREFIX}the plugin has no rm_doctor")
        names = [check.name for check in checks]
        assert names, "rm_doctor looks at nothing"
        assert len(set(names)) == len(names), f"two checks of one name: {names}"
        for check in checks:
            assert check.result in ("ok", "warning", "failed", "skipped"), check
            assert check.finding.strip(), check
            assert "\n" not in check.name + check.finding, check
            assert check.remedy.strip() or check.result in ("ok", "skipped"), f"no remedy: {check}"
        assert not [path for path in state_dir.glob("**/*") if path.is_file()], "rm_doctor has written something"

    # -- end -----------------------------------------------------------------------------------------------------------

    def test_kill_ends_children_and_daemons(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(DAEMONS, reports))
        pids = self.read(reports, "child", self.n_workers) + self.read(reports, "daemon", self.n_workers)
        assert not any(ended(pid) for pid in pids)
        self.make_backend(state_dir).kill(handle, 1.0)
        assert not [pid for pid in pids if not ended(pid)], "children of the copies outlive the kill"
        assert not carrying(handle.job_id)
        assert rm.state(handle).state in (JobState.KILLED, JobState.UNKNOWN)

    def test_kill_ends_what_ignores_term(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(STUBBORN, reports))
        pids = [*self.environments(reports, self.n_workers)]
        rm.kill(handle, 10.0)
        assert all(ended(pid) for pid in pids), "still running after kill"
        asked = set(self.read(reports, "asked", 0))
        assert asked == set(pids), "the copies were not asked to end, or not given their grace"

    def test_kill_from_another_process_and_again(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        pids = [*self.environments(reports, self.n_workers)]
        # a handle is plain data: what a record in a file holds is enough
        again = JobHandle(**json.loads(json.dumps(attrs.asdict(handle))))
        assert again == handle
        child = os.fork()
        if child == 0:
            try:
                self.make_backend(state_dir).kill(again, 1.0)
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert exit_code(child) == 0
        assert all(ended(pid) for pid in pids), "still running after a kill from another process"
        begin = time.monotonic()
        self.make_backend(state_dir).kill(handle, 30.0)
        assert time.monotonic() - begin < 25, "killing an ended job waits for the grace"

    def test_kill_while_it_starts(self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path) -> None:
        for delay_s in (0.0, 0.01, 0.03):
            handle = self.submit(rm, jobs, state_dir, ("sleep", "600"))
            time.sleep(delay_s)
            rm.kill(handle, 1.0)
            assert not carrying(handle.job_id), f"something is left of a kill {delay_s} s after submit"
            time.sleep(0.1)
            assert not carrying(handle.job_id), f"something was started after a kill {delay_s} s after submit"
            assert rm.state(handle).state in (JobState.KILLED, JobState.UNKNOWN)

    def test_an_unknown_job_is_no_error(self, rm: ResourceManager) -> None:
        nothing = JobHandle(self.handle_name(rm), f"kit-{uuid.uuid4().hex[:12]}", "0", {})
        assert rm.state(nothing).state is JobState.UNKNOWN
        rm.kill(nothing, 1.0)
        assert rm.clean(nothing) == []
        assert rm.find(nothing.job_id) is None

    def test_clean_leaves_nothing_and_may_be_called_again(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        allocation = self.allocation(state_dir, *self.program(STAND, reports))
        handle = rm.submit(allocation)
        jobs.append(handle)
        self.environments(reports, self.n_workers)
        rm.kill(handle, 1.0)
        assert rm.clean(handle) == []
        assert rm.clean(handle) == []
        assert rm.find(handle.job_id) is None
        assert rm.state(handle).state is JobState.UNKNOWN
        shutil.rmtree(allocation.folder, ignore_errors=True)
        left = [str(path) for path in state_dir.glob("**/*") if path.name == handle.job_id or path.is_file()]
        assert not left, f"files outside the job's folder stay: {left}"
        strays = [str(path) for path in Path(tempfile.gettempdir()).glob(f"*{handle.job_id}*")]
        assert not strays, f"files stay: {strays}"

    def test_the_job_outlives_the_process_that_submitted_it(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        if not rm.offers.outlives_client:
            pytest.skip(f"{SKIP_PREFIX}outlives_client is closed: {rm.offers.why.get('outlives_client', '')}")
        allocation = self.allocation(state_dir, *self.program(STAND, reports))
        child = os.fork()
        if child == 0:
            try:
                self.make_backend(state_dir).submit(allocation)
            finally:  # an error, too, ends this process and not only what it is in
                os.kill(os.getpid(), 9)
        assert exit_code(child) == -9
        handle = rm.find(allocation.job_id)
        assert handle is not None, "find does not know a job whose client died"
        jobs.append(handle)
        pids = [*self.environments(reports, self.n_workers)]
        time.sleep(0.2)
        assert not any(ended(pid) for pid in pids), "the copies died with the client"
        self.until_state(rm, handle, JobState.RUNNING)
        rm.kill(handle, 1.0)
        assert all(ended(pid) for pid in pids)

    # -- logs, names, neighbours ---------------------------------------------------------------------------------------

    def test_logs(self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path) -> None:
        handle = self.submit(rm, jobs, state_dir, (self.python, "-c", SPEAK))
        followed = [*self.make_backend(state_dir).logs(handle, follow=True)]
        assert rm.state(handle).state.final, "following ended before the job"
        for chunks in (followed, [*rm.logs(handle)]):
            chunks.sort(key=lambda chunk: chunk.stream)  # a piece of one may be between two of the other
            for slot in range(self.n_workers):
                text = "".join(chunk.text for chunk in chunks if chunk.slot == slot)
                for word in ("to out", "to err", "no newline"):
                    assert word in text, f"slot {slot} wrote {word!r}, the logs have {text[-200:]!r} at the end"
                lines = [int(number) for number in re.findall(r"line (\d+)\n", text)]
                assert lines == list(range(LINES)), f"slot {slot} wrote {LINES:,} lines, the logs have {len(lines):,}"
        only = [*rm.logs(handle, slot=1)]
        assert only
        assert {chunk.slot for chunk in only} == {1}

    @pytest.mark.parametrize("name", ["two words; and $(more) 'quotes'", "größe 数据 \N{SNOWMAN}", "n" * 300, "-rf"])
    def test_any_name_will_do(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path, name: str
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, ("true",), name=name, n=1)
        self.until_state(rm, handle, JobState.COMPLETED)
        assert rm.render(self.allocation(state_dir, "true", name=name))

    def test_find(self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path) -> None:
        handle = self.submit(rm, jobs, state_dir, ("sleep", "600"))
        found = self.make_backend(state_dir).find(handle.job_id)
        assert found is not None
        assert (found.rm, found.job_id, found.native_id) == (handle.rm, handle.job_id, handle.native_id)
        assert rm.state(found).state in (JobState.QUEUED, JobState.STARTING, JobState.RUNNING)
        rm.kill(found, 1.0)
        assert not carrying(handle.job_id)

    def test_two_jobs_do_not_see_each_other(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        first = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        ours = self.environments(reports, self.n_workers)
        others = reports / "second"
        others.mkdir()
        second = self.submit(
            rm,
            jobs,
            state_dir,
            self.program(STAND, others),
            ticket=SECRET + b"second",
            environment={"KIT_COLOUR": "red"},
        )
        theirs = self.environments(others, self.n_workers)
        assert {environ["KIT_COLOUR"] for environ in theirs.values()} == {"red"}
        assert not {environ["TWISTER2_TICKET"] for environ in ours.values()} & {
            environ["TWISTER2_TICKET"] for environ in theirs.values()
        }, "two jobs read one ticket"
        rm.kill(first, 1.0)
        rm.clean(first)
        assert all(ended(pid) for pid in ours)
        assert not any(ended(pid) for pid in theirs), "killing one job ended another"
        self.until_state(rm, second, JobState.RUNNING)

    def test_no_zombies_stay(self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path) -> None:
        handle = self.submit(rm, jobs, state_dir, ("true",))
        self.until_state(rm, handle, JobState.COMPLETED, JobState.UNKNOWN)
        rm.kill(handle, 1.0)
        rm.clean(handle)

        def zombies() -> list[int]:
            return [pid for pid in children() if ended(pid)]

        wait_until(lambda: not zombies(), 30.0, lambda: f"zombies of this process: {zombies()}")

    def test_closing_leaves_the_job_alone(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, reports: Path
    ) -> None:
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        pids = [*self.environments(reports, self.n_workers)]
        rm.close()
        rm.close()
        assert not any(ended(pid) for pid in pids)
        self.until_state(self.make_backend(state_dir), handle, JobState.RUNNING)
