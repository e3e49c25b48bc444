"""What one who follows a change makes of the job's status."""

from __future__ import annotations

import types

import pytest

from twister2.client.changes import _over
from twister2.spec.errors import JobFailedError, MasterLostError, ResourceError, Twister2Error

JOB = types.SimpleNamespace(record=types.SimpleNamespace(job_id="prog-1"))


def status(state, reason="", **change):
    known = {"number": 3, "waits_for": "", "over": False, "error": None, **change} if change else None
    return {"state": state, "reason": reason, "change": known}


@pytest.mark.parametrize(
    ("seen", "over"),
    [
        (status("running", over=False), False),
        (status("restarting", over=True), False),
        (status("running", over=True), True),
        (status("completed", over=True), True),
        (status("running", number=4), True),
    ],
)
def test_over(seen, over):
    assert _over(JOB, seen, 3) is over


@pytest.mark.parametrize(
    ("seen", "error", "text"),
    [
        (status("completed", over=False), JobFailedError, "ended meanwhile"),
        (status("completed"), JobFailedError, "ended meanwhile"),
        (status("failed", number=4), JobFailedError, "ended meanwhile"),
        (status("killed", reason="by somebody", over=True), JobFailedError, "killed: by somebody"),
        (
            status("running", error=ResourceError("no room", why="full", remedy="wait").to_dict()),
            ResourceError,
            "no room",
        ),
        (status("running"), MasterLostError, "started again meanwhile"),
    ],
)
def test_came_to_nothing(seen, error, text):
    with pytest.raises(Twister2Error, match=text) as caught:
        _over(JOB, seen, 3)
    assert type(caught.value) is error
