"""Limits by control groups: where they can be made, what is written, and what this kernel makes of it."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from twister2.spec.errors import SubmissionRefusedError
from twister2.spec.rm import JobState, ResourceGroup
from twister2_rm_standalone import cgroups, procfs
from twister2_rm_standalone.cgroups import NotAllowedError, find, make, outlook, remove
from twister2_rm_standalone.hosts.agent import Agent
from twister2_rm_standalone.hosts.doctor import check_limits
from twister2_rm_standalone.launcher import Launcher
from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until

MB = 1 << 20


@pytest.fixture
def unified(tmp_path):
    """Control groups of version 2 as a user sees them."""

    def group(name, *, own=True, handed="", processes="", has="cpu memory pids"):
        folder = tmp_path / "root" / name
        folder.mkdir(parents=True)
        files = {"cgroup.controllers": has, "cgroup.subtree_control": handed, "cgroup.procs": processes}
        for file, text in files.items():
            (folder / file).write_text(text)
        if not own:
            others.update({folder, *folder.iterdir()})
        return folder

    others = set()
    group.others = others
    group.root = tmp_path / "root"
    group.own = tmp_path / "own"
    return group


@pytest.fixture(autouse=True)
def _permissions(unified, monkeypatch):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path not in unified.others and real(path, mode))


def test_the_nearest_group_that_hands_controllers_down(unified):
    unified("", own=False)
    service = unified("user.service", handed="cpu memory")
    unified("user.service/shell.scope", processes="4711\n")
    unified.own.write_text("0::/user.service/shell.scope\n")
    assert find(["cpus", "memory"], root=unified.root, own=unified.own) == dict.fromkeys(
        ("cpus", "memory"), str(service)
    )


def test_controllers_are_handed_down_where_nothing_is_in_the_way(unified):
    unified("", own=False)
    service = unified("user.service")
    unified("user.service/shell.scope", processes="4711\n")
    unified.own.write_text("0::/user.service/shell.scope\n")
    assert outlook(root=unified.root, own=unified.own) == {"cpus": "", "memory": ""}
    assert (service / "cgroup.subtree_control").read_text() == "", "who only looks changes nothing"
    find(["memory"], root=unified.root, own=unified.own)
    assert (service / "cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.parametrize(
    ("service", "why"),
    [
        ({"own": False}, "not this user's"),
        ({"processes": "4712\n"}, "has processes of its own"),
        ({"has": "pids"}, "no controller memory"),
    ],
)
def test_why_there_is_none(unified, service, why):
    unified("", own=False)
    unified("user.service", **service)
    unified.own.write_text("0::/user.service\n")
    with pytest.raises(NotAllowedError, match=why):
        find(["memory"], root=unified.root, own=unified.own)
    assert why in outlook(root=unified.root, own=unified.own)["memory"]


def test_no_control_groups_at_all(tmp_path):
    with pytest.raises(NotAllowedError, match="no control groups"):
        find(["cpus"], root=tmp_path, own=tmp_path / "none")
    (tmp_path / "own").write_text("1:name=systemd:/\n")
    with pytest.raises(NotAllowedError, match="no control groups for cpus"):
        find(["cpus"], root=tmp_path, own=tmp_path / "own")


def test_version_1_has_a_hierarchy_for_each(tmp_path):
    (tmp_path / "cpu,cpuacct" / "mine").mkdir(parents=True)
    (tmp_path / "memory").mkdir()
    (tmp_path / "own").write_text("4:memory:/elsewhere\n3:cpu,cpuacct:/mine\n")
    found = find(["cpus", "memory"], root=tmp_path, own=tmp_path / "own")
    assert found == {"cpus": str(tmp_path / "cpu,cpuacct" / "mine"), "memory": str(tmp_path / "memory")}


def test_what_is_written(tmp_path, monkeypatch):
    """The kernel makes the files of a group with its folder; here they are made beforehand."""
    second, first = tmp_path / "second" / "t", tmp_path / "first" / "t"
    for folder, names in (
        (second, ("cpu.max", "memory.max", "memory.swap.max")),
        (first, ("cpu.cfs_period_us", "cpu.cfs_quota_us", "memory.limit_in_bytes")),
    ):
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    assert make(dict.fromkeys(("cpus", "memory"), str(second.parent)), "t", 1.5, 300) == [str(second)]
    make(dict.fromkeys(("cpus", "memory"), str(first.parent)), "t", 0.5, 200)
    written = {path.name: path.read_text() for folder in (second, first) for path in folder.iterdir()}
    assert written == {
        "cpu.max": "150000 100000",
        "memory.max": str(300 * MB),
        "memory.swap.max": "0",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "memory.limit_in_bytes": str(200 * MB),
    }
    make({"memory": str(second.parent)}, "t", 1.5, 0)
    assert (second / "memory.max").read_text() == str(300 * MB), "no limit was asked for"
    remove({"memory": str(tmp_path / "none")}, "t")


def test_limits_that_cannot_be_set_are_refused_and_doctor_says_so(make_rm, allocation, state_dir, monkeypatch):
    def no(limits, **_):
        raise NotAllowedError("/sys/fs/cgroup is not this user's")

    monkeypatch.setattr(cgroups, "find", no)
    rm = make_rm(limits=("memory",))
    assert "memory" in rm.offers.limits
    with pytest.raises(SubmissionRefusedError, match="not this user's") as caught:
        rm.submit(allocation("true"))
    assert "Delegate=yes" in caught.value.remedy
    assert not [*state_dir.glob("rm-standalone/*")]
    failed = check_limits("limits", ["memory"], outlook())
    assert (failed.result, bool(failed.remedy)) == ("failed", True)
    assert check_limits("limits", [], outlook()).result == "skipped"
    assert check_limits("limits", ["cpus"], {"cpus": "", "memory": "no"}).result == "ok"


def test_a_group_that_the_launcher_before_removes_at_this_moment_is_made_again(tmp_path, monkeypatch):
    real = cgroups.make

    def kernel(*words):
        folders = real(*words)
        (tmp_path / "twister2-j-0" / "cgroup.procs").touch()
        return folders

    monkeypatch.setattr(cgroups, "make", kernel)
    monkeypatch.setattr(os, "_exit", sys.exit)
    launcher = Launcher.__new__(Launcher)
    launcher.order = {"job_id": "j", "cgroups": {"memory": str(tmp_path)}, "wants": {"0": [1.0, 0]}, "bindings": {}}
    launcher.cgroups = cgroups
    folders = launcher._group(0)
    shutil.rmtree(folders[0])
    launcher._confine(0, folders)
    assert (tmp_path / "twister2-j-0" / "cgroup.procs").read_text() == "0"


def test_groups_of_slots_that_a_smaller_job_has_no_more_are_removed(tmp_path):
    """What the launcher could not remove, because something of the copy was about to end."""
    agent = Agent({"job_id": "j", "folder": str(tmp_path / "state")})
    agent._folder.create()
    slots = {"0": 1, "1": 1}
    record = {"slots": [0, 1], "attempts": slots, "wants": slots, "cgroups": {"memory": str(tmp_path)}}
    record |= {"place": procfs.place(), "logs": "", "warnings": [], "n_workers": 2}
    agent._folder.write_json("allocation.json", record)
    for slot in slots:
        (tmp_path / f"twister2-j-{slot}").mkdir()
    agent.answer({"do": "forget", "slots": [1, 2], "grace_s": 0.0})
    assert [path.name for path in tmp_path.glob("twister2-*")] == ["twister2-j-0"]
    agent._manager.clean(agent._handle)
    assert not [*tmp_path.glob("twister2-*")]


EATS = """
import os, sys
open(sys.argv[1] + "/new", "w").write(open("/proc/self/cgroup").read())
os.rename(sys.argv[1] + "/new", sys.argv[1] + "/group")
kept = [bytes(range(256)) * 4096 for _ in range(400)]
"""


@pytest.mark.skipif(bool(outlook()["memory"]), reason=f"no limits here: {outlook()['memory']}")
def test_a_copy_that_takes_more_memory_is_ended_and_no_group_stays(make_rm, allocation, tmp_path):
    rm = make_rm(limits=("memory", "cpus") if not outlook()["cpus"] else ("memory",))
    groups = (ResourceGroup("worker", 1, cpus=0.5, memory_mb=100),)
    handle = rm.submit(allocation(sys.executable, "-c", EATS, str(tmp_path), groups=groups))
    try:
        wait_until(lambda: rm.state(handle).state is JobState.FAILED, 60, lambda: str(rm.state(handle)))
        assert rm.state(handle).slots == {0: "exited 137 (SIGKILL)"}
        assert f"/twister2-{handle.job_id}-0" in (tmp_path / "group").read_text()
        places = cgroups.find(["memory"])
    finally:
        rm.kill(handle, 0.5)
        rm.clean(handle)
        rm.close()
    assert not [name for name in os.listdir(places["memory"]) if handle.job_id in name]


MEMBERS = """
def main(env):
    if env.worker_id == 1:
        kept = [bytes(range(256)) * 4096 for _ in range(2000)]
    env.barrier("all")
"""


@pytest.mark.skipif(bool(outlook()["memory"]), reason=f"no limits here: {outlook()['memory']}")
def test_a_job_is_told_that_the_kernel_has_ended_a_worker_for_lack_of_memory(tmp_path):
    with Jobs(tmp_path) as jobs:
        options = ('rm.standalone.limits=["memory"]', "job.memory_mb=300", "job.attempts=2")
        words = [word for option in options for word in ("-o", option)]
        done = jobs.submit(jobs.program(MEMBERS), *words)
        assert done.code != 0, done
        assert "[T2-J402] worker 1 was ended by the kernel: out of memory (limit 300 MiB)" in done.err, done
        assert "2 attempts were made, the last ended so (job.attempts = 2)" in done.err, done
        assert "give workers more memory (job.memory_mb)" in done.err, done
