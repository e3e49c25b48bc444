"""What any shell of the user can do with a job it finds in the state folder: ask, wait, kill, clean."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from twister2.client.kept import fetch, noted
from twister2.client.leftovers import remove_rest
from twister2.client.records import JobSummary, read_state
from twister2.client.silent import ended_silently, ending, last_words
from twister2.config import Resolved
from twister2.control.channel import Dialer
from twister2.control.folders import runtime_path
from twister2.control.looking import GONE_S
from twister2.control.releasing import release
from twister2.host import Pins, PluginHost
from twister2.master.journal import EVENTS, KILLING, Journal, end_of
from twister2.spec.errors import (
    DeadlineError,
    JobKilledError,
    MasterLostError,
    NetworkError,
    ResourceError,
    Twister2Error,
    UsageError,
)
from twister2.spec.rm import JobHandle, JobState, JobStatus, ResourceManager, RmContext
from twister2.worker.processes import end_process, start_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ADDRESSES = "addresses"
"""Where a master in the client says in its job's folder how it is reached."""
ANSWER_S = 3.0
ASKED_AT_ONCE = 16
"""Of so many jobs it is asked at a time how they are: each may take as long as a manager, or a master that is gone."""
KILL_S = 15.0
"""How long a master that answers may take to end its job."""
MASTER_ENDS_S = 3.0
LEAVES_S = 15.0
"""How long a master that has told the end of its job may take to leave. What the manager has is removed after that."""


def backend_of(job: JobSummary) -> ResourceManager:
    """The resource manager's backend for this job, made as it was when the job was submitted.

    :raises PluginError: it is not installed any more, or in another version.
    :raises ResourceError: the job's record makes no sense.
    """
    host, resolved = _as_submitted(job)
    name = resolved.job.rm
    state_dir = str(job.folder.parent.parent)
    backend: ResourceManager = host.create(
        "rm", name, resolved.plugin("rm", name), context=RmContext(state_dir=state_dir)
    )
    return backend


def _as_submitted(job: JobSummary) -> tuple[PluginHost, Resolved]:
    """Plugins and configuration of a job, from its record."""
    try:
        host = PluginHost.from_pins(Pins.from_dict(job.record.pins))
        return host, Resolved.from_dict(job.record.resolved, host)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResourceError(
            f"the record of job {job.record.job_id} makes no sense",
            why=f"{type(error).__name__}: {error}",
            remedy=f"see that nothing of it runs, then remove {job.folder}",
        ) from error


@contextlib.contextmanager
def master_of(job: JobSummary, backend: ResourceManager) -> Iterator[Dialer]:
    """A connection to the job's master, attached.

    :raises MasterLostError: it does not answer. :raises ResourceError: it cannot be reached.
    """
    with contextlib.ExitStack() as stack:
        addresses: Sequence[str] = job.record.addresses or _published(job)
        addresses = addresses or stack.enter_context(backend.open_channel(job.record.job_handle))
        dialer = Dialer(addresses, job.record.master_public, deadline_s=ANSWER_S)
        stack.callback(dialer.close, linger_s=0.5)
        stack.callback(dialer.send, "detach", {})
        dialer.request("attach", {"client_key": job.record.client_key}, ("attached",), ANSWER_S)
        yield dialer


def _published(job: JobSummary) -> tuple[str, ...]:
    """The addresses of a master in a client that took free ports, as it wrote them down; none once it is gone."""
    if job.record.master_in_client and not master_gone(job):
        with contextlib.suppress(OSError):
            return tuple((job.folder / ADDRESSES).read_text().split())
    return ()


def status_of(job: JobSummary) -> dict[str, Any]:
    """What is known of a job now, as plain data: from its master, else from the resource manager, else from its
    files.
    """
    facts: dict[str, Any] = {
        "job": job.record.job_id,
        "name": job.record.name,
        "program": job.record.program,
        "profile": job.record.profile,
        "n_workers": job.record.n_workers,
        "started": job.record.started,
        **read_state(job.folder),
    }
    tidied, _ = facts.pop("tidied", False), facts.pop(KILLING, None)
    if JobState(facts.get("state", "queued")).final:
        if not tidied:
            _tidy(job)
        return facts
    try:
        backend = backend_of(job)
    except Twister2Error as error:
        return {**facts, "reason": f"nobody can be asked: {error.what}"}
    try:
        with master_of(job, backend) as dialer:
            return {**facts, **dialer.request("status", {}, ("status",), ANSWER_S).body}
    except (MasterLostError, ResourceError, NetworkError):
        return _status_without_master(job, backend, facts)
    finally:
        backend.close()


