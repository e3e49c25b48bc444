"""Which job a user means."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest

from twister2.cli.jobs import folders
from twister2.client import records
from twister2.spec.errors import JobNotFoundError

IDS = ("words-1-aa", "words-2-bb", "pages-1-cc")


@pytest.fixture(params=[1, 3], ids=["one job", "three jobs"])
def ids(request, monkeypatch):
    """Some jobs, oldest first; the name of each is the first word of its id."""
    ids = IDS[: request.param]
    jobs = [SimpleNamespace(record=SimpleNamespace(job_id=job, name=job.split("-")[0])) for job in ids]
    monkeypatch.setattr(records, "all_jobs", lambda states: jobs)
    return ids


def found(tmp_path, text):
    return records.find_job([tmp_path], text).record.job_id


def test_last_name_and_the_beginning_of_an_id(tmp_path, ids):
    assert found(tmp_path, "last") == ids[-1]
    assert found(tmp_path, "words") == [job for job in ids if job.startswith("words")][-1], "the latest of that name"
    assert found(tmp_path, "words-1") == "words-1-aa"


@pytest.mark.parametrize("text", ["", "nonesuch", "words-1-aax"])
def test_what_names_no_job(tmp_path, ids, text):
    """Nothing least of all: a shell's variable that is not set would end or remove the only job."""
    with pytest.raises(JobNotFoundError, match=repr(text) if text else "no job was named"):
        found(tmp_path, text)


def test_several_are_named(tmp_path, ids):
    if len(ids) == 1:
        assert found(tmp_path, "w") == ids[0]
        return
    with pytest.raises(JobNotFoundError, match="'w' is not one job") as caught:
        found(tmp_path, "w")
    assert "words-1-aa, words-2-bb" in caught.value.why
    assert "pages" not in caught.value.why


def test_jobs_of_several_state_folders_are_one_list(tmp_path):
    states = [tmp_path / name for name in ("usual", "of a profile", "not made yet")]
    for number, (state, job) in enumerate(zip([states[1], states[0], states[1]], IDS, strict=True)):
        folder = state / "jobs" / job
        folder.mkdir(parents=True)
        record = records.JobRecord(
            job, job.split("-")[0], "p.py", 1, "lab", {"rm": "standalone", "job_id": job, "native_id": ""},
            (), True, "", "", {}, {}, started=float(number),
        )  # fmt: skip
        record.write(folder)
    assert [job.record.job_id for job in records.all_jobs(states)] == list(IDS), "oldest first"
    for text, job in (("last", IDS[2]), ("words", IDS[1]), (IDS[0], IDS[0]), ("pag", IDS[2])):
        assert records.find_job(states, text).record.job_id == job, text
    with pytest.raises(JobNotFoundError, match="no job 'nonesuch'") as caught:
        records.find_job(states, "nonesuch")
    assert caught.value.why.startswith("3 jobs are recorded in ")
    assert all(str(state / "jobs") in caught.value.why for state in states)
    assert "--state-dir" in caught.value.remedy


def test_a_profile_whose_folder_cannot_be_hides_no_jobs(tmp_path, monkeypatch):
    (tmp_path / "twister2.toml").write_text('[profile.theirs.job]\nstate_dir = "~nobody-of-this-name/jobs"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert folders(argparse.Namespace(state_dir="")) == [tmp_path / "state" / "twister2"]
