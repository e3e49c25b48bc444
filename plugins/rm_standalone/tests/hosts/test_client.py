"""The client's side of jobs on hosts, without any host."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import tempfile
from pathlib import Path

import attrs
import pytest

import twister2
from twister2.spec.errors import ResourceError
from twister2.spec.rm import Allocation, JobHandle, JobState, ResourceGroup, RmContext
from twister2_rm_standalone.config import StandaloneConfig
from twister2_rm_standalone.hosts import fleet
from twister2_rm_standalone.hosts.bootstrap import MARK
from twister2_rm_standalone.hosts.manager import HostsManager, _owners
from twister2_rm_standalone.hosts.merge import merged
from twister2_rm_standalone.hosts.ssh import LEFT_S, Ssh


class Fleet:
    """Hosts that do whatever they are asked, or nothing."""

    def __init__(self, error=None):
        self.error, self.asked = error, []

    def ask(self, requests, timeout_s, *, patient=True):
        self.asked += [request["do"] for request in requests.values()]
        if self.error is not None:
            return {}, dict.fromkeys(requests, self.error)
        return {host: {"warnings": []} for host in requests}, {}

    def hang_up(self, hosts):
        self.asked.append("hang up")


def manager(tmp_path, monkeypatch, fleet):
    made = HostsManager(StandaloneConfig(hosts=("h1",)), RmContext(str(tmp_path)))
    monkeypatch.setattr(made, "_fleet", lambda job_id: fleet)
    return made


def allocation(tmp_path):
    groups = (ResourceGroup("worker", 1),)
    return Allocation("job-1", "x", groups, ("true",), (), {}, b"t", b"", str(tmp_path / "jobs" / "job-1"))


def test_a_job_that_is_submitted_while_an_error_is_dealt_with_stays(tmp_path, monkeypatch):
    fleet = Fleet()
    rm = manager(tmp_path, monkeypatch, fleet)
    try:
        raise ValueError("the first try")
    except ValueError:
        rm.submit(allocation(tmp_path))
    assert fleet.asked == ["begin"]


def test_a_submission_that_fails_is_taken_back_on_all_hosts(tmp_path, monkeypatch):
    fleet = Fleet(ResourceError("no", why="", remedy=""))
    with pytest.raises(ResourceError, match="no"):
        manager(tmp_path, monkeypatch, fleet).submit(allocation(tmp_path))
    assert fleet.asked == ["begin", "kill", "clean", "hang up"]


def test_a_slot_belongs_to_the_host_that_has_it_now():
    """A job that became smaller and larger again may have a slot on another host than at first."""
    handle = JobHandle("standalone", "job-1", "h1,h2,h3", {"shares": {"h1": [0, 1, 2], "h2": [3, 4], "h3": [5]}})
    replies = {
        "h1": {"known": True, "attempts": {"0": 1, "1": 1}},
        "h2": {"known": True, "attempts": {"2": 1, "3": 1}},
    }
    assert _owners(handle, replies) == {0: "h1", 1: "h1", 2: "h2", 3: "h2", 5: "h3"}
    replies["h1"] = {"known": False, "attempts": {}}  # it has lost what it knew
    assert _owners(handle, replies) == {0: "h1", 1: "h1", 2: "h2", 3: "h2", 5: "h3"}
    replies["h1"] = {"known": True, "attempts": {"2": 1}}
    replies["h2"]["attempts"]["2"] = 2
    assert _owners(handle, replies)[2] == "h2"


def test_hosts_whose_slots_were_all_given_up_say_nothing_of_the_job():
    handle = JobHandle("standalone", "job-1", "h1,h2", {"n_workers": 2})
    gone = {"known": True, "attempts": {}, "slots": {}, "state": "failed", "reason": "slot 1 exited 143 (SIGTERM)"}
    runs = {"known": True, "attempts": {"0": 1}, "slots": {"0": "running"}, "state": "running", "reason": ""}
    ended = runs | {"slots": {"0": "exited 0"}, "state": "completed"}
    assert merged(handle, {"h1": runs, "h2": gone}, {}).state is JobState.RUNNING
    assert merged(handle, {"h1": ended, "h2": gone}, {}).state is JobState.COMPLETED
    away = merged(handle, {"h2": gone}, {"h1": ResourceError("h1 does not answer", why="", remedy="")})
    assert (away.state, away.reason) == (JobState.RUNNING, "h1 does not answer")


def test_slots_whose_host_is_lost_want_what_the_last_group_wants(tmp_path):
    made = HostsManager(StandaloneConfig(hosts=("h1",)), RmContext(str(tmp_path)))
    group = {"name": "w", "count": 2, "cpus": 3.0, "memory_mb": 500, "disk_mb": 0, "gpus": 0}
    handle = JobHandle("standalone", "job-1", "h1", {"job": {"groups": [group]}})
    request = made._start_request(handle, [1, 2, 3], 2, b"t", do="start", wants={2: (4.0, 600)})
    wanted = [(each["count"], each["cpus"], each["memory_mb"]) for each in request["groups"]]
    assert wanted == [(1, 3.0, 500), (1, 4.0, 600), (1, 3.0, 500)]


SSH = """#!{python}
import json, sys

def say(message):
    print("\\n{mark}" + json.dumps(message), flush=True)

sys.stdin.readline()
say({{"python": "%d.%d.%d" % sys.version_info[:3], "core": "{core}"}})
for line in sys.stdin:
    request = json.loads(line)
    with open("{log}", "a") as file:
        print(request["do"], file=file)
    if request["do"] == "begin":
        break
    say({{"id": request["id"], "reply": {{"left": [], "logs": {{}}}}}})
