"""Which job a user means."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from twister2.client import records
from twister2.spec.errors import JobNotFoundError

IDS = ("words-1-aa", "words-2-bb", "pages-1-cc")


@pytest.fixture(params=[1, 3], ids=["one job", "three jobs"])
def ids(request, monkeypatch):
    """Some jobs, oldest first; the name of each is the first word of its id."""
    ids = IDS[: request.param]
    jobs = [SimpleNamespace(record=SimpleNamespace(job_id=job, name=job.split("-")[0])) for job in ids]
    monkeypatch.setattr(records, "all_jobs", lambda state: jobs)
    return ids


def found(tmp_path, text):
    return records.find_job(tmp_path, text).record.job_id


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
