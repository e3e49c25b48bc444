"""Commands about jobs when a record, a state file or a question is odd."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

PROGRAM = """
    def main(env):
        print("here", env.worker_id)
"""


def copies(jobs: Jobs) -> dict[str, Path]:
    """One job that has ended, and copies of it with something odd, by what that is."""
    assert jobs.submit(jobs.program(PROGRAM), workers=1).code == 0
    whole = jobs.job()
    record = json.loads((whole / "record.json").read_text())
    found = {"whole": whole}

    def copy(odd: str, **changes: object) -> Path:
        found[odd] = folder = whole.parent / f"{odd}-job"
        shutil.copytree(whole, folder)
        (folder / "record.json").write_text(json.dumps({**record, "job_id": folder.name, **changes}))
        return folder

    for odd, text in (("no-json", "{"), ("a-list", "[1]"), ("empty", "{}")):
        (copy(odd) / "record.json").write_text(text)
    copy("handle", handle={"what": 1})
    copy("pins", pins={"python": "3.11"})
    pins = json.loads(json.dumps(record["pins"]))
    for each in pins["records"]:
        each["version"] = "99.0"
    copy("versions", pins=pins)
    (copy("running", pins=pins) / "state.json").write_text('{"state": "running"}')
    (copy("nonsense-pins", pins=[]) / "state.json").write_text('{"state": "running"}')
    (copy("state") / "state.json").write_text('{"state": "dancing"}')
    return found


def test_odd_records_do_not_stop_the_others(jobs: Jobs) -> None:
    found = copies(jobs)
    listed = jobs.cli("list", "--json")
    assert listed.code == 0, listed
    states = {row["job"]: (row["state"], row["reason"]) for row in json.loads(listed.out)}
    assert states[found["whole"].name][0] == "completed"
    assert states["versions-job"][0] == "completed"
    assert states["running-job"][0] == "running"
    assert "99.0" in states["running-job"][1]
    assert "makes no sense" in states["nonsense-pins-job"][1]
    assert states["state-job"][0] != "dancing"
    named = jobs.cli("clean", "running-job", found["whole"].name)
    assert named.code == 2, named
    assert "running-job has not ended" in named.err
    assert "1 job cleaned" in named.out
    assert not found["whole"].exists()
    done = jobs.cli("clean", "--all")
    assert done.code == 0, done
    left = {path.name for path in jobs.folders()}
    assert {"running-job", "nonsense-pins-job"} <= left
    assert not {"versions-job", "pins-job"} & left
    for odd in ("no-json", "a-list", "empty", "handle"):
        assert f"left alone: {found[odd]}" in done.err
        assert found[odd].exists()


def test_small_questions(jobs: Jobs) -> None:
    program = jobs.program(PROGRAM)
    assert jobs.submit(program, workers=1).code == 0
    status = jobs.cli("status", "last")
    assert "standalone, 1 worker, attempt 1" in status.out
    logs = jobs.cli("logs", "last", "-w", "9")
    assert logs.code == 2, logs
    assert "has no worker 9" in logs.err
    assert "its workers are 0\n" in logs.err
    assert jobs.cli("logs", "last", "-w", "0").out == "here 0\n"
    shown = jobs.cli("config", "show", "nope")
    assert shown.code == 2, shown
    assert "there is no profile 'nope'" in shown.err


@pytest.mark.parametrize("words", [("hello.py",), ("-n", "2", "dir/hello.py:go"), ("hello.py", "argument")])
def test_a_forgotten_profile(jobs: Jobs, words: tuple[str, ...]) -> None:
    done = jobs.cli("submit", *words)
    assert done.code == 2, done
    program = next(word for word in words if ".py" in word)
    assert f"{program} is a program" in done.err
    assert f"twister2 submit standalone {program}" in done.err
    assert not jobs.folders()
