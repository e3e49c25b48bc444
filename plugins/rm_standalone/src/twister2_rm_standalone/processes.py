"""The backend for ``workers_as = "processes"``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import (
    CapabilityError,
    JobNotFoundError,
    MissingToolError,
    ResourceError,
    SubmissionRefusedError,
)
from twister2.spec.processes import await_ends
from twister2.spec.rm import (
    Allocation,
    JobHandle,
    JobState,
    JobStatus,
    LogChunk,
    ResourceGroup,
    ResourceManager,
    ResourceOffers,
    RmContext,
)
from twister2_rm_standalone import procfs, spawn
from twister2_rm_standalone.capacity import check_fit
from twister2_rm_standalone.copies import elsewhere, listed, over, runs, started_anew, tail, wants, words
from twister2_rm_standalone.folder import RmFolder
from twister2_rm_standalone.sweep import end, job_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from twister2_rm_standalone.config import StandaloneConfig

NAME = "standalone"
WORLD = "mpiexec"
SPARE_S = 10.0
"""How long after a job's time is over its processes are ended: first it is for the job master to end it in order."""
GOING_S = 0.05
"""How long launchers may take to end when their copies have said that they do."""
OFFERS = ResourceOffers(
    supervised=True,
    master_in_client=True,
    restarts_slots=True,
    resizes=True,
    outlives_client=True,
    shared_files=frozenset({"package", "state", "output"}),
    same_host=True,
    limits=frozenset({"walltime"}),
    why={
        "worlds": "no process manager is named in rm.standalone.mpiexec; the supervisors serve PMI-1 themselves",
        "in_process": "workers are processes; set rm.standalone.workers_as = 'threads' for threads",
        "master_in_allocation": "the client is on the same machine, so the master runs beside it",
        "limits": "only control groups confine processes: CPUs and memory, where rm.standalone.limits names them",
    },
)


