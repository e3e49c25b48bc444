"""What the conformance suite does not ask: launchers that die, warm launchers, walltime, memory, other machines."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import attrs
import pytest

import twister2
from twister2.spec.errors import ResourceError, ResourcesExceededError, Twister2Error
from twister2.spec.processes import await_ends
from twister2.spec.rm import JobState, ResourceGroup
from twister2_rm_standalone import capacity, launcher, processes, procfs, spawn, sweep
from twister2_rm_standalone.folder import RmFolder
from twister2_rm_standalone.logs import read_logs
from twister2_rm_standalone.plugin import StandalonePlugin
from twister2_testkit.processes import carrying, children, ended, wait_until

pytestmark = pytest.mark.faults
FREE = {"wants": {}, "cgroups": {}, "bindings": {}}
"""Of an order: no limits."""


def until(condition, why="not in time"):
    wait_until(condition, 60.0, lambda: why if isinstance(why, str) else why())


def running(rm, handle):
    until(lambda: rm.state(handle).state is JobState.RUNNING, lambda: str(rm.state(handle)))


def launcher_pid(handle):
    return handle.facts["launchers"][0][0]


def test_copies_end_when_the_launcher_is_killed(run):
    rm, handle = run("sleep", "600")
    running(rm, handle)
    os.kill(launcher_pid(handle), signal.SIGKILL)
    until(lambda: not carrying(handle.job_id), "copies outlive their launcher")
    status = rm.state(handle)
    assert status.state is JobState.FAILED
    assert "launcher was killed" in status.reason
    assert status.slots
    assert all(text.startswith("lost") for text in status.slots.values()), "a job would not be tried again"


def test_a_slot_starts_again_when_the_launcher_was_killed(run):
    rm, handle = run("sleep", "600")
    running(rm, handle)
    os.kill(launcher_pid(handle), signal.SIGKILL)
    until(lambda: not carrying(handle.job_id), "copies outlive their launcher")
    rm.start_attempt(handle, 2, [0, 1])
    running(rm, handle)
    until(lambda: len(carrying(handle.job_id)) == 3, "the launcher and two copies do not run")
    rm.kill(handle, 1.0)
    assert not carrying(handle.job_id)


def test_a_stopped_launcher_and_stopped_copies_can_be_killed(run):
    rm, handle = run("sleep", "600")
    running(rm, handle)
    for pid in carrying(handle.job_id):
        os.kill(pid, signal.SIGSTOP)
    rm.kill(handle, 0.2)
    assert not carrying(handle.job_id)


def test_daemons_without_the_marker_end_with_the_last_copy(run, tmp_path):
    pid = f"{tmp_path}/'$TWISTER2_SLOT'.pid"
    script = f"(setsid env -i /bin/sh -c 'echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 600' &); "
    script += f"until [ -e '{pid}' ]; do sleep 0.05; done"
    rm, handle = run("sh", "-c", script)
    until(lambda: rm.state(handle).state.final)
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    until(lambda: all(ended(pid) for pid in pids), "daemons outlive the job")


def test_children_of_a_copy_that_died_end_with_it(run, tmp_path):
    rm, handle = run("sh", "-c", f"sleep 600 & echo $! >{tmp_path}/$TWISTER2_SLOT.child; kill -9 $$")
    until(lambda: rm.state(handle).state is JobState.FAILED)
    pids = [int(path.read_text()) for path in tmp_path.glob("*.child")]
    assert len(pids) == 2
    until(lambda: all(ended(pid) for pid in pids), "children outlive their copy")


def test_a_process_that_got_the_number_of_an_old_copy_is_not_killed(run, state_dir):
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        rm, handle = run("true")
        until(lambda: rm.state(handle).state.final)
        path = state_dir / "rm-standalone" / handle.job_id / "journal"
        path.write_text(f"launcher {stranger.pid} 1\nstart 0 {stranger.pid} 1 1\nstart 1 {stranger.pid} 2 1\n")
        forged = attrs.evolve(handle, facts={**handle.facts, "launchers": [[stranger.pid, 1]]})
        rm.stop_attempt(forged, [0, 1], 0.1)
        rm.kill(forged, 0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_kill_ends_a_master_of_its_own_but_not_the_caller(run):
    rm, handle = run("sleep", "600")
    master = subprocess.Popen(["sleep", "600"], env={**os.environ, "TWISTER2_MASTER_OF": handle.job_id})
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "TWISTER2_MASTER_OF": handle.job_id + "0"})
    try:
        rm.kill(handle, 30.0)
        assert master.wait(30) == -signal.SIGTERM
        assert other.poll() is None
    finally:
        for process in (master, other):
            process.kill()
            process.wait()


def test_what_is_left_after_the_walltime_is_ended(run, monkeypatch):
    monkeypatch.setattr(processes, "SPARE_S", 0.2)
    rm, handle = run("sleep", "600", walltime_s=1)
    until(lambda: rm.state(handle).state.final, lambda: str(rm.state(handle)))
    assert rm.state(handle).state is JobState.KILLED
    assert "job.walltime_s" in rm.state(handle).reason


def test_another_machine_says_so_and_kills_nothing(run, state_dir):
    rm, handle = run("sleep", "600")
    running(rm, handle)
    path = state_dir / "rm-standalone" / handle.job_id / "allocation.json"
    job = json.loads(path.read_text())
    path.write_text(json.dumps({**job, "place": {**job["place"], "host": "elsewhere"}}))
    with pytest.raises(ResourceError, match="cannot be seen from here") as raised:  # UNKNOWN would mean that it is gone
        rm.state(handle)
    assert "elsewhere" in raised.value.why
    with pytest.raises(ResourceError, match="cannot be killed from here"):
        rm.kill(handle, 0.1)
    path.write_text(json.dumps(job))
    assert rm.state(handle).state is JobState.RUNNING


def test_what_ran_before_the_machine_was_started_anew_is_gone(run, state_dir):
    rm, handle = run("sleep", "600")
    running(rm, handle)
    path = state_dir / "rm-standalone" / handle.job_id / "allocation.json"
    job = json.loads(path.read_text())
    path.write_text(json.dumps({**job, "place": {**job["place"], "boot": "another"}}))
    assert rm.state(handle).state is JobState.UNKNOWN
    path.write_text(json.dumps(job))


def test_long_logs_are_cut_to_their_end(tmp_path):
    path = tmp_path / "slot-0.log"
    path.write_bytes(b"x" * 1000)
    launcher.cut(str(path), 1000)
    assert path.stat().st_size == 1000
    path.write_bytes(b"a" * 1000 + b"z" * 250)
    launcher.cut(str(path), 1000)
    assert path.read_bytes() == b"[earlier output was cut off: 1000 bytes]\n" + b"z" * 250
    with path.open("ab") as file:
        file.write(b"b" * 800)
    launcher.cut(str(path), 1000)
    assert path.read_bytes() == b"[earlier output was cut off: 1800 bytes]\n" + b"b" * 250


def test_what_comes_while_a_log_is_cut_is_kept(tmp_path, monkeypatch):
    path, real, more = tmp_path / "slot-0.log", open, [b"first", b"second"]
    path.write_bytes(b"x" * 2000)

    def opened(*args, **kwargs):
        file = real(*args, **kwargs)
        return Appending(file) if "r+" in args[1] else file

    class Appending:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def __getattr__(self, name):
            return getattr(self._file, name)

        def read(self):
            data = self._file.read()
            if more:
                with real(path, "ab") as writer:
                    writer.write(more.pop(0))
            return data

    monkeypatch.setattr(launcher, "open", opened, raising=False)
    launcher.cut(str(path), 1000)
    assert path.read_bytes().endswith(b"x" * 250 + b"firstsecond")


def test_a_follower_notices_a_cut_although_the_file_has_grown_again(tmp_path):
    path, ended = tmp_path / "slot-0.log", []
    path.write_bytes(b"a" * 1000 + b"b" * 300)
    chunks = read_logs(tmp_path, 0, True, lambda: bool(ended))
    assert len(next(chunks).text) == 1300
    launcher.cut(str(path), 1000)
    with path.open("ab") as file:
        file.write(b"c" * 2000)
    assert next(chunks).text == "[earlier output was cut off: 1050 bytes]\n" + "b" * 250 + "c" * 2000
    ended.append(True)
    assert not [*chunks]


def test_a_slot_that_is_being_started_again_does_not_show_how_its_last_copy_ended(run, monkeypatch):
    rm, handle = run("sh", "-c", "test $TWISTER2_SLOT = 0 || exec sleep 600; exit 1")
    until(lambda: rm.state(handle).slots == {0: "exited 1", 1: "running"}, lambda: str(rm.state(handle)))
    monkeypatch.setattr(spawn, "COMMAND", "import time; time.sleep(600)")
    rm.start_attempt(handle, 2, [0])
    assert rm.state(handle).slots == {1: "running"}
    for pid, start in rm.find(handle.job_id).facts["launchers"][1:]:
        assert procfs.alive(pid, start)
        os.kill(pid, signal.SIGKILL)
    until(lambda: rm.state(handle).slots == {0: "exited 1", 1: "running"}, lambda: str(rm.state(handle)))


def order(folder, *slots):
    (folder / "journal").touch()
    names = {"job_id": "own-order", "command": ["true"], "slots": slots, "logs": str(folder), "deadline": 0}
    return {**names, "journal": str(folder / "journal"), "killed": str(folder / "killed"), "log_limit": 1000, **FREE}


def test_a_full_disk_does_not_end_the_launcher_and_nothing_is_left_out_later(tmp_path, monkeypatch):
    running, real = launcher.Launcher(order(tmp_path), None), os.write
    room = [3]

    def write(number, data):
        if number != running.journal:
            return real(number, data)
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = real(number, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", write)
    running._write("start 0 10 20 30\n", "start 1 11 21 30\n")
    running._write("end 0 10 137\n")
    running._write()
    room[0] = 1000
    running._write()
    monkeypatch.undo()
    assert not running.unwritten
    folder = RmFolder(str(tmp_path), "own-order")
    folder.path.mkdir(parents=True)
    folder.journal.write_bytes((tmp_path / "journal").read_bytes())
    copies = folder.read_journal().copies
    assert {slot: copy.code for slot, copy in copies.items()} == {0: 137, 1: None}


def test_logs_of_slots_are_kept_below_their_limit(make_rm, allocation):
    def is_cut(text):  # more than once where it is written slowly
        return text.startswith(launcher.CUT_MARK) and text.endswith(b"20000\nlast\n") and len(text) <= 16 << 10

    rm = make_rm(log_limit_kb=16)
    handle = rm.submit(allocation("sh", "-c", "seq 20000; echo last; exec sleep 600", n=1))
    try:
        log = pathlib.Path(handle.facts["logs"], "slot-0.log")
        until(lambda: log.exists() and is_cut(log.read_bytes()), lambda: f"not cut: {log.read_bytes()[-50:]!r}")
    finally:
        rm.kill(handle, 0.5)
        rm.clean(handle)
        rm.close()


def test_own_ancestors_are_looked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr(sweep, "_own_line", lambda everyone: asked.append(1) or set())
    mine = procfs.processes()
    monkeypatch.setattr(sweep, "processes", lambda: mine)
    monkeypatch.setattr(sweep, "carries", lambda process, markers: True)
    sweep.job_members("own-nothing", ())
    assert len(asked) == 1


@pytest.mark.parametrize(("younger_s", "asked"), [(0, True), (sweep.OLDER_S - 5, True), (sweep.OLDER_S + 5, False)])
def test_what_is_much_older_than_a_job_is_not_asked_for_its_environment(monkeypatch, younger_s, asked):
    seen = []
    monkeypatch.setattr(sweep, "carries", lambda process, markers: seen.append(process.pid))
    start = procfs.start_of(os.getpid()) + younger_s * os.sysconf("SC_CLK_TCK")
    sweep.job_members("own-nothing", [(os.getpid() + (1 << 24), start)])
    assert (os.getpid() in seen) is asked


# -- warm launchers ----------------------------------------------------------------------------------------------------


def tell_environment(tmp_path):
    path = f"{tmp_path}/$TWISTER2_SLOT"
    return ("sh", "-c", f"env | sort >{path}.tmp; mv {path}.tmp {path}.env")


def environments(tmp_path):
    until(lambda: len([*tmp_path.glob("*.env")]) == 2)
    return {path.stem: path.read_text() for path in tmp_path.glob("*.env")}


def test_a_warm_launcher_is_used_and_the_copies_cannot_tell(make_rm, allocation, tmp_path):
    rm, found = make_rm(), []
    for warm in (True, False):
        folder = tmp_path / str(warm)
        folder.mkdir()
        asked = allocation(*tell_environment(folder), job_id=f"own-warm-{os.getpid()}", environment={"A": "b c"})
        before = set(children())
        if warm:
            assert StandalonePlugin().rm_warm_up(config=rm._config, job_id=asked.job_id) is True
        pids = set(children()) - before
        handle = rm.submit(asked)
        found.append({slot: text.replace(str(folder), "") for slot, text in environments(folder).items()})
        assert len(pids) == warm
        assert not pids or pids == {launcher_pid(handle)}, "the waiting launcher was not used"
        rm.kill(handle, 1.0)
        rm.clean(handle)
    assert found[0] == found[1]
    assert "A=b c\n" in found[0]["0"]


def test_a_warm_launcher_of_another_environment_is_not_used(make_rm, allocation, tmp_path, monkeypatch):
    rm, asked = make_rm(), allocation(*tell_environment(tmp_path))
    spawn.warm_up(asked.job_id)
    monkeypatch.setenv("OWN_NEW", "1")
    handle = rm.submit(asked)
    assert "OWN_NEW=1\n" in environments(tmp_path)["0"]
    rm.kill(handle, 1.0)
    rm.clean(handle)
    until(lambda: not carrying(asked.job_id), "the unused launcher stays")


def test_a_warm_launcher_that_died_is_replaced(make_rm, allocation, tmp_path):
    rm, asked = make_rm(), allocation(*tell_environment(tmp_path))
    spawn.warm_up(asked.job_id)
    until(lambda: carrying(asked.job_id))  # its environment shows only after the exec
    for pid in carrying(asked.job_id):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not carrying(asked.job_id))
    handle = rm.submit(asked)
    assert len(environments(tmp_path)) == 2
    rm.kill(handle, 1.0)
    rm.clean(handle)


def test_a_warm_launcher_ends_when_the_submission_is_refused(make_rm, allocation):
    asked = allocation("sleep", "600", n=10_000)
    spawn.warm_up(asked.job_id)
    with pytest.raises(ResourcesExceededError):
        make_rm().submit(asked)
    until(lambda: not carrying(asked.job_id), "the unused launcher stays")
    spawn.reap()


def test_a_warm_launcher_ends_with_its_client():
    code = "import os; from twister2_rm_standalone.spawn import warm_up; warm_up('own-gone'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    until(lambda: not carrying("own-gone"), "the launcher outlives its client")


# -- what fits ---------------------------------------------------------------------------------------------------------


def test_more_than_the_memory_is_refused_with_numbers_and_the_option(make_rm, allocation, monkeypatch):
    monkeypatch.setattr(capacity, "free_memory_mb", lambda: 1000)
    rm = make_rm(worker_min_mb=50)
    with monkeypatch.context() as patched:
        patched.setattr(spawn, "launch", lambda *_: pytest.fail("something was started before it was refused"))
        with pytest.raises(ResourcesExceededError) as caught:
            rm.submit(allocation("true", n=10_000))
    for word in ("10,000", "500,000 MiB", "1,000 MiB", "job.oversubscribe = true"):
        assert word in str(caught.value)
    groups = (ResourceGroup("worker", 2, memory_mb=501),)
    with pytest.raises(ResourcesExceededError):
        rm.submit(allocation("true", groups=groups))
    handle = rm.submit(allocation("true", groups=groups, oversubscribe=True))
    until(lambda: rm.state(handle).state is JobState.COMPLETED)
    rm.kill(handle, 1.0)
    rm.clean(handle)


def test_more_than_the_cpus_is_a_warning(run, monkeypatch):
    monkeypatch.setattr(capacity, "usable_cpus", lambda: 2)
    _, handle = run("true", groups=(ResourceGroup("worker", 3),))
    assert handle.facts["warnings"] == ["3 workers ask for 3 CPUs and this machine has 2 for them: they take turns"]
    _, handle = run("true", groups=(ResourceGroup("worker", 2),))
    assert handle.facts["warnings"] == []


def test_probe():
    rm = StandalonePlugin()
    probe = rm.rm_probe(config=rm.config_class())
    assert probe.ok
    assert probe.facts["cpus"] >= 1
    assert probe.facts["free_memory_mb"] > 0


def test_a_state_folder_that_cannot_be_written_refuses_and_leaves_nothing(make_rm, allocation, state_dir):
    state_dir.parent.mkdir(exist_ok=True)
    state_dir.write_text("a file in the way")
    asked = allocation("true")
    with pytest.raises(ResourceError, match="state folder"):
        make_rm().submit(asked)
    assert not carrying(asked.job_id)


def test_a_python_that_knows_no_descriptors_of_processes(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        process = procfs.look(sleeper.pid)
        assert process is not None
        await_ends([sleeper.pid], 0.05)
        assert process.signal(signal.SIGKILL)
        await_ends([sleeper.pid], 60.0)
        assert sleeper.wait(30.0) == -signal.SIGKILL
        assert not process.signal(signal.SIGKILL)


@pytest.mark.parametrize("wrong", ["program", "option"])
def test_submissions_that_fail_leave_no_launcher(tmp_path, wrong):
    """One that failed before there was anything to submit had a launcher warmed up."""
    settings = [f"job.state_dir={tmp_path}", *(["exec.batch.nonsense=1"] if wrong == "option" else [])]
    before = children()
    for _ in range(3):
        with pytest.raises(Twister2Error):
            twister2.run(str(tmp_path / "nope.py"), workers=1, settings=settings)
    until(lambda: (spawn.reap(), set(children()) <= set(before))[1], "launchers stay")
