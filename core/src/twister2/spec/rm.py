"""Kind ``rm``: a resource manager allocates, starts, watches, stops and cleans the processes of a job.

Who calls what. The **client** calls ``render``, ``submit``, ``open_channel`` and, from any shell and long after the
submitting process has gone, ``find``, ``state``, ``logs``, ``kill`` and ``clean``. The **job master** makes its own
backend and calls ``publish``, ``remember``, ``start_attempt``, ``stop_attempt``, ``resize``, ``state``,
``remove_secrets``, ``kill`` and ``clean``. One thread at a time calls a backend; no call blocks longer than
``RmContext.call_timeout_s`` but ``logs`` with ``follow``.

What it starts are N copies of *one* command (``twister2.worker``, a supervisor): arguments, environment and secrets are
the same for all copies, as Kubernetes, Nomad and Slurm want it. A copy learns its slot from what the manager gives it
(``SlotSource``). Copies may come late, twice, or never; the master sorts that out by (attempt, slot). All workers and
the master (unless it lives in the client) are asked for at once, so that they are not scheduled hours apart.

Thought through against Kubernetes (no shared files, the same Secret for all copies, pods that never start, a client
behind NAT that nobody can dial, the master scheduled with its workers) and Slurm (allocation is not step, walltime,
requeue, no growing).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from twister2.spec.errors import CapabilityError
from twister2.spec.plugin import PluginSpec, Probe, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class JobState(enum.Enum):
    """State of a job as users see it. The last three are final."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"
    UNKNOWN = "unknown"
    """The manager knows nothing of it (any more)."""

    @property
    def final(self) -> bool:
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.KILLED)


@attrs.frozen(eq=False, repr=False)
class JobStatus(Value):
    """What the resource manager knows.

    :ivar reason: in plain words, with the manager's own reason in parentheses: ``"waits for free nodes (Resources)"``.
    :ivar slots: state per slot where the manager knows it, e.g. ``{3: "exited 137 (out of memory)"}``; of a copy that
        has ended, or will never run, it begins with ``exited``, ``failed``, ``ended`` or ``lost`` (with its host); of
        one for which there is no room yet with ``waits``, and the reason: that is time in the queue.
    :ivar pending: while slots that ``resize`` has asked for are not there yet: why, in plain words. The job's state is
        that of what runs meanwhile.
    :ivar ends_at: when the manager ends the job at the latest, in seconds since 1970; 0 while that is not known.
    """

    state: JobState
    reason: str = ""
    slots: Mapping[int, str] = attrs.field(factory=dict)
    pending: str = ""
    ends_at: float = 0.0


@attrs.frozen(eq=False, repr=False)
class ResourceGroup(Value):
    """Equal workers. Slots are numbered through the groups in order, from 0.

    Where a manager starts each group as an object of its own, whose copies count from 0 again, it sets
    ``TWISTER2_SLOT_BASE`` of that group's copies to the group's first slot (plus ``slot_source.base``).

    :ivar cpus: CPUs per worker (fractions allowed where the manager can).
    :ivar memory_mb: MiB per worker, 0 for the manager's default. :ivar disk_mb: MiB of scratch. :ivar gpus: GPUs.
    :ivar scalable: whether the number of its workers may change while the job runs; the job master sees to it.
    """

    name: str
    count: int
    cpus: float = 1.0
    memory_mb: int = 0
    disk_mb: int = 0
    gpus: int = 0
    scalable: bool = True


@attrs.frozen(eq=False, repr=False)
class SlotSource(Value):
    """How a copy finds its slot: ``base + int(os.environ[variable])``."""

    variable: str
    base: int = 0


def _share(group: ResourceGroup) -> str:
    amounts = {"MiB": group.memory_mb, "MiB of disk": group.disk_mb, "GPUs": group.gpus}
    return ", ".join(
        [
            f"{group.cpus:g} CPU{'s' * (group.cpus != 1)}",
            *(f"{amount} {unit}" for unit, amount in amounts.items() if amount),
        ]
    )