def statuses_of(jobs: Sequence[JobSummary]) -> list[dict[str, Any]]:
    """:func:`status_of` many jobs: who has to be waited for is waited for together."""
    with ThreadPoolExecutor(min(ASKED_AT_ONCE, max(1, len(jobs)))) as pool:
        return list(pool.map(status_of, jobs))


def _tidy(job: JobSummary) -> None:
    """Remove what the master of an ended job left here, killed after it wrote how the job ended and before the rest."""
    if job.record.master_process is None:
        return
    host, pid, start = job.record.master_process
    if host != os.uname().nodename or start_ticks(pid) == start:
        return  # it lives, or cannot be seen from here
    with contextlib.suppress(Twister2Error):
        host_of_plugins, resolved = _as_submitted(job)
        backend = backend_of(job)
        try:
            left = release(backend, job.record.job_handle, 0.0)
        finally:
            backend.close()
        remove_rest(host_of_plugins, resolved, str(job.folder.parent.parent), job.record.job_id)
        shutil.rmtree(runtime_path(job.record.job_id), ignore_errors=True)
        journal = Journal(job.folder, limit_mb=resolved.job.log_limit_mb)
        journal.amend(tidied=not left)
        journal.close()


def _status_without_master(job: JobSummary, backend: ResourceManager, facts: dict[str, Any]) -> dict[str, Any]:
    try:
        status = _state_of(job, backend)
    except ResourceError as error:
        return {**facts, "reason": f"neither the job master nor the resource manager answers ({error.what})"}
    note, again = noted(backend, job.record.job_handle), read_state(job.folder)
    if JobState(again.get("state", "queued")).final:
        if not again.pop("tidied", False):
            _tidy(job)
        return {**facts, **again}
    ended = status.state.final or status.state is JobState.UNKNOWN
    if ended and _master_lives(job):  # it starts workers again, or ends the job in order: all there is belongs to it
        pid = job.record.master_process[1] if job.record.master_process else 0
        reason = f"its job master (process {pid}) lives, but does not answer: it was stopped, or hangs; end it with"
        return {**facts, "reason": f"{reason} 'twister2 kill {job.record.job_id}'", "slots": dict(status.slots)}
    if ended:
        end = _fetched(job, backend) or end_of((note and note.ended) or {})
        said = "" if end or job.record.master_in_client else last_words(backend, job.record.job_handle)
        end = end or _without_a_word(job, status, said)
        return {**facts, **_record_end(job, *end, lambda: release(backend, job.record.job_handle, 0.0))}
    if note is not None and (end := end_of(note.ended or {})):  # its processes are stopped, say, or leave only now
        reason = end[1].what if end[1] else ""
        return {**facts, "reason": reason, "ended": note.noted, **(note.ended or {})}
    reason = status.reason
    if note is not None and status.state is JobState.RUNNING and "state" not in backend.offers.shared_files:
        why = dict.fromkeys(filter(None, (note.reason, reason)))  # its master's place may be waited for, say
        return {**facts, **note.now, "reason": "; ".join(why), "slots": dict(status.slots)}
    if master_gone(job):
        _, resolved = _as_submitted(job)
        reason = f"{master_gone(job)}; its workers end within {resolved.job.master_lost_s:g} s, submit the job again"
    return {**facts, "state": status.state.value, "reason": reason, "slots": dict(status.slots)}


def _state_of(job: JobSummary, backend: ResourceManager) -> JobStatus:
    """What the manager says: one that has just been started again may know nothing of its jobs for a moment."""
    status = backend.state(job.record.job_handle)
    if status.state is JobState.UNKNOWN and not backend.offers.same_host:
        time.sleep(GONE_S)
        status = backend.state(job.record.job_handle)
    return status


def master_gone(job: JobSummary) -> str:
    """What became of the master of a job that has not ended; empty when it lives, or cannot be seen from here."""
    if job.record.master_process is None or job.record.master_process[0] != os.uname().nodename or _master_lives(job):
        return ""
    return f"its job master (process {job.record.master_process[1]}) has gone: it was killed, or crashed"


def _master_lives(job: JobSummary) -> bool:
    """Whether the master is a process that is seen here; a stopped one is."""
    host, pid, start = job.record.master_process or ("", 0, 0)
    return host == os.uname().nodename and start_ticks(pid) == start > 0


