"""What sacct says, in the shapes that releases of Slurm give it. A real one is asked in test_limits.py."""

from __future__ import annotations

import json

import pytest

from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobHandle, JobState, RmContext
from twister2_rm_slurm import accounting
from twister2_rm_slurm.commands import Answer
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plugin import SlurmPlugin
from twister2_rm_slurm.states import Row


def number(value):
    return {"set": value is not None, "infinite": False, "number": value or 0}


def told(*jobs, **more):
    return json.dumps({"meta": {"plugin": {"type": "openapi/x"}}, "errors": [], **more, "jobs": list(jobs)})


def plain(job_id, state, code, **more):
    """A job as 21.08 and 22.05 show it."""
    return {
        "account": "root",
        "comment": {"administrator": None, "job": "twister2:a /b", "system": None},
        "derived_exit_code": {"status": "SUCCESS", "return_code": 0},
        "exit_code": {"status": "SUCCESS", "return_code": code, **more},
        "job_id": job_id,
        "state": {"current": state, "reason": "None"},
        "steps": [{"exit_code": {"status": "ERROR", "return_code": 9}, "state": "FAILED"}],
    }


def listed(job_id, state, code, signal=None):
    """A job as 23.11 and later show it."""
    return {
        "account": "root",
        "exit_code": {
            "status": ["SUCCESS"],
            "return_code": number(code),
            "signal": {"id": number(signal), "name": "" if signal is None else "KILL"},
        },
        "job_id": job_id,
        "restart_cnt": 0,
        "state": {"current": [state], "reason": "None"},
        "steps": [],
    }


@pytest.mark.parametrize(
    ("job", "state", "exit_code"),
    [
        (plain(7, "COMPLETED", 0), "COMPLETED", (0, 0)),
        (plain(7, "FAILED", 3), "FAILED", (3, 0)),
        (plain(7, "CANCELLED", 0, signal={"signal_id": 15, "name": "TERM"}), "CANCELLED", (0, 15)),
        (listed(7, "FAILED", 3), "FAILED", (3, 0)),
        (listed(7, "OUT_OF_MEMORY", 0, 125), "OUT_OF_MEMORY", (0, 125)),
        ({"job_id": 7, "job_state": ["NODE_FAIL"], "exit_code": number(256)}, "NODE_FAIL", (1, 0)),
        ({"job_id": number(7), "state": "TIMEOUT"}, "TIMEOUT", None),
    ],
)
def test_shapes(job, state, exit_code):
    (row,) = accounting.parse_json(told(job)) or []
    assert (row.native_id, row.state, row.exit_code) == ("7", state, exit_code)


@pytest.mark.parametrize(
    "text", ["", "sacct: unrecognized option '--json'", "[]", '{"jobs": 3}', '{"jobs": [3]}', "{}"]
)
def test_what_is_no_answer(text):
    assert accounting.parse_json(text) is None


def test_jobs_that_say_nothing_are_passed_over():
    assert accounting.parse_json(told({}, {"job_id": 3}, {"state": {"current": []}, "job_id": 4})) == []


class Sacct:
    """Answers as sacct would, and notes what it was asked."""

    def __init__(self, json_text, lines="", code=0):
        self.asked, self.json_text, self.lines, self.code = [], json_text, lines, code

    def __call__(self, *arguments):
        self.asked.append(arguments)
        if "--json" in arguments:
            return Answer(0 if self.json_text else 1, self.json_text, "unrecognized option '--json'")
        return Answer(self.code, self.lines, "Slurm accounting storage is disabled")


def test_all_jobs_in_one_call():
    sacct = Sacct(told(plain(7, "COMPLETED", 0), listed(8, "FAILED", 2)))
    found = accounting.ask(sacct, ["7", "8", "9"])
    assert {key: row.state for key, row in found.items()} == {"7": "COMPLETED", "8": "FAILED"}
    assert [call[-1] for call in sacct.asked] == ["7,8,9"]


def test_lines_where_there_is_no_json():
    sacct = Sacct("", "7|COMPLETED|0:0\n8|CANCELLED by 5|0:15\n8.batch|FAILED|1:0\ngarbage\n")
    assert accounting.ask(sacct, ["7", "8"]) == {
        "7": Row("7", "COMPLETED", exit_code=(0, 0)),
        "8": Row("8", "CANCELLED by 5", exit_code=(0, 15)),
    }


def test_lines_where_the_json_of_22_05_hides_the_exit_code():
    sacct = Sacct(told(plain(7, "COMPLETED", 0), plain(8, "FAILED", 0)), "7|COMPLETED|0:0\n8|FAILED|3:0\n")
    assert accounting.ask(sacct, ["7", "8"])["8"] == Row("8", "FAILED", "None", exit_code=(3, 0))
    unanswered = Sacct(told(plain(8, "FAILED", 0)), code=1)
    assert accounting.ask(unanswered, ["8"])["8"].state == "FAILED"


def test_what_the_json_says_counts_where_the_lines_never_come():
    def sacct(*words):
        if "--json" in words:
            return Answer(0, told(plain(7, "COMPLETED", 0), plain(8, "FAILED", 0)), "")
        raise ResourceError("no answer", why="", remedy="")

    assert {name: row.state for name, row in accounting.ask(sacct, ["7", "8"]).items()} == {
        "7": "COMPLETED",
        "8": "FAILED",
    }


def test_without_accounting():
    assert accounting.ask(Sacct("", code=1), ["7"]) == {}

    def down(*_):
        raise ResourceError("sacct gave no answer", why="slurmdbd is down", remedy="try again")

    assert accounting.ask(down, ["7"]) == {}


@pytest.fixture
def slurm(tmp_path):
    """A backend whose Slurm has forgotten all jobs; sacct writes these texts, and each call of it a line."""

    def make(json_text):
        (tmp_path / "told").write_text(json_text)
        scripts = {"squeue": "true", "scontrol": "exit 1", "sacct": f"echo x >>{tmp_path}/calls; cat {tmp_path}/told"}
        for name, line in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
            (tmp_path / name).chmod(0o755)
        return SlurmPlugin().rm_create(SlurmConfig(bin=str(tmp_path)), RmContext(str(tmp_path)))

    return make


def test_several_forgotten_jobs_are_asked_for_once(slurm, tmp_path):
    handles = [JobHandle("slurm", f"job-{n}", str(n), {"folder": f"/nowhere/{n}"}) for n in (7, 8, 9)]
    backend = slurm(told(plain(7, "COMPLETED", 0), listed(8, "FAILED", 3)))
    assert backend.state(handles[0]).state is JobState.COMPLETED
    asked = len((tmp_path / "calls").read_text())
    assert backend.state(handles[0]).state is JobState.COMPLETED
    assert len((tmp_path / "calls").read_text()) == asked
    assert "exit code 3" in backend.state(handles[1]).reason
    assert backend.state(handles[2]).state is JobState.UNKNOWN


@pytest.mark.parametrize(
    ("code", "outcome", "state"),
    [("0", "", JobState.COMPLETED), ("3", "", JobState.FAILED), ("1", "killed", JobState.KILLED)],
)
def test_what_the_job_wrote_down_itself_counts_when_slurm_knows_nothing(slurm, tmp_path, code, outcome, state):
    folder = tmp_path / "job" / "slurm"
    folder.mkdir(parents=True)
    (folder / "ended").write_text(f"{code}\n")
    if outcome:
        (folder / "outcome").write_text(outcome)
    status = slurm("").state(JobHandle("slurm", "job-1", "12", {"folder": str(tmp_path / "job")}))
    assert status.state is state
