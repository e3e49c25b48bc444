"""States and reasons of Slurm in plain words."""

from __future__ import annotations

import pwd
import re
import signal
import time
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

import attrs

from twister2.spec.rm import JobState, JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMMENT, MORE = "twister2:", "twister2-more:"
FIELDS = "%i|%T|%r|%e|%B|%N|%k"
"""What squeue is asked for; the comment comes last because it may hold anything."""

STATES: Mapping[str, tuple[JobState, str]] = {
    "PENDING": (JobState.QUEUED, "waits in the queue"),
    "CONFIGURING": (JobState.STARTING, "nodes are being prepared"),
    "RUNNING": (JobState.RUNNING, ""),
    "COMPLETING": (JobState.RUNNING, "is ending; the last processes are being cleared away"),
    "STAGE_OUT": (JobState.RUNNING, "is ending; files are being copied out"),
    "SIGNALING": (JobState.RUNNING, "is being signalled"),
    "RESIZING": (JobState.RUNNING, "its size is being changed"),
    "SUSPENDED": (JobState.RUNNING, "suspended by an administrator or by a job of higher priority"),
    "STOPPED": (JobState.RUNNING, "stopped by a signal"),
    "REQUEUED": (JobState.RESTARTING, "put back into the queue"),
    "REQUEUE_FED": (JobState.RESTARTING, "put back into the queue"),
    "REQUEUE_HOLD": (JobState.RESTARTING, "put back into the queue and held"),
    "RESV_DEL_HOLD": (JobState.QUEUED, "held: its reservation was deleted"),
    "SPECIAL_EXIT": (JobState.RESTARTING, "put back into the queue and held after a special exit code"),
    "COMPLETED": (JobState.COMPLETED, ""),
    "FAILED": (JobState.FAILED, "failed"),
    "BOOT_FAIL": (JobState.FAILED, "a node did not boot"),
    "NODE_FAIL": (JobState.FAILED, "a node failed"),
    "LAUNCH_FAILED": (JobState.FAILED, "Slurm could not launch it"),
    "RECONFIG_FAIL": (JobState.FAILED, "nodes could not be configured"),
    "OUT_OF_MEMORY": (JobState.FAILED, "used more memory than it asked for; raise job.memory_mb"),
    "REVOKED": (JobState.FAILED, "taken over by another cluster of the federation"),
    "DEADLINE": (JobState.KILLED, "could not be done before its deadline"),
    "TIMEOUT": (JobState.KILLED, "reached its time limit; raise job.walltime_s"),
    "PREEMPTED": (JobState.KILLED, "made way for a job of higher priority"),
    "CANCELLED": (JobState.KILLED, "was cancelled"),
}