def _fetched(job: JobSummary, backend: ResourceManager) -> tuple[JobState, Twister2Error | None] | None:
    """Logs and events that only the manager has; how the job ended, if they say so."""
    if job.record.master_in_client or "state" in backend.offers.shared_files or _has_events(job):
        return None
    _, resolved = _as_submitted(job)
    journal = Journal(job.folder, limit_mb=resolved.job.log_limit_mb)
    try:
        return end_of(fetch(backend, job.record.job_handle, journal) or {})
    finally:
        journal.close()
        with contextlib.suppress(OSError):
            if not (job.folder / EVENTS).stat().st_size:  # the manager was down, say: it is asked again
                (job.folder / EVENTS).unlink()


def _has_events(job: JobSummary) -> bool:
    try:
        return (job.folder / EVENTS).stat().st_size > 0
    except OSError:
        return False


def _without_a_word(job: JobSummary, status: JobStatus, said: str) -> tuple[JobState, Twister2Error | None]:
    """How a job ended of which nobody but its manager says anything."""
    in_client = job.record.master_in_client
    if status.state is JobState.COMPLETED and not in_client:
        return JobState.COMPLETED, None  # it saw the master's exit code, which is 0 for a completed job only
    if status.state is JobState.KILLED and not in_client:
        return JobState.KILLED, ended_silently(status, said)
    return JobState.FAILED, _gone(job, status, said)


def _gone(job: JobSummary, status: JobStatus, said: str) -> MasterLostError:
    what, why = ending(status, said)
    if gone := master_gone(job):
        what, why = "the job master ended before the job did", f"{gone}, and its workers then ended"
        why += f" ({status.reason})" if status.reason else ""
        with contextlib.suppress(OSError):
            said = (job.folder / "master.log").read_text(errors="replace").strip()[-2000:]
            why += f"; its last words:\n{said}" if said else ""
    return MasterLostError(what, why=why, remedy="see 'twister2 logs JOB' for what was written; submit the job again")


def _record_end(
    job: JobSummary, state: JobState, error: Twister2Error | None, release_rest: Callable[[], list[str]]
) -> dict[str, Any]:
    """Write down how a job without a master ended, then remove what is left of it: whoever sees the consequences, its
    client above all, finds the reason. What was written down before stays.

    :param release_rest: ends and removes what its manager has; what is left, in words.
    :returns: what is written down.
    """
    host, resolved = _as_submitted(job)
    journal = Journal(job.folder, limit_mb=resolved.job.log_limit_mb)
    try:
        state, error = journal.end(state, error)
        left = release_rest()
        if job.record.master_in_client:
            shutil.rmtree(runtime_path(job.record.job_id), ignore_errors=True)
            shutil.rmtree(job.folder / "program", ignore_errors=True)  # what workers that are threads ran
        remove_rest(host, resolved, str(job.folder.parent.parent), job.record.job_id)
        journal.amend(tidied=not left)
        journal.say_ended("another shell", state, error)
    finally:
        journal.close()
    written = read_state(job.folder)
    return {name: written.get(name) for name in ("state", "reason", "ended", "error")}


def wait_for(job: JobSummary, deadline_s: float | None) -> dict[str, Any]:
    """Wait until a job has ended; returns its status.

    :raises DeadlineError: it had not ended in time.
    """
    end = None if deadline_s is None else time.monotonic() + deadline_s
    asked, told, ended = 0.0, None, dict[str, Any]()
    while True:
        facts = read_state(job.folder)
        if JobState(facts.get("state", "queued")).final:
            return status_of(job)
        if time.monotonic() - asked > (5.0 if told is None else 0.5):
            facts = status_of(job)
            asked = time.monotonic()
            if JobState(facts.get("state", "queued")).final:
                told, ended = asked if told is None else told, facts
            if told is not None and asked - told > LEAVES_S:
                return ended
        if told is None and end is not None and time.monotonic() > end:
            raise DeadlineError(
                f"job {job.record.job_id} had not ended after {deadline_s:g} s",
                why=f"it is {facts.get('state', 'queued')} {facts.get('reason', '')}".strip(),
                remedy="wait longer, or end it with 'twister2 kill'",
            )
        time.sleep(0.1)