@attrs.frozen(eq=False, repr=False)
class Allocation(Value):
    """What the client asks for: everything a job needs to run, at once.

    :ivar job_id: unique id, ``[a-z0-9-]{1,50}``, fit for labels and names. :ivar name: the user's name, any text.
    :ivar groups: the workers. :ivar master: resources of the master in the allocation, None when it lives in the
        client.
    :ivar worker_command: arguments of a supervisor; :ivar master_command: of a master. The same for all copies; the
        manager puts its own wrapper before them. Nothing in them is secret.
    :ivar environment: for all copies. Nothing in it is secret.
    :ivar ticket: bytes every worker needs (addresses of the master as far as known, its public key, the join key).
        *Secret*: it travels by the safest means there is, never in a command line, a plain environment or a log. The
        manager tells copies by ``TWISTER2_TICKET`` where it lies (a path they can read; it may change in place).
    :ivar master_ticket: likewise for the master only (its secret key); told by ``TWISTER2_MASTER_TICKET``.
    :ivar world: the process world the transports require (``"pmi2"``, ``"mpiexec"``...), None when they require none or
        the supervisors serve it.
    :ivar walltime_s: seconds, 0 for the manager's default.
    :ivar oversubscribe: start more workers than fit.
    :ivar in_process: for a manager that offers ``in_process`` only: runs the worker of a slot in the calling thread.
    :ivar folder: the job's folder in the user's state folder on the submitting host (0700).
    """

    job_id: str
    name: str
    groups: tuple[ResourceGroup, ...]
    worker_command: tuple[str, ...]
    master_command: tuple[str, ...]
    environment: Mapping[str, str]
    ticket: bytes = attrs.field(repr=False)
    master_ticket: bytes = attrs.field(repr=False)
    folder: str
    master: ResourceGroup | None = None
    world: str | None = None
    walltime_s: int = 0
    oversubscribe: bool = False
    in_process: Callable[[int], None] | None = attrs.field(default=None, repr=False)

    @property
    def n_workers(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def summary(self) -> str:
        """What is asked for, in one line: the head of what ``render`` returns."""
        workers = ", ".join(f"{group.count} x {group.name} ({_share(group)})" for group in self.groups)
        master = "in the allocation" if self.master else "in the client"
        name = " ".join("".join(char if char.isprintable() else " " for char in self.name).split())
        return f"job {self.job_id} ({name}): {workers}; job master {master}"


@attrs.frozen(eq=False, repr=False)
class JobHandle(Value):
    """Names an allocation: plain data, stored in the job record, enough for any shell to find the job again.

    :ivar rm: name of the plugin; :ivar job_id: ours; :ivar native_id: the manager's (Slurm job id, Kubernetes uid...).
    :ivar facts: whatever else the plugin needs (JSON types, nothing secret).
    """

    rm: str
    job_id: str
    native_id: str
    facts: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False, repr=False)
class LogChunk(Value):
    """A piece of what a copy wrote outside the control channel (start-up errors above all)."""

    slot: int
    stream: Literal["stdout", "stderr", "manager"]
    text: str


@attrs.frozen(eq=False, repr=False)
class ResourceOffers(Value):
    """What a manager declares about itself; matched with the needs of the other plugins at submit, before anything
    starts.

    Closed by default: what is not set is not promised, and the conformance suite holds a plugin to what it sets.

    :ivar worlds: process worlds it provides (``pmi1``, ``pmi2``, ``pmix``, ``mpiexec``).
    :ivar supervised: workers are processes under supervisors (their death is seen, output is captured, they restart).
    :ivar in_process: workers are threads of the calling process.
    :ivar master_in_client: workers can reach a master in the client's process.
    :ivar master_in_allocation: it can start the master with the workers.
    :ivar restarts_slots: ``start_attempt`` can start single slots again (else all or none).
    :ivar restarts_master: a master in the allocation that ends otherwise than with exit code 0 is started again, with
        the same command, environment and tickets, until the manager gives it up, which is then the end of the job; and
        the manager keeps its notes (``remember``). Without it, a master that is gone is the end of the job.
    :ivar renews: a whole job can be begun anew with all its time (``renew``); ``restarts_master`` is open, too.
    :ivar resizes: the allocation can grow or shrink.
    :ivar outlives_client: the job goes on when the client has gone.
    :ivar shared_files: which of ``"package"``, ``"state"``, ``"output"`` all copies and the client see as the same
        files.
    :ivar same_host: all copies run on the client's host.
    :ivar limits: resources it enforces: ``cpus``, ``memory``, ``disk``, ``walltime``. For readers: nothing is decided
        by it, and the walltime is kept by the job master in any case.
    :ivar ticket_limit: bytes that a job master's ticket may have, where files are not shared: the package of a detached
        job goes with it if it fits, so that it is there when the host of the master is gone. 0: no package does.
    :ivar python: the interpreter of the workers where ``job.python`` names none: ``"python3"`` of an image, say. Empty:
        the one that the client runs on, at the same path.
    :ivar why: for closed points, the reason in one sentence, by name.
    """

    worlds: frozenset[str] = frozenset()
    supervised: bool = False
    in_process: bool = False
    master_in_client: bool = False
    master_in_allocation: bool = False
    restarts_slots: bool = False
    restarts_master: bool = False
    renews: bool = False
    resizes: bool = False
    outlives_client: bool = False
    shared_files: frozenset[str] = frozenset()
    same_host: bool = False
    limits: frozenset[str] = frozenset()
    ticket_limit: int = 0
    python: str = ""
    why: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(eq=False, repr=False)