class ProcessManager(ResourceManager):
    """Workers are processes of this machine, started by launchers (:mod:`twister2_rm_standalone.launcher`)."""

    offers = OFFERS

    def __init__(self, config: StandaloneConfig, context: RmContext) -> None:
        self._config, self._context = config, context
        if config.limits:
            self.offers = attrs.evolve(OFFERS, limits=OFFERS.limits | set(config.limits))
        if config.mpiexec:
            self.offers = attrs.evolve(
                self.offers,
                worlds=frozenset({WORLD}),
                resizes=False,
                why={**OFFERS.why, "resizes": "a process world does not grow"},
            )

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        lines = [
            f"# {allocation.summary}",
            f"# a launcher, process of this user on {os.uname().nodename}, starts {allocation.n_workers} copies, "
            f"TWISTER2_SLOT=0..{allocation.n_workers - 1}; the ticket is a file (0600)",
            *(f"export {key}={shlex.quote(value)}" for key, value in sorted(self._variables(allocation).items())),
            shlex.join(allocation.worker_command),
        ]
        return "\n".join(lines) + "\n"

    def submit(self, allocation: Allocation) -> JobHandle:
        try:
            return self._submit(allocation)
        finally:
            spawn.cool_down(allocation.job_id)

    def _submit(self, allocation: Allocation) -> JobHandle:
        self._refuse(allocation)
        mpiexec = self._mpiexec(allocation.world)
        warnings = check_fit(allocation.groups, self._config.worker_min_mb, allocation.oversubscribe)
        logs = str(Path(allocation.folder, "slots").absolute())
        job = {
            "command": [*allocation.worker_command],
            "environment": self._variables(allocation),
            "cwd": os.getcwd(),
            "logs": logs,
            "name": allocation.name,
            "groups": [listed(group) for group in allocation.groups],
            "wants": wants(allocation.groups),
            **self.confinement(),
            "oversubscribe": allocation.oversubscribe,
            "deadline": time.time() + allocation.walltime_s + SPARE_S if allocation.walltime_s else 0,
            "n_workers": allocation.n_workers,
            "mpiexec": mpiexec,
            "place": procfs.place(),
            "warnings": warnings,
        }
        folder = self._folder(allocation.job_id)
        self.begin(folder, job, allocation.ticket, logs, range(allocation.n_workers))
        return self._handle(folder, job)

    def begin(self, folder: RmFolder, job: Mapping[str, Any], ticket: bytes, logs: str, slots: Sequence[int]) -> None:
        """Make the folder of a job and start its copies for these slots.

        :raises ResourceError: it cannot be; nothing of it stays.
        """
        folder.create()
        try:
            Path(logs).mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.write("ticket", ticket)
            folder.write_json("allocation.json", job)
            self._launch(folder, job, slots)
        except OSError as error:
            folder.remove()
            raise SubmissionRefusedError(
                f"job {folder.job_id} could not be started",
                why=f"{error.strerror or error} ({error.filename or sys.executable})",
                remedy="check permissions and space of the state folder (job.state_dir) and limits on processes",
            ) from error
        except BaseException:
            folder.remove()
            raise

    def confinement(self) -> dict[str, Any]:
        """What the record of a job says of limits and binding.

        :raises SubmissionRefusedError: limits are asked for, and cannot be set here.
        """
        if not self._config.limits:
            return {"cgroups": {}, "bind": self._config.bind}
        from twister2_rm_standalone import cgroups

        try:
            places = cgroups.find(self._config.limits)
        except cgroups.NotAllowedError as error:
            raise SubmissionRefusedError(
                "workers cannot be confined on this machine",
                why=str(error),
                remedy="leave out rm.standalone.limits, or start in a group that is delegated to you: "
                "systemd-run --user --scope -p Delegate=yes twister2 ...",
                where=f"host {os.uname().nodename}, rm.standalone.limits",
            ) from error
        return {"cgroups": places, "bind": self._config.bind}

    def _refuse(self, allocation: Allocation) -> None:
        problem = ""
        if allocation.world is not None and allocation.world not in self.offers.worlds:
            problem = f"no {allocation.world} world is provided here: {OFFERS.why['worlds']}"
            remedy = 'set rm.standalone.mpiexec = "mpiexec.openmpi", or use comm_tcp'
        elif allocation.master is not None:
            problem, remedy = OFFERS.why["master_in_allocation"], "set job.master = 'client'"
        elif allocation.n_workers < 1:
            problem, remedy = "it asks for no worker", "ask for at least one"
        else:
            return
        raise SubmissionRefusedError(
            f"rm standalone does not take job {allocation.job_id}", why=problem, remedy=remedy, where="rm.standalone"
        )

    def _mpiexec(self, world: str | None) -> list[str]:
        """The command that starts the world of a job; empty when it needs none."""
        if world is None:
            return []
        command = shlex.split(self._config.mpiexec)
        found = shutil.which(command[0]) if command else None
        if found is None:
            raise MissingToolError(
                f"{command[0] if command else WORLD} is not there, which rm.standalone.mpiexec names",
                why="it is no program in the search path (PATH)",
                remedy="install the MPI library, load its module, or give the path of its mpiexec",
                where="rm.standalone.mpiexec",
            )
        return [found, *command[1:]]

    def _variables(self, allocation: Allocation) -> dict[str, str]:
        return {
            **allocation.environment,
            procfs.JOB_MARKER: allocation.job_id,
            "TWISTER2_TICKET": str(self._folder(allocation.job_id).ticket),
        }

    def _launch(self, folder: RmFolder, job: Mapping[str, Any], slots: Sequence[int]) -> None:
        order = {
            "job_id": folder.job_id,
            "command": job["command"],
            "environment": job["environment"],
            "cwd": job["cwd"],
            "logs": job["logs"],
            "slots": [*slots],
            "journal": str(folder.journal),
            "killed": str(folder.killed),
            "deadline": job["deadline"],
            "log_limit": self._config.log_limit_kb << 10,
            "wants": job["wants"],
            "cgroups": job["cgroups"],
            "bindings": {},
        }
        if job["bind"] != "none":
            from twister2_rm_standalone.binding import bindings, numa_nodes

            cpus = {int(slot): float(wanted[0]) for slot, wanted in job["wants"].items()}
            order["bindings"] = bindings(cpus, numa_nodes(), job["bind"])
        if job.get("mpiexec"):
            order["world"] = {"mpiexec": job["mpiexec"], "folder": str(folder.path)}
        path = folder.write_json(f"order-{os.getpid()}-{time.monotonic_ns()}.json", order)
        folder.note(f"asked {' '.join(str(slot) for slot in slots)}")
        pid = spawn.launch(folder.job_id, str(path), job["environment"])
        folder.note(f"launcher {pid} {procfs.start_of(pid)}")

    def _handle(self, folder: RmFolder, job: Mapping[str, Any]) -> JobHandle:
        launchers = folder.read_journal().launchers
        return JobHandle(
            NAME,
            folder.job_id,
            str(launchers[0][0]) if launchers else "",
            {
                "logs": job["logs"],
                "place": job["place"],
                "warnings": job["warnings"],
                "n_workers": job["n_workers"],
                "launchers": [[*each] for each in launchers],
            },
        )

    # -- look ----------------------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> JobHandle | None:
        folder = self._folder(job_id)
        job = folder.read_json("allocation.json")
        return None if job is None else self._handle(folder, job)

    def state(self, handle: JobHandle) -> JobStatus:
        spawn.reap()
        folder = self._folder(handle.job_id)
        job = folder.read_json("allocation.json")
        if job is None:
            return JobStatus(JobState.UNKNOWN, "this machine knows no such job (any more)")
        where = elsewhere(job["place"])
        if where and started_anew(job["place"]):
            return JobStatus(JobState.UNKNOWN, where)
        if where:  # not UNKNOWN: that would end a job that runs
            raise ResourceError(
                f"the state of job {handle.job_id} cannot be seen from here", why=where, remedy="ask where it runs"
            )
        journal = folder.read_journal()
        launchers = {pid for pid, start in journal.launchers if procfs.alive(pid, start)}
        # a copy that has ended but whose launcher has not written it down yet still counts as running
        running = {
            slot
            for slot, copy in journal.copies.items()
            if copy.code is None and (copy.launcher in launchers or runs(copy))
        }
        # how a copy ended is no matter any more once its slot is being started again
        again = {slot for slot, by in journal.asked.items() if by is None or by[0] in launchers} - running
        slots = {
            slot: words(copy, slot in running) for slot, copy in sorted(journal.copies.items()) if slot not in again
        }
        bad = {slot: text for slot, text in slots.items() if slot not in running and text != "exited 0"}
        ends = ", ".join(f"slot {slot} {text}" for slot, text in [*bad.items()][:3])
        ends += f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        if running:
            few = len(running) < job["n_workers"]
            reason = f"{len(running)} of {job['n_workers']} workers run" + (f"; {ends}" if bad else "")
            return JobStatus(JobState.RUNNING, reason if few else "", slots)
        if folder.killed.exists():
            return JobStatus(JobState.KILLED, "it was killed", slots)
        if journal.walltime:
            return JobStatus(JobState.KILLED, "it reached its time limit; raise job.walltime_s", slots)
        if journal.asked and launchers:
            return JobStatus(JobState.STARTING, "the workers are being started", slots)
        if bad or journal.asked or not slots:
            return JobStatus(JobState.FAILED, ends or f"nothing could be started: {tail(job['logs'])}", slots)
        return JobStatus(JobState.COMPLETED, "", slots)

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        from twister2_rm_standalone.logs import read_logs

        def ended() -> bool:
            state = self.state(handle).state
            return state.final or state is JobState.UNKNOWN

        return read_logs(Path(handle.facts["logs"]), slot, follow, ended)

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        raise ResourceError(
            f"job {handle.job_id} has no master in its allocation",
            why=OFFERS.why["master_in_allocation"],
            remedy="reach the master at the address in the job record",
        )

    # -- attempts ------------------------------------------------------------------------------------------------------

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        self._folder(handle.job_id).write("ticket", ticket)

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        if world is not None and world not in self.offers.worlds:
            raise CapabilityError(
                f"rm standalone provides no {world} world",
                why=OFFERS.why["worlds"],
                remedy="use a transport that needs none from the manager",
            )
        folder, job = self._known(handle)
        if folder.killed.exists():
            raise ResourceError(
                f"job {handle.job_id} was killed", why="nothing of it is started again", remedy="submit it anew"
            )
        own = job.get("slots") or range(job["n_workers"])
        unknown = [slot for slot in slots if slot not in own]
        if unknown:
            raise ResourceError(
                f"job {handle.job_id} has no slot {unknown[0]}",
                why=f"its slots are {own[0]} to {own[-1]}",
                remedy="resize the allocation first",
            )
        copies = folder.read_journal().copies
        missing = [slot for slot in slots if slot not in copies or not runs(copies[slot])]
        if missing and job.get("mpiexec") and len(missing) < job["n_workers"]:
            raise CapabilityError(
                f"slots {missing} of job {handle.job_id} cannot be started alone",
                why="a process world is started as a whole, and other slots of it run",
                remedy="stop all slots first",
            )
        if missing:
            self._guarded(handle, lambda: self._launch(folder, job, missing))

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        folder, _ = self._known(handle)
        copies = [copy for slot, copy in folder.read_journal().copies.items() if slot in slots and runs(copy)]

        def members() -> list[procfs.Process]:
            everyone = [*procfs.processes()]
            found: dict[int, procfs.Process] = {}
            for copy in copies:
                for process in procfs.slot_members(handle.job_id, copy.slot, copy.pid, everyone):
                    found[process.pid] = process
            return [*found.values()]

        if copies:
            end(
                members,
                [copy.pid for copy in copies],
                grace_s,
                self._context.call_timeout_s,
                f"slots {', '.join(str(copy.slot) for copy in copies)} of job {handle.job_id}",
            )
        spawn.reap()

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        folder, job = self._known(handle)
        before = job["n_workers"]
        if not self.offers.resizes:
            raise CapabilityError(
                f"job {handle.job_id} cannot be resized",
                why=f"{self.offers.why['resizes']}, and rm.standalone.mpiexec is set",
                remedy="start another job, or leave the option out for jobs that need no such world",
            )
        if n_workers < 1:
            raise ResourceError(
                f"job {handle.job_id} cannot have {n_workers} workers", why="one is the least", remedy="kill the job"
            )
        if n_workers > before:
            group = attrs.evolve(group or ResourceGroup(*job["groups"][-1]), count=n_workers - before)
            check_fit([group], self._config.worker_min_mb, oversubscribe=job.get("oversubscribe", False))
            more = {str(slot): [group.cpus, group.memory_mb] for slot in range(before, n_workers)}
            job = {**job, "groups": [*job["groups"], listed(group)], "wants": {**job["wants"], **more}}
        folder.write_json("allocation.json", {**job, "n_workers": n_workers})
        if n_workers > before:
            self.start_attempt(handle, 0, range(before, n_workers))
        else:
            self.stop_attempt(handle, range(n_workers, before), grace_s=3.0)

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        folder = self._folder(handle.job_id)
        job = folder.read_json("allocation.json")
        place = job["place"] if job else handle.facts.get("place")
        if place and (where := elsewhere(place)):
            if started_anew(place):
                return  # nothing of it can be left
            raise ResourceError(
                f"job {handle.job_id} cannot be killed from here", why=where, remedy="kill it where it runs"
            )
        if grace_s:  # of a job that is over the launchers are about to go, when they have seen that nothing is left
            launchers = folder.read_journal().launchers
            await_ends((pid for pid, start in launchers if procfs.alive(pid, start)), min(grace_s, GOING_S))
        if job is not None and not over(folder.read_journal()):
            folder.write("killed", str(time.time()).encode())
        known = [(int(pid), int(start)) for pid, start in handle.facts.get("launchers", ())]

        def members() -> list[procfs.Process]:
            spawn.reap()
            # read again each time: the master may have started a launcher just before it saw the mark
            return job_members(handle.job_id, {*known, *folder.read_journal().launchers})

        leaders = {copy.pid for copy in folder.read_journal().copies.values() if runs(copy)}
        end(members, leaders, grace_s, self._context.call_timeout_s, f"job {handle.job_id}")
        spawn.reap()

    def clean(self, handle: JobHandle) -> list[str]:
        spawn.reap()
        folder = self._folder(handle.job_id)
        if (job := folder.read_json("allocation.json")) is not None:
            self.remove_groups(handle.job_id, job, job.get("wants", ()))
        return folder.remove()

    @staticmethod
    def remove_groups(job_id: str, job: Mapping[str, Any], slots: Iterable[str]) -> None:
        """Remove the control groups of slots of which nothing runs."""
        if job.get("cgroups"):
            from twister2_rm_standalone import cgroups

            for slot in slots:
                cgroups.remove(job["cgroups"], cgroups.name_of(job_id, int(slot)))

    def close(self) -> None:
        spawn.cool_down_all()  # another submission of this process, in another thread, has to start its own
        spawn.reap()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _folder(self, job_id: str) -> RmFolder:
        return RmFolder(self._context.state_dir, job_id)

    def _known(self, handle: JobHandle) -> tuple[RmFolder, dict[str, Any]]:
        folder = self._folder(handle.job_id)
        job = folder.read_json("allocation.json")
        if job is None:
            raise JobNotFoundError(
                f"job {handle.job_id} is not known on this machine",
                why=f"{folder.path} does not exist",
                remedy="it was cleaned away, or belongs to another state folder (job.state_dir)",
            )
        return folder, job

    def _guarded(self, handle: JobHandle, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            raise ResourceError(
                f"workers of job {handle.job_id} could not be started",
                why=f"{error.strerror or error} ({error.filename or sys.executable})",
                remedy="check limits on processes, and space and permissions of the state folder (job.state_dir)",
            ) from error