def kill(job: JobSummary, reason: str = "twister2 kill") -> bool:
    """End a job for good; False when it had ended already, which its state file then says.

    Through its master when that answers, and always through the resource manager: nothing of it is left afterwards.
    """
    had_ended, answered = job.state.final, False
    error = JobKilledError("the job was killed", why=reason, remedy="submit it again when it is wanted")
    backend = backend_of(job)
    handle = job.record.job_handle
    try:
        if not had_ended:
            _say_killing(job, error)
            with contextlib.suppress(MasterLostError, ResourceError, NetworkError), master_of(job, backend) as dialer:
                dialer.request("kill", {"reason": reason}, ("ended",), KILL_S)
                answered = True
        end = None if had_ended else _fetched(job, backend)
        if not (had_ended or answered or end):
            end = _ended_unnoticed(job, backend)
        _end_master(job)  # first: it might start lost workers again
        left = release(backend, handle, 1.0)
        if left:
            runs = "" if _is_over(backend, handle) else "could not be ended: it may still run"
            raise _something_left(job, left, "call it again later, or remove it by hand", runs)
    except BaseException:
        if not had_ended:
            _say_killing(job, None)
        raise
    finally:
        backend.close()
    if job.record.master_in_client:
        shutil.rmtree(runtime_path(job.record.job_id), ignore_errors=True)
    if not JobState(read_state(job.folder).get("state", "queued")).final:
        if end is not None:  # it had ended by itself, and nobody here knew
            _say_killing(job, None)
        _record_end(job, *(end or (JobState.KILLED, error)), lambda: [])
    ours = answered or end is None or (end[1] is not None and end[1].why == reason)  # its answer may have been lost
    return not had_ended and ours and read_state(job.folder).get("state") == JobState.KILLED.value


def _ended_unnoticed(job: JobSummary, backend: ResourceManager) -> tuple[JobState, Twister2Error | None] | None:
    """How a job ended whose master does not answer, and of which this shell has not heard; None: it has not."""
    if job.record.master_in_client:
        return None
    handle = job.record.job_handle
    note = noted(backend, handle)
    if note is not None and (end := end_of(note.ended or {})):
        return end
    with contextlib.suppress(ResourceError):
        status = backend.state(handle)
        if status.state.final:
            return _without_a_word(job, status, last_words(backend, handle))
    return None


def _say_killing(job: JobSummary, error: Twister2Error | None) -> None:
    """Write down that a job is about to be killed: a kill wins over every failure that it causes, whoever sees that
    first. None: it could not be killed.
    """
    _, resolved = _as_submitted(job)
    journal = Journal(job.folder, limit_mb=resolved.job.log_limit_mb)
    journal.killing(error)
    journal.close()


def _is_over(backend: ResourceManager, handle: JobHandle) -> bool:
    """Whether the manager says that a job has ended, or knows of none."""
    with contextlib.suppress(Twister2Error):
        state = backend.state(handle).state
        return state.final or state is JobState.UNKNOWN
    return False


def _something_left(job: JobSummary, left: Sequence[str], remedy: str, how: str = "") -> ResourceError:
    what = f"job {job.record.job_id} {how or 'was ended, but something of it is left'}"
    return ResourceError(what, why="; ".join(dict.fromkeys(left)), remedy=remedy)


def _end_master(job: JobSummary) -> None:
    """End a master that is a process of this host and does not end by itself: it hangs, or is stopped.

    :raises ResourceError: the system does not let it go.
    """
    if job.record.master_process is None:
        return
    host, pid, start = job.record.master_process
    deadline = time.monotonic() + MASTER_ENDS_S
    while host == os.uname().nodename and start and start_ticks(pid) == start:
        if time.monotonic() > deadline:
            end_process(pid, signal.SIGKILL)
        if time.monotonic() > deadline + MASTER_ENDS_S:
            raise ResourceError(
                f"the master of job {job.record.job_id} could not be ended",
                why=f"process {pid} is still there after SIGKILL, or belongs to another user",
                remedy="one that waits for a device or a network file system goes when that answers",
            )
        time.sleep(0.02)


def clean(job: JobSummary) -> None:
    """Remove record and logs of an ended job, and whatever it may still have with its resource manager.

    :raises UsageError: it has not ended.
    :raises Twister2Error: something of it is left, or nobody can be asked: the record stays, to find it by.
    """
    state = JobState(status_of(job).get("state", "queued"))
    if not state.final:
        raise UsageError(
            f"job {job.record.job_id} has not ended",
            why=f"it is {state.value}",
            remedy=f"end it first: twister2 kill {job.record.job_id}",
        )
    # what its master has tidied needs neither the plugin nor the host that it ran on
    tidied = bool(read_state(job.folder).get("tidied")) and job.record.master_in_client
    with contextlib.suppress(*((Twister2Error,) if tidied else ())):
        backend = backend_of(job)
        try:
            left = release(backend, job.record.job_handle, 0.0)
        finally:
            backend.close()
        if left and not tidied:
            raise _something_left(job, left, "clean it again later: its record is kept for that")
    shutil.rmtree(job.folder)