class Check(Value):
    """One thing that ``twister2 doctor`` has looked at.

    :ivar name: what, in a few words: ``"sbatch"``, ``"credentials"``, ``"quota of namespace team-a"``.
    :ivar result: ``failed``: jobs will not run; ``warning``: they may; ``skipped``: it could not be looked at, or does
        not matter here.
    :ivar finding: what was found, one sentence; nothing secret in it.
    :ivar remedy: what to do, for ``failed`` and ``warning`` always.
    """

    name: str
    result: Literal["ok", "warning", "failed", "skipped"]
    finding: str
    remedy: str = ""


@attrs.frozen(eq=False, repr=False)
class RmContext(Value):
    """What a backend is made for.

    :ivar state_dir: the user's state folder; a plugin may keep files below ``<state_dir>/rm-<name>/``.
    :ivar call_timeout_s: deadline in seconds for any single call to the manager.
    """

    state_dir: str
    call_timeout_s: float = 30.0


class ResourceManager(ABC):
    """The backend. Made in the client and again in the master; keeps nothing that a new one could not find again.

    Every method raises only :class:`~twister2.spec.errors.ResourceError` and its subclasses for what the outside does.
    """

    offers: ResourceOffers

    @abstractmethod
    def render(self, allocation: Allocation) -> str:
        """The exact script, manifest or commands that ``submit`` would use, secrets left out: the text of
        ``--dry-run``. Remarks, as the format has them, tell first what is asked for (``allocation.summary``), and by
        which command or call, where, and with which files it is submitted.
        """

    @abstractmethod
    def submit(self, allocation: Allocation) -> JobHandle:
        """Ask for the allocation and return as soon as the manager has accepted it (it may be queued for hours).

        Nothing stays behind when it raises.

        :raises SubmissionRefusedError: with the manager's reason in plain words.
        :raises ResourcesExceededError: more than can ever be had.
        :raises MissingToolError: a program is absent.
        """

    @abstractmethod
    def find(self, job_id: str) -> JobHandle | None:
        """Find a job by our id without a job record; None when the manager does not know it."""

    @abstractmethod
    def state(self, handle: JobHandle) -> JobStatus:
        """What the manager knows now; an unknown or long finished job is UNKNOWN, not an error. May answer from a cache
        at most 1 s old. A manager that is down raises ResourceError; callers go on and ask again.
        """

    @abstractmethod
    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        """Replace the ticket where it lies, atomically: copies that wait for addresses or for the next attempt's key
        poll it.

        Called by the master once it listens, and at every attempt; by the client when the master lives there.
        """

    @abstractmethod
    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        """Start supervisors for these slots again (all slots when the world must be fresh). Returns when asked for.

        Called for slots without a supervisor only, after ``publish`` of the attempt's ticket. The first attempt is
        started by ``submit``.

        :raises CapabilityError: single slots, and ``restarts_slots`` is closed.
        """

    @abstractmethod
    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        """End the copies of these slots and their descendants: TERM, after ``grace_s`` seconds KILL. Idempotent."""

    @abstractmethod
    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        """Make the allocation hold ``n_workers`` slots; returns when asked for. New slots get the highest numbers, and
        the highest go first. What runs in the other slots goes on undisturbed.

        Growing starts the copies of the new slots as soon as their resources are there; until then ``state`` tells in
        ``pending`` why they are not. Shrinking ends the copies of the slots that go (they were told to end by the
        master before), and takes back what was asked for and has not come. Slots in the middle are given up by
        ``stop_attempt``, and may come back by ``start_attempt``.

        :param group: what the new slots are like (its ``count`` is how many are new); None: like the last one. A group
            of a name that the allocation has already may come again: the slots of a group need not be neighbours.
        :raises CapabilityError: ``resizes`` is closed.
        :raises ResourcesExceededError: more than can ever be had; nothing has changed.
        """

    def remember(self, handle: JobHandle, note: bytes, ended: JobState | None = None) -> None:
        """Keep a note of the job master's, in place of the one before: as a whole, and out of reach of whatever happens
        to the master and its host. At most 32 KiB, nothing secret in it; ``clean`` removes it.

        Called by the master where ``restarts_master`` is open: before every ``publish``, when the job has ended, and at
        each change of its state where shells may see no files of the master's.

        :param ended: how the job ended, a final state. ``state`` says so as soon as the master has ended, too.
        :raises CapabilityError: ``restarts_master`` is closed.
        """
        raise _keeps_no_notes(handle)

    def remembered(self, handle: JobHandle) -> bytes | None:
        """The latest note, None when the job's master has made none yet.

        :raises CapabilityError: ``restarts_master`` is closed.
        """
        raise _keeps_no_notes(handle)

    def master_returns(self, handle: JobHandle) -> bool:
        """Whether a master that now ends otherwise than with exit code 0 would be started again: false where the job is
        being ended, too. A master that is told to end (SIGTERM) asks, and leaves its workers alone if so.
        """
        return False

    def renew(self, handle: JobHandle) -> None:
        """End all processes of a job, its master included, and begin it anew as soon as there is room: master and
        copies as ``submit`` started them, with all the time that it was given then. Returns when that is under way.

        Called by the master when the job's time is nearly over and the program has made a commit; its notes are kept.

        :raises CapabilityError: ``renews`` is closed.
        :raises ResourceError: it is refused; the job goes on.
        """
        raise CapabilityError(
            f"the resource manager '{handle.rm}' does not begin jobs anew",
            why="it does not offer it",
            remedy="submit it again",
        )

    @abstractmethod
    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        """What the copies (and the manager itself) wrote outside the control channel, oldest first; ends with the
        job.
        """

    @abstractmethod
    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        """Addresses (``tcp://host:port`` or ``ipc://path``) at which *this* process can reach a master in the
        allocation, for as long as the context is open: directly, or through a port-forward made here.

        :raises ResourceError: the master has no address yet or cannot be reached; callers try again until their
            deadline.
        """

    @abstractmethod
    def kill(self, handle: JobHandle, grace_s: float) -> None:
        """End the job for good: every process of it (user sub-processes included) is gone when it returns. Idempotent;
        an unknown or finished job is no error. Works from any shell of the user.

        :raises ResourceError: not allowed, or the manager cannot be reached.
        """

    def remove_secrets(self, handle: JobHandle) -> None:
        """Remove tickets and tokens, which no process of the job needs any more: nobody may ever ask for it again.
        What ``state``, ``logs``, ``remembered`` and ``clean`` need stays. Idempotent.

        Called by a master in the allocation as the last thing that it does, when the job was detached. Nothing by
        default: for a manager that keeps secrets where nobody but the user can read them, in the user's own files.
        """

    @abstractmethod
    def clean(self, handle: JobHandle) -> list[str]:
        """Remove everything the job left with the manager (objects, secrets, files outside ``allocation.folder``).

        Idempotent. Returns what could not be removed, in words.
        """

    @abstractmethod
    def close(self) -> None:
        """Release connections and helpers of this backend object; the job goes on. Idempotent."""


