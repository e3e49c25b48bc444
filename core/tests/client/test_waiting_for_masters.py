"""A client waits for a master in the allocation: in the queue as long as it may, then for its start."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.client import masters
from twister2.spec.errors import DeadlineError, JobFailedError, JobKilledError, ResourceError
from twister2.spec.rm import JobHandle, JobState, JobStatus, LogChunk

WAITS = JobStatus(JobState.QUEUED, "waits for free nodes (Resources)")
RUNS = JobStatus(JobState.RUNNING)
DOWN = ResourceError("Slurm's controller does not answer", why="socket timed out", remedy="wait")


class Cluster:
    """Its manager says what a function of the time says; the master can be reached from ``there_at`` on."""

    def __init__(self, folder: Path, says: Callable[[float], JobStatus], there_at: float = float("inf")) -> None:
        self.now, self.looks, self.told = 0.0, list[float](), list[str]()
        self._says, self._there_at = says, there_at
        self.backend: Any = SimpleNamespace(offers=SimpleNamespace(), state=self.state, logs=lambda handle: [])
        self.folder = folder
        self.reached = object()

    def state(self, handle: JobHandle) -> JobStatus:
        self.looks.append(self.now)
        assert len(self.looks) < 100_000, "it waits for ever"
        return self._says(self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def connected(self) -> Any:
        if self.now < self._there_at:
            raise ResourceError("it has published no address", why="a test", remedy="wait")
        return self.reached


Dial = Callable[..., Any]


@pytest.fixture
def dial(monkeypatch: pytest.MonkeyPatch) -> Dial:
    """Wait for the master of a cluster, whose clock goes on while the client pauses."""

    def dial(cluster: Cluster, queue_deadline_s: float = 0.0) -> Any:
        job = SimpleNamespace(queue_deadline_s=queue_deadline_s, start_deadline_s=120.0)
        prepared = SimpleNamespace(backend=cluster.backend, job=job, folder=cluster.folder)
        master = masters.AllocationMaster(prepared)  # type: ignore[arg-type]
        master.tell(JobHandle("slurm", "job-1", "7"))
        monkeypatch.setattr(master, "_connected", cluster.connected)
        clock = SimpleNamespace(monotonic=lambda: cluster.now, sleep=cluster.sleep)
        monkeypatch.setattr("twister2.client.masters.time", clock)
        return master.dial(lambda state, reason: cluster.told.append(f"{state.value} {reason}"))

    return dial


def test_the_start_deadline_begins_where_the_queue_ends(dial: Dial, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, lambda now: WAITS if now < 9000 else RUNS, there_at=9100)
    assert dial(cluster) is cluster.reached
    # its workers are still to come, and "running" would go back to "starting" when the master says so
    assert cluster.told == ["queued waits for free nodes (Resources)", "starting "]


def test_a_master_that_does_not_come_is_given_up(dial: Dial, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, lambda now: WAITS if now < 9000 else RUNS)
    cluster.backend.logs = lambda handle: [LogChunk(-1, "stderr", "it may not read its note\n")]
    with pytest.raises(DeadlineError, match="within 120 s") as caught:
        dial(cluster)
    assert "it may not read its note" in caught.value.why
    assert 9120 <= cluster.now < 9140


def test_a_job_that_is_put_back_into_the_queue_waits_there_anew(dial: Dial, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, lambda now: RUNS if 50 <= now < 100 else WAITS)
    with pytest.raises(DeadlineError, match="in the queue for longer than 200 s") as caught:
        dial(cluster, queue_deadline_s=200.0)
    assert "free nodes (Resources)" in caught.value.why
    assert "job.queue_deadline_s" in caught.value.remedy
    assert 300 <= cluster.now < 320


@pytest.mark.parametrize("state", [WAITS, RUNS])
def test_a_manager_that_is_away_for_a_while_has_not_ended_the_job(dial: Dial, tmp_path: Path, state: JobStatus) -> None:
    def says(now: float) -> JobStatus:
        if 10 <= now < 60:
            raise DOWN
        return state

    cluster = Cluster(tmp_path, says, there_at=100)
    assert dial(cluster) is cluster.reached
    known = "starting " if state is RUNS else "queued "
    assert cluster.told == [
        known + state.reason,
        known + "the resource manager cannot be asked: Slurm's controller does not answer (socket timed out)",
        known + state.reason,
    ]


def test_a_job_that_its_manager_no_longer_knows_has_ended(dial: Dial, tmp_path: Path) -> None:
    gone = JobStatus(JobState.UNKNOWN, "what Slurm had of it was cleaned away")
    cluster = Cluster(tmp_path, lambda now: WAITS if now < 20 else gone)
    with pytest.raises(JobFailedError, match="was cleaned away"):
        dial(cluster)
    assert cluster.now < 25


def test_one_that_is_not_known_for_a_moment_has_not(dial: Dial, tmp_path: Path) -> None:
    gone = JobStatus(JobState.UNKNOWN)
    cluster = Cluster(tmp_path, lambda now: gone if int(now) % 20 < 2 else WAITS, there_at=500)
    assert dial(cluster) is cluster.reached


def test_a_job_that_another_shell_has_killed_while_it_waited(dial: Dial, tmp_path: Path) -> None:
    """What that shell wrote down tells more than a manager that has forgotten the job."""

    def says(now: float) -> JobStatus:
        if now < 20:
            return WAITS
        killed = JobKilledError("the job was killed", why="twister2 kill", remedy="none").to_dict()
        (tmp_path / "state.json").write_text(json.dumps({"state": "killed", "error": killed}))
        return JobStatus(JobState.UNKNOWN)

    cluster = Cluster(tmp_path, says)
    with pytest.raises(JobKilledError, match="twister2 kill"):
        dial(cluster)
    assert cluster.now < 25


def test_a_master_that_has_ended_its_job_soon_may_still_tell_of_it(dial: Dial, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"state": "completed", "error": None}))
    cluster = Cluster(tmp_path, lambda now: RUNS, there_at=2)
    assert dial(cluster) is cluster.reached


def test_who_has_waited_long_asks_seldom(dial: Dial, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, lambda now: WAITS if now < 3600 else RUNS, there_at=3601)
    with contextlib.suppress(DeadlineError):
        dial(cluster)
    assert len([at for at in cluster.looks if at < 5]) >= 40
    assert len(cluster.looks) < 2200
    assert max(later - at for at, later in zip(cluster.looks, cluster.looks[1:], strict=False)) < 2.1
