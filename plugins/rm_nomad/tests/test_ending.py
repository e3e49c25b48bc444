"""How copies are told to end, one by one. No Nomad is needed."""

from __future__ import annotations

import pytest

from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobHandle, RmContext
from twister2_rm_nomad import copies, manager
from twister2_rm_nomad.config import NomadConfig
from twister2_rm_nomad.manager import NomadManager
from twister2_rm_nomad.states import Copy

pytestmark = pytest.mark.timeout(60)
HANDLE = JobHandle("nomad", "job-1", "twister2-job-1", {})


class Clock:
    """Time passes when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(manager, "time", made)
    return made


class Slow(NomadManager):
    """Every request takes a tenth of a second; a copy ends when it has heard the last of ``ends_by``."""

    def __init__(self, tmp_path, n, ends_by, timeout_s, dead=False):
        super().__init__(NomadConfig(poll_s=0.01), RmContext(str(tmp_path), timeout_s))
        self.ends_by, self.dead, self.heard = ends_by, dead, {f"a{slot}": [] for slot in range(n)}

    def running(self):
        return [
            Copy(slot, {"ID": name, "NodeName": "n1"})
            for slot, (name, heard) in enumerate(self.heard.items())
            if self.ends_by not in heard
        ]

    def _signal(self, alloc, name):
        manager.time.sleep(0.1)
        if not self.dead:
            self.heard[alloc].append(name)
        return not self.dead


@pytest.mark.parametrize(("ends_by", "told"), [(copies.TELL, [copies.TELL]), (copies.KILL, [copies.TELL, copies.KILL])])
def test_the_time_that_requests_take_is_not_that_of_copies(tmp_path, ends_by, told):
    """All ten have heard it after a second, which is twice as long as they may take."""
    slow = Slow(tmp_path, 10, ends_by, timeout_s=0.4)
    slow._end(HANDLE, slow.running, 0.1, tell=True)
    assert list(slow.heard.values()) == [told] * 10


def test_copies_that_hear_nothing_are_given_up_in_time_with_their_nodes(tmp_path, clock):
    slow = Slow(tmp_path, 2, copies.KILL, timeout_s=0.5, dead=True)
    with pytest.raises(ResourceError, match="2 copies of job job-1 have not ended") as caught:
        slow._end(HANDLE, slow.running, 0.1, tell=False)
    assert "(n1)" in caught.value.why
    assert clock.now < 1001.0
