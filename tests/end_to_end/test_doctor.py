"""``twister2 doctor``: a profile that works, what is wrong with one that does not, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twister2.client import doctor
from twister2.spec.errors import ResourceError
from twister2_testkit.jobs import Jobs


def results(text: str) -> dict[str, str]:
    return {check["name"]: check["result"] for check in json.loads(text)}


def test_a_profile_that_works(jobs: Jobs) -> None:
    done = jobs.cli("doctor", "standalone")
    assert done.code == 0, done
    for text in (
        "ok       job of one worker: it ran on",
        "ok       plugins on a worker: all that jobs need are there: rm standalone, comm shm",
        "ok       Python of a worker: 3.",
    ):
        assert text in done.out, done
    assert not jobs.folders(), "the job of doctor is left"


def test_groups_of_a_profile_are_one_worker_for_doctor(jobs: Jobs) -> None:
    tables = "[profile.mine.job]\nrm = 'standalone'\n[profile.mine.job.groups.big]\ncpus = 64\ncount = 3\n"
    (jobs.folder / "twister2.toml").write_text(tables)
    done = jobs.cli("doctor", "mine", "--json")
    assert done.code == 0, done
    found = results(done.out)
    assert (found["job of one worker"], found["resources of a worker"]) == ("ok", "warning"), done


def test_what_is_wrong_is_said_with_what_to_do(jobs: Jobs) -> None:
    too_much = jobs.cli("doctor", "standalone", "-o", "job.memory_mb=100000000")
    assert too_much.code == 1, too_much
    assert "failed   job of one worker: " in too_much.out, too_much
    assert "do not fit the free memory" in too_much.out, too_much
    assert "         try: ask for fewer workers or less memory" in too_much.out, too_much
    elsewhere = jobs.cli("doctor", "standalone", "-o", "job.python=/no/such/python", "--deadline", "20")
    assert elsewhere.code == 1, elsewhere
    assert "failed   job of one worker: worker 0 ended before it could join" in elsewhere.out, elsewhere
    nobody = jobs.cli("doctor", "standalon", "--json")
    assert nobody.code == 1, nobody
    assert results(nobody.out) == {"configuration": "failed"}
    assert not jobs.folders()


def test_what_is_left_of_a_job_that_failed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = ResourceError("something of it is left", why="nobody answers", remedy="clean it later")
    monkeypatch.setattr(doctor, "_cleaned", lambda submission: left)
    settings = (f"job.state_dir={tmp_path}", "job.memory_mb=100000000")
    found = doctor.examine("standalone", files=[], settings=settings, job=True, deadline_s=5)
    checks = {check.name: check for check in found}
    assert checks["job of one worker"].result == "failed"
    assert checks["clean-up"].result == "warning"
    assert "nobody answers" in checks["clean-up"].finding


def test_looking_only(jobs: Jobs) -> None:
    done = jobs.cli("doctor", "standalone", "--no-job", "--json")
    assert done.code == 0, done
    found = results(done.out)
    assert found["job of one worker"] == "skipped", done
    assert "resources of a worker" not in found
