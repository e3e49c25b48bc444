"""What is wrong with a host is said in a sentence with the remedy, within seconds, and nothing stays anywhere."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from twister2.spec.errors import MissingToolError, ResourceError, ResourcesExceededError, Twister2Error
from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_standalone.config import StandaloneConfig
from twister2_rm_standalone.hosts.ssh import failure, unfit
from twister2_rm_standalone.plugin import StandalonePlugin
from twister2_testkit.processes import wait_until


def backend(config, tmp_path):
    return StandalonePlugin().rm_create(config=config, context=RmContext(str(tmp_path / "state")))


def allocation(tmp_path, n=3, **changes):
    job_id = f"err-{uuid.uuid4().hex[:12]}"
    values = {
        "job_id": job_id,
        "name": "err",
        "groups": (ResourceGroup("worker", n, cpus=0.1),),
        "worker_command": ("sleep", "600"),
        "master_command": (),
        "environment": {},
        "ticket": b"a-ticket",
        "master_ticket": b"",
        "folder": str(tmp_path / "state" / "jobs" / job_id),
    }
    return Allocation(**{**values, **changes})


def refused(config, tmp_path, **changes):
    """The error of a submission."""
    rm = backend(config, tmp_path)
    with pytest.raises(Twister2Error) as caught:
        rm.submit(allocation(tmp_path, **changes))
    rm.close()
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.needs_hosts
@pytest.mark.timeout(180)
class TestHosts:
    def test_unreachable(self, rig, tmp_path):
        rig.do("kill", "h3")
        try:
            text = refused(rig.config(connect_s=8), tmp_path)
        finally:
            rig.do("boot", "h3")
        assert "h3" in text
        assert "cannot be reached" in text or "no answer" in text
        rig.until_nothing_is_left()

    def test_another_host_key(self, rig, tmp_path):
        rig.do("newkey", "h2")
        try:
            text = refused(rig.config(), tmp_path)
        finally:
            (rig.home / "h2" / "hostkey").unlink()
            rig.do("kill", "h2")
            rig.do("boot", "h2")
        assert "host h2 has another host key" in text
        assert "ssh-keygen -R h2" in text
        rig.until_nothing_is_left()

    def test_a_host_that_is_not_known(self, rig, tmp_path):
        text = refused(rig.config("h1", "no-such-host.invalid"), tmp_path, n=2)
        assert "host no-such-host.invalid is not known" in text
        rig.until_nothing_is_left()

    def test_a_user_who_may_not(self, rig, tmp_path):
        text = refused(rig.config("h1", "nobody@h2"), tmp_path, n=2)
        assert "nobody@h2 does not let this user in" in text
        assert "ssh-copy-id" in text

    def test_no_python_there(self, rig, tmp_path):
        text = refused(rig.config(python="/opt/none/bin/python"), tmp_path)
        assert "there is no Python at /opt/none/bin/python on host h1" in text
        assert "rm.standalone.python" in text
        assert "h3" in text

    def test_a_python_without_twister2(self, rig, tmp_path):
        folder = rig.home / "bare"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
        text = refused(rig.config("h1", python=str(folder / "bin" / "python")), tmp_path, n=1)
        assert f"twister2 is not installed for {folder}/bin/python" in text
        assert "pip install twister2" in text

    def test_too_many_for_the_hosts(self, rig, tmp_path):
        text = refused(rig.config("h1:1", "h2:1"), tmp_path, n=3)
        assert "3 workers do not fit the hosts" in text
        assert "h1:1, h2:1" in text

    def test_too_much_memory_is_said_with_the_host(self, rig, tmp_path):
        rm = backend(rig.config(), tmp_path)
        with pytest.raises(ResourcesExceededError, match="h1"):
            rm.submit(allocation(tmp_path, groups=(ResourceGroup("worker", 3, memory_mb=10_000_000),)))
        rm.close()
        rig.until_nothing_is_left()

    def test_a_shell_that_says_something_first_does_no_harm(self, rig, tmp_path):
        rm = backend(rig.config("h1", prologue=("echo Welcome to h1", "export FROM_PROLOGUE=1")), tmp_path)
        handle = rm.submit(allocation(tmp_path, n=1))
        assert "FROM_PROLOGUE=1" in rig.do("run", "h1", "sh", "-c", "cat /proc/[0-9]*/environ | tr '\\0' '\\n'")
        rm.kill(handle, 0.5)
        assert rm.clean(handle) == []
        rm.close()

    def test_killing_when_a_host_is_down_ends_the_others_and_says_so(self, rig, tmp_path):
        rm = backend(rig.config(connect_s=8), tmp_path)
        handle = rm.submit(allocation(tmp_path))
        rig.do("kill", "h2")
        try:
            with pytest.raises(ResourceError, match="could not be ended on h2"):
                rm.kill(handle, 0.5)

            def left():
                return [line for line in rig.processes("h1") + rig.processes("h3") if "sleep" in line]

            wait_until(lambda: not left(), 30, lambda: f"left: {left()}")
            assert "h2" in " ".join(rm.clean(handle))
        finally:
            rig.do("boot", "h2")
        rm.kill(handle, 0.5)
        assert rm.clean(handle) == []
        rm.close()
        rig.until_nothing_is_left()


@pytest.mark.needs_hosts
@pytest.mark.timeout(180)
def test_doctor_names_every_host_with_what_it_has_or_what_is_wrong(rig, tmp_path):
    rig.do("kill", "h2")
    try:
        config = rig.config("h1", "h2", "h3:100000", connect_s=8)
        checks = StandalonePlugin().rm_doctor(config=config, context=RmContext(str(tmp_path)))
    finally:
        rig.do("boot", "h2")
    found = {check.name: check for check in checks}
    assert found["host h1"].result == "ok"
    assert "CPUs" in found["host h1"].finding
    assert found["host h2"].result == "failed"
    assert found["host h2"].remedy
    assert found["host h3"].result == "warning"
    rig.until_nothing_is_left("h1", "h3")


def test_no_ssh(tmp_path):
    rm = backend(StandaloneConfig(hosts=("h1",), ssh=("no-such-ssh",)), tmp_path)
    with pytest.raises(MissingToolError, match="no-such-ssh is not there"):
        rm.submit(allocation(tmp_path, n=1))


@pytest.mark.parametrize(
    ("code", "said", "what"),
    [
        (255, "ssh: connect to host h1 port 22: Connection refused", "cannot be reached"),
        (255, "ssh: connect to host h1 port 22: No route to host", "cannot be reached"),
        (255, "me@h1: Permission denied (publickey).", "does not let this user in"),
        (255, "Host key verification failed.", "is not known here"),
        (255, "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.", "another host key"),
        (255, "ssh: Could not resolve hostname h1: Name or service not known", "host h1 is not known"),
        (127, "bash: line 1: /opt/python: No such file or directory", "no Python at /opt/python"),
        (126, "sh: 1: /opt/python: Permission denied", "no Python at /opt/python"),
        (1, "Traceback: ...", "ended before it said anything"),
    ],
)  # fmt: skip
def test_what_ssh_says_in_plain_words(code, said, what):
    error = failure("h1", code, said, "/opt/python")
    assert what in error.what
    assert error.remedy


@pytest.mark.parametrize(
    ("hello", "what"),
    [
        ({"python": "3.6.8", "executable": "/usr/bin/python3"}, "host h1 has Python 3.6.8, this is Python 3."),
        ({"python": None, "missing": "ModuleNotFoundError: No module named 'twister2'"}, "twister2 is not installed"),
        ({"python": None, "core": "0.0.1"}, "host h1 has twister2 0.0.1, this is"),
    ],
)
def test_an_interpreter_that_does_not_fit(hello, what):
    here = ".".join(map(str, sys.version_info[:3]))
    error = unfit("h1", {"executable": "/x/python", **hello, "python": hello["python"] or here})
    assert error is not None
    assert what in str(error)
    assert error.remedy