"""


def test_what_a_host_has_begun_when_its_connection_breaks_is_taken_back(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="t2-", dir="/tmp") as base:
        monkeypatch.setattr(tempfile, "tempdir", base)
        ssh, log = tmp_path / "ssh", tmp_path / "log"
        ssh.write_text(SSH.format(python=sys.executable, mark=MARK, core=twister2.__version__, log=log))
        ssh.chmod(0o755)
        rm = HostsManager(StandaloneConfig(hosts=("h1",), ssh=(str(ssh),)), RmContext(str(tmp_path)))
        with pytest.raises(ResourceError, match="the connection to host h1 broke"):
            rm.submit(allocation(tmp_path))
        rm.close()
        assert log.read_text().split() == ["begin", "kill", "clean"]


def test_a_host_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    """Far from any other deadline: what ends the wait is the time that a host has for its first word."""
    with tempfile.TemporaryDirectory(prefix="t2-", dir="/tmp") as base:
        monkeypatch.setattr(tempfile, "tempdir", base)
        monkeypatch.setattr(fleet, "HELLO_S", 0.3)
        ssh, log = tmp_path / "ssh", tmp_path / "log"
        ssh.write_text(f'#!/bin/sh\necho "$@" >{log}\nexec sleep 600\n')
        ssh.chmod(0o755)
        rm = HostsManager(
            StandaloneConfig(hosts=("h1",), ssh=(str(ssh),), connect_s=3), RmContext(str(tmp_path), 1000.0)
        )
        with pytest.raises(ResourceError, match=r"host h1 gave no answer within 3\.3 s"):
            rm.submit(allocation(tmp_path))
        rm.close()
        assert "ConnectTimeout=3 " in log.read_text()


def test_hosts_cannot_choose_which_files_are_written_here(tmp_path, monkeypatch):
    logs = tmp_path / "jobs" / "job-1" / "slots"
    logs.parent.mkdir(parents=True)
    handle = JobHandle("standalone", "job-1", "h1", {"logs": str(logs)})
    rm = manager(tmp_path, monkeypatch, Fleet())
    names = ("slot-0.log", "launcher.log", "../record.json", f"{tmp_path}/evil", "slot-0.log/../../x", "slot-1.log\n")
    rm._keep(handle, "h1", dict.fromkeys(names, "text\n"))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"jobs/job-1/slots/slot-0.log", "jobs/job-1/slots/launcher.log"}


def test_a_dry_run_shows_the_command_for_each_host_and_leaves_nothing(tmp_path):
    options = {"ssh": ("true", "-F", "my lab.conf"), "python": "/opt/bin/python", "prologue": ("module load 'x'",)}
    config = StandaloneConfig(hosts=("h1:1", "me@h2"), **options)
    wanted = attrs.evolve(allocation(tmp_path), groups=(ResourceGroup("worker", 3),), environment={"COLOUR": "a b"})
    text = HostsManager(config, RmContext(str(tmp_path))).render(wanted)
    assert "# h1: slots 0 to 0\n" in text
    assert "# me@h2: slots 1 to 2\n" in text
    ssh = Ssh(config, wanted.job_id)
    assert not os.path.exists(ssh.folder)
    words = shlex.split(text, comments=True)
    for host in ("h1", "me@h2"):
        command = ssh.command(host, ssh.python())
        at = words.index(host) + 2 - len(command)
        assert words[at : at + len(command)] == command
    assert words[-5:] == ["export", "COLOUR=a b", "export", "TWISTER2_JOB=job-1", "true"]
    ssh.hang_up([])


def test_folders_of_connections_whose_processes_were_killed_are_tidied_away(monkeypatch):
    mine = f"t2ssh-{os.getuid()}"
    with tempfile.TemporaryDirectory(prefix="t2-", dir="/tmp") as base, socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.setattr(tempfile, "tempdir", base)
        for name in ("empty", "deaf", "used", "fresh"):
            Path(base, f"{mine}-{name}").mkdir(mode=0o700)
        Path(base, "t2ssh-other").mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(f"{base}/{mine}-deaf/s")
        listening.bind(f"{base}/{mine}-used/s")
        listening.listen()
        for path in Path(base).iterdir():
            if not path.name.endswith("fresh"):
                os.utime(path, (0, path.stat().st_mtime - LEFT_S - 1))
        ssh = Ssh(StandaloneConfig(hosts=("h1",), ssh=(sys.executable,)), "job-1")
        assert f"ControlPath={ssh.folder}/" in " ".join(ssh.command("h1", "true"))
        left = {path.name.removeprefix(f"{mine}-") for path in Path(base).iterdir()}
        assert left == {"used", "fresh", "t2ssh-other", Path(ssh.folder).name.removeprefix(f"{mine}-")}


def test_a_job_whose_hosts_cannot_be_asked_is_not_gone(tmp_path, monkeypatch):
    fleet = Fleet()
    away = {"h1": ResourceError("h1 does not answer", why="", remedy="")}
    answers = [({"h2": {"known": False, "attempts": {}}}, away), ({"h2": {"known": False, "attempts": {}}}, {})]
    monkeypatch.setattr(fleet, "ask", lambda *_, **__: answers.pop(0))
    rm = manager(tmp_path, monkeypatch, fleet)
    handle = JobHandle("standalone", "job-1", "h1,h2", {"hosts": ["h1", "h2"], "n_workers": 1})
    with pytest.raises(ResourceError, match="h1 does not answer"):
        rm.state(handle)
    assert rm.state(handle).state is JobState.UNKNOWN