def _keeps_no_notes(handle: JobHandle) -> CapabilityError:
    return CapabilityError(
        f"the resource manager '{handle.rm}' keeps no notes of job masters",
        why="it does not start them again (restarts_master)",
        remedy="ask it for notes only where it offers that",
    )


class ResourceManagerSpec(PluginSpec):
    """Base of every ``twister2.rm`` plugin."""

    kind: ClassVar[str] = "rm"
    slot_source: ClassVar[SlotSource] = SlotSource("TWISTER2_SLOT")
    """Where copies find their slot."""

    @hookspec(firstresult=True)
    def rm_create(self, config: Any, context: RmContext) -> ResourceManager | None:
        """Build the backend. Must not contact the manager: that is for the first call.

        :raises MissingToolError: a program or Python module it needs is absent.
        """

    @hookspec(firstresult=True)
    def rm_probe(self, config: Any) -> Probe | None:
        """Whether this manager can be used from here; reads only, within 2 s. Optional. ``twister2 plugins show``
        asks.
        """

    @hookspec(firstresult=True)
    def rm_doctor(self, config: Any, context: RmContext) -> Sequence[Check] | None:
        """What ``twister2 doctor`` looks at before it sends a job: the programs that are needed here, credentials and
        what they permit, quota and free capacity, whether the server answers, its version, whether workers can reach
        this client. Reads only; optional. No single check takes longer than ``context.call_timeout_s``; what cannot be
        looked at is ``skipped``, never an exception.

        Not here, since it is the same for all: plugins, versions and Python of a worker, and whether it can dial back;
        a job of one worker tells that.
        """

    @hookspec(firstresult=True)
    def rm_warm_up(self, config: Any, job_id: str) -> bool | None:
        """A submission of job ``job_id`` will most likely follow within a second: start early what takes long.

        Optional. Called in the client as soon as the manager is known, while the rest of the configuration is still
        read. Returns at once, says nothing when it fails, and leaves nothing behind when no submission follows:
        whatever it started ends with this process at the latest. Returns whether anything was started.
        """
