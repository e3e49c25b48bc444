"""Whether a profile's jobs can run: what its resource manager says of itself, then a job of one worker."""

from __future__ import annotations

import pathlib
import pickle
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from twister2.config.groups import resource_groups
from twister2.control.folders import state_folder
from twister2.spec.errors import Twister2Error, from_dict
from twister2.spec.rm import Check, JobState, RmContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.client.configure import Submission
    from twister2.client.session import Outcome
    from twister2.config import JobConfig

PROGRAM = pathlib.Path(__file__).with_name("doctor_program.py")
LITTLE_DISK_MB = 100


def examine(
    profile: str, *, files: Sequence[str] | None, settings: Sequence[str], job: bool, deadline_s: float
) -> Iterator[Check]:
    """Look at everything, and tell each finding as it comes.

    :param job: whether a job of one worker is sent, if nothing is wrong before. :param deadline_s: how long it may wait
        in a queue, and how long its worker may take to join.
    """
    from twister2.client.configure import configure

    try:
        submission = configure("doctor", profile, files=files, settings=settings, warm_up=False)
    except Twister2Error as error:
        yield _failed("configuration", error)
        return
    rm = submission.resolved.job.rm
    yield Check(
        "configuration", "ok", f"profile {profile}: resource manager {rm}; all selected plugins can be loaded here"
    )
    context = RmContext(state_dir=str(state_folder(submission.resolved.job.state_dir)))
    failed = False
    for check in submission.host.doctor(rm, submission.resolved.plugin("rm", rm), context):
        failed = failed or check.result == "failed"
        yield check
    if failed or not job:
        why = "something is wrong before" if failed else "it was not asked for"
        yield Check("job of one worker", "skipped", f"not sent: {why}")
        return
    yield from _by_job(_of_one_worker(submission, deadline_s))


def _of_one_worker(submission: Submission, deadline_s: float) -> Submission:
    """The same configuration for a job of one worker, like the first one of its first group."""
    job, first = submission.resolved.job, resource_groups(submission.resolved.job)[0]
    limits: dict[str, Any] = {
        "queue_deadline_s": deadline_s,
        "start_deadline_s": deadline_s,
        "attempts": 1,
        "observe": (),
    }
    share: dict[str, Any] = {
        "cpus": first.cpus,
        "memory_mb": first.memory_mb,
        "disk_mb": first.disk_mb,
        "gpus": first.gpus,
    }
    one: JobConfig = attrs.evolve(job, workers=1, groups={}, files=(), **share, **limits)
    return attrs.evolve(submission, resolved=attrs.evolve(submission.resolved, job=one))


def _by_job(submission: Submission) -> Iterator[Check]:
    from twister2.client.packing import from_file
    from twister2.client.prepare import prepare
    from twister2.client.start import start

    begun = time.monotonic()
    said: list[str] = []
    try:
        prepared = prepare(submission, partial(from_file, str(PROGRAM)), [], want_results=True, detached=False)
        session = start(prepared, lambda worker, stream, text: said.append(text), [], command=True)
        checks = [*_of_outcome(session.follow(), begun)]
    except Twister2Error as error:
        checks = [_failed("job of one worker", error)]
    finally:
        left = _cleaned(submission)
    yield from checks
    if left is not None:
        yield attrs.evolve(_failed("clean-up", left), result="warning")


def _of_outcome(outcome: Outcome, begun: float) -> Iterator[Check]:
    seconds = time.monotonic() - begun
    if outcome.state is not JobState.COMPLETED or 0 not in outcome.results:
        error = outcome.error or Twister2Error("it ended without a result", why="", remedy="see 'twister2 logs JOB'")
        yield _failed("job of one worker", error)
        return
    facts: dict[str, Any] = pickle.loads(outcome.results[0])
    yield Check(
        "job of one worker",
        "ok",
        f"it ran on {facts['host']} and was over after {seconds:.1f} s; worker, job master and client reach each other",
    )
    yield Check("Python of a worker", "ok", f"{facts['python']}, {facts['interpreter']}, twister2-core {facts['core']}")
    for wrong in facts["wrong"]:
        yield _failed(f"plugin {wrong['plugin']} on a worker", from_dict(wrong["error"]))
    if not facts["wrong"]:
        yield Check("plugins on a worker", "ok", f"all that jobs need are there: {', '.join(facts['plugins'])}")
    yield _of_resources(facts)


def _of_resources(facts: dict[str, Any]) -> Check:
    found = (
        f"{facts['cores']} CPUs, {facts['memory_mb']:,} MiB of memory, {facts['disk_free_mb']:,} MiB of scratch space"
    )
    if facts["cpus"] > facts["cores"]:
        text = f"{found}; its share is {facts['cpus']:g} CPUs"
        return Check("resources of a worker", "warning", text, "lower job.cpus, or ask for larger hosts")
    if facts["disk_free_mb"] < LITTLE_DISK_MB:
        return Check("resources of a worker", "warning", found, "make room there, or set job.spill_dirs")
    return Check("resources of a worker", "ok", found)


def _cleaned(submission: Submission) -> Twister2Error | None:
    """Leave nothing of the job, also where it could not be followed to its end; the error when that cannot be done."""
    from twister2.client.jobs import clean, kill
    from twister2.client.records import summary
    from twister2.control.folders import job_folder

    state = state_folder(submission.resolved.job.state_dir)
    job = summary(job_folder(state, submission.job_id))
    try:
        if job is not None:
            if not job.state.final:
                kill(job)
            clean(job)
    except Twister2Error as error:
        return error
    return None


def _failed(name: str, error: Twister2Error) -> Check:
    why = f": {' '.join(error.why.split())}" if error.why else ""
    return Check(name, "failed", f"{error.what}{why}", error.remedy or "see 'twister2 logs JOB --manager'")