REASONS: Mapping[str, str] = {
    "Resources": "waits for free nodes",
    "Priority": "waits behind jobs of higher priority",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "waits for a job that can no longer end as asked; it will never start",
    "BeginTime": "waits for its earliest start time",
    "JobHeldUser": "held by the user; 'scontrol release' lets it go",
    "JobHeldAdmin": "held by an administrator",
    "Licenses": "waits for licences",
    "PartitionDown": "its partition is closed",
    "PartitionInactive": "its partition is not active",
    "PartitionNodeLimit": "asks for more or fewer nodes than its partition has or allows; it may never start",
    "PartitionConfig": "asks for more than its partition has or allows; it may never start",
    "PartitionTimeLimit": "asks for more time than its partition allows (job.walltime_s); it may never start",
    "BadConstraints": "no node has what it asks for; it may never start",
    "ReqNodeNotAvail": "a node it needs is down or reserved",
    "NodeDown": "a node it needs is down",
    "Reservation": "waits for its reservation",
    "AccountNotAllowed": "the account may not use this partition",
    "QOSNotAllowed": "the quality of service may not use this partition",
    "InvalidAccount": "the account is not valid",
    "InvalidQOS": "the quality of service is not valid",
    "JobLaunchFailure": "Slurm could not launch it",
    "NonZeroExitCode": "its script ended with an exit code other than 0",
    "OutOfMemory": STATES["OUT_OF_MEMORY"][1],
    "TimeLimit": "reached its time limit",
    "Prolog": "nodes are being prepared",
    "Cleaning": "nodes are being cleared of its last run",
    "RaisedSignal": "its script was ended by a signal",
    "SystemFailure": "Slurm itself failed",
}
NEVER_RAN = "DependencyNeverSatisfied"
"""The one reason for which Slurm itself cancels a job. Any other that a cancelled job has is what it waited for."""
LIMITS = re.compile(r"^(Assoc|QOS|Max|Grp)\w*$")
GOING_BACK = ("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "PENDING", "CONFIGURING")
"""States of a job that was running a moment ago and runs again later."""
NO_REASON = ("", "None", "(null)", "N/A", "n/a")
UNWRITABLE = 53
"""Exit code by which Slurm says that it could not open the job's output files."""


@attrs.frozen
class Row:
    """What Slurm says of one job.

    :ivar comment: what we wrote there, None when another job took no comment.
    :ivar exit_code: exit code and signal of the script, None while unknown.
    :ivar ends_at: when Slurm ends it at the latest, in seconds since 1970; 0 while that is not known.
    :ivar headless: it runs on without the node that ran its script.
    """

    native_id: str
    state: str
    reason: str = ""
    comment: str = ""
    exit_code: tuple[int, int] | None = None
    ends_at: float = 0.0
    headless: bool = False

    @property
    def alive(self) -> bool:
        return not job_state(self.state).final

    def job(self) -> tuple[str, str] | None:
        """Our job id and folder, None for a job that is not ours."""
        if not self.comment.startswith(COMMENT):
            return None
        job_id, _, folder = self.comment.removeprefix(COMMENT).partition(" ")
        return job_id, folder

    def more(self) -> str:
        """The job of ours that this is an additional job of; empty for other jobs."""
        return self.comment.removeprefix(MORE).partition(" ")[0] if self.comment.startswith(MORE) else ""


def more_comment(job_id: str, folder: str) -> str:
    """The comment of an additional job."""
    return f"{MORE}{job_id} {folder}"


def comment(job_id: str, folder: str) -> str:
    """The comment by which any shell finds the job again."""
    return f"{COMMENT}{job_id} {folder}"


def job_state(state: str) -> JobState:
    """Our state for a word of Slurm's such as ``PENDING`` or ``CANCELLED by 1000``."""
    return STATES.get(state.split(" ")[0].rstrip("+"), (JobState.UNKNOWN, ""))[0]


def parse_squeue(text: str) -> list[Row]:
    """The rows of ``squeue -h -o FIELDS``. Of a heterogeneous job the first component is the job."""
    rows = []
    for line in text.splitlines():
        parts = line.split("|", 6)
        if len(parts) == 7 and parts[0].strip():
            native_id, state, reason, end, host, nodes, note = parts
            rows.append(
                Row(
                    native_id.strip().removesuffix("+0"),
                    state.strip(),
                    reason.strip(),
                    "" if note == "(null)" else note,
                    ends_at=_seconds(end.strip()),
                    headless=state.strip() == "RUNNING" and _is_missing(host.strip(), nodes.strip()),
                )
            )
    return rows


def _is_missing(host: str, nodes: str) -> bool:
    """Whether a host is named, and nodes are, and it is none of them."""
    with suppress(ValueError):
        return host not in NO_REASON and nodes not in NO_REASON and host not in names_of(nodes)
    return False


def names_of(nodes: str) -> set[str]:
    """``"a[08-10],b"`` as ``{"a08", "a09", "a10", "b"}``."""
    found: set[str] = set()
    for each in re.split(r",(?![^\[]*\])", nodes):
        pieces = re.split(r"\[([^\]]*)\]", each)  # text and numbers in turn
        choices = [_numbers(piece) if at % 2 else [piece] for at, piece in enumerate(pieces)]
        found.update(map("".join, product(*choices)))
    return found


def _numbers(ranges: str) -> list[str]:
    found = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return found


def _seconds(text: str) -> float:
    """A time of Slurm, which is of this host's time zone, in seconds since 1970; 0 for words such as ``N/A``."""
    with suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    return 0.0


def _pair(text: str) -> tuple[int, int] | None:
    code, _, number = text.partition(":")
    return (int(code), int(number)) if code.isdigit() and number.isdigit() else None


def parse_scontrol(text: str) -> Row | None:
    """The row of ``scontrol show job -o``. Values may hold spaces, so that only single words are read. Of a
    heterogeneous job the first component is the job.
    """
    words = dict(re.findall(r"(?:^|\s)(JobId|JobState|Reason|ExitCode)=(\S+)", text.strip().split("\n")[0]))
    if "JobId" not in words or "JobState" not in words:
        return None
    return Row(words["JobId"], words["JobState"], words.get("Reason", ""), exit_code=_pair(words.get("ExitCode", "")))


def goes_back(text: str, restarts: int) -> bool:
    """Whether ``scontrol show job -o`` shows a job that was put back into the queue. As long as its processes are being
    ended it may be shown as COMPLETING, whatever comes then.

    :param restarts: how often it had been begun again when it began to run.
    """
    row = parse_scontrol(text)
    if row is None or row.state == "COMPLETING":
        counted = re.search(r"\sRestarts=(\d+)", text.split("\n")[0])
        return row is not None and counted is not None and int(counted[1]) > restarts
    return row.state in GOING_BACK


def describe(row: Row) -> str:
    """Why the job is in its state, in plain words with Slurm's reason in parentheses."""
    word = row.state.split(" ")[0].rstrip("+")
    state, text = STATES.get(word, (JobState.UNKNOWN, f"Slurm calls its state {row.state}"))
    reason = "" if row.reason in NO_REASON else row.reason
    key = re.split(r"[,:( ]", reason, maxsplit=1)[0]
    if word == "CANCELLED" and key != NEVER_RAN:
        return text + _canceller(row.state)
    if key in REASONS and state in (JobState.QUEUED, JobState.FAILED):
        text = REASONS[key]
    elif LIMITS.match(key) and state is JobState.QUEUED:
        text = "a limit of the account, user or quality of service is reached"
    # of those that ran out of memory Slurm shows a signal 125, which is none
    if state is JobState.FAILED and row.exit_code is not None and word != "OUT_OF_MEMORY":
        text = _exit(row.exit_code, text)
    if not text:
        return ""
    own = reason or (word if state.final or state is JobState.UNKNOWN else "")
    return f"{text} ({own})" if own else text


def _canceller(state: str) -> str:
    """``"CANCELLED by 1000"`` as ``" by ada"``; accounting alone says it."""
    number = state.partition(" by ")[2]
    with suppress(ValueError, KeyError, OverflowError):
        return f" by {pwd.getpwuid(int(number)).pw_name}"
    return f" by user {number}" if number else ""


ENDED_BY_SLURM = re.compile(
    r"^slurmstepd\S*: error: \*\*\* JOB \d+ ON \S+ CANCELLED AT \S+(?: (DUE TO .+))? \*\*\*$", re.M
)

AGAIN = "of the job; what the steps of those before said:"
"""What a run that is not the first writes there when it begins."""


def why_ended(log: str) -> str:
    """Why Slurm has begun to end a job, as its daemon writes into the job's log; empty: it has not, this time."""
    found = ENDED_BY_SLURM.findall(log.rpartition(AGAIN)[2])
    return f"{STATES['CANCELLED'][1]} {found[-1].lower()}".rstrip() if found else ""


def _exit(exit_code: tuple[int, int], text: str) -> str:
    code, number = exit_code
    if (code, number) == (0, UNWRITABLE):
        return (
            "the node could not write the job's folder: it must lie on a file system that nodes and this host share"
            " (job.state_dir)"
        )
    if code:
        return f"its script ended with exit code {code}"
    return f"its script was ended by signal {number}" if number else text


TASKS = re.compile(r"^srun: error: \S+: tasks? \[?([\d,\-]+)\]?: (.+)$", re.MULTILINE)
EXITED = re.compile(r"^Exited with exit code (\d+)$")
STEP_ENDED = "step ended with exit code "
"""Last line of a step's log, written by ourselves when its srun has ended; the first is ``slots`` and their numbers."""
SIGNALS = {(signal.strsignal(number) or "").lower(): int(number) for number in signal.valid_signals()}


def expand(ranges: str) -> list[int]:
    """``"0-2,5"`` as ``[0, 1, 2, 5]``."""
    numbers: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def compress(numbers: Iterable[int]) -> str:
    """``[0, 1, 2, 5]`` as ``"0-2,5"``; the order is kept."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def ended_slots(step_log: str) -> tuple[list[int], dict[int, str]]:
    """The slots of a step, and how those copies ended that have, as the messages of their srun tell.

    :raises ValueError: the text is no log of a step.
    """
    head, _, text = step_log.partition("\n")
    slots = expand(head.removeprefix("slots "))
    ended: dict[int, str] = {}
    for tasks, words in TASKS.findall(text):
        for task in expand(tasks):
            if task < len(slots):
                ended[slots[task]] = _ending(words)
    final = re.search(rf"^{STEP_ENDED}(\d+)$", text, re.MULTILINE)
    if final is not None and (final.group(1) == "0" or ended) and "node failure" not in text.lower():
        # srun tells only of those that did not end well.
        ended = {slot: ended.get(slot, "exited 0") for slot in slots}
    return slots, ended


REFUSED_MPI = re.compile(r"^srun: error: (.*(?:--mpi|\bMPI type|mpi plugin)\b.*)$", re.MULTILINE)


def refused(step_log: str) -> str:
    """Why srun started no task of a step, where that is a matter of the job's options: starting again is no use.

    :returns: in plain words; empty when it started tasks or may do so another time.
    """
    _, _, text = step_log.partition("\n")
    final = re.search(rf"^{STEP_ENDED}(\d+)$", text, re.MULTILINE)
    lines = REFUSED_MPI.findall(text)
    if final is None or final.group(1) == "0" or not lines or TASKS.search(text):
        return ""
    return (
        f"srun refused its option --mpi, which is set by rm.slurm.mpi: {lines[-1]}; "
        "'srun --mpi=list' shows what this cluster has"
    )


def _ending(words: str) -> str:
    """``"Killed"`` as ``"exited 137 (killed)"``: 128 and the signal's number, as shells count."""
    exited = EXITED.match(words)
    if exited:
        return f"exited {exited.group(1)}"
    text = words.lower().removesuffix(" (core dumped)")
    number = signal.SIGKILL if text == "out of memory" else SIGNALS.get(text)
    return f"exited {128 + number} ({text})" if number else f"ended: {text}"


def status(row: Row | None, slots: Mapping[int, str]) -> JobStatus:
    """What callers of ``state`` get."""
    if row is None:
        return JobStatus(JobState.UNKNOWN, "Slurm knows no such job (any more)", dict(slots))
    return JobStatus(job_state(row.state), describe(row), dict(slots), ends_at=row.ends_at)


def with_culprits(status: JobStatus) -> str:
    """The reason of a failure that is the copies' own, with the first that did not end well."""
    culprits = [f"slot {slot} {text}" for slot, text in sorted(status.slots.items()) if text != "exited 0"]
    more = f" and {len(culprits) - SHOWN} more" if len(culprits) > SHOWN else ""
    return "; ".join(text for text in (status.reason, ", ".join(culprits[:SHOWN]) + more) if text)


SHOWN = 3
"""Slots that a reason names."""
