"""The backend: a job is one batch job that holds the job master and all workers."""

from __future__ import annotations

import base64
import json
import os
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import CapabilityError, ResourceError, SubmissionRefusedError
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
from twister2_rm_nomad import capacity, copies, jobspec, states
from twister2_rm_nomad.api import Api, NotFoundError, part
from twister2_rm_nomad.logs import LogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twister2_rm_nomad.config import NomadConfig

NAME = "nomad"
TICKET_LIMIT = 45_000
"""Nomad takes 64 KiB in a variable, in which it lies in base64 beside a token."""
SHRINK_S = 5.0
"""How long copies of slots that are given up may take to end."""


class NomadManager(ResourceManager):
    """See :class:`twister2.spec.rm.ResourceManager`."""

    offers = ResourceOffers(
        supervised=True,
        master_in_client=True,
        master_in_allocation=True,
        restarts_slots=True,
        restarts_master=True,
        resizes=True,
        outlives_client=True,
        ticket_limit=TICKET_LIMIT,
        why={
            "restarts_master": "rm.nomad.master_restarts is 0",
            "worlds": "Nomad provides no process world",
            "in_process": "workers run on Nomad's nodes, not in the client",
            "shared_files": "nodes and the client need not share files",
            "same_host": "nodes are other hosts than the client's",
            "renews": "Nomad ends no job at a time limit",
            "limits": "what is enforced depends on the driver: raw_exec enforces nothing",
        },
    )

    def __init__(self, config: NomadConfig, context: RmContext) -> None:
        self._config = config
        self._context = context
        self.offers = attrs.evolve(type(self).offers, restarts_master=config.master_restarts > 0)
        self._api = Api(config, context.call_timeout_s)

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        mhz_given = self._config.cpu_mhz or self._config.cores
        spec = self._spec(allocation, None if mhz_given else self._nodes())
        return json.dumps({"//": self._head(allocation), "Job": spec}, indent=2, ensure_ascii=False) + "\n"

    def _head(self, allocation: Allocation) -> list[str]:
        """A remark, which Nomad does not read."""
        access, path = self._api.access, jobspec.variable(allocation.job_id)
        region = f", region {access.region}" if access.region else ""
        token = "with the token that is set" if access.token else "without a token"
        made = [f"{path} (ticket)", *([f"{path}/master (ticket, token)"] if allocation.master else [])]
        return [
            allocation.summary,
            f"submitted by PUT {access.address}/v1/jobs, namespace {access.namespace}{region}, {token}",
            f"variables made before that: {', '.join(made)}",
        ]

    def submit(self, allocation: Allocation) -> JobHandle:
        if allocation.world:
            raise CapabilityError(
                f"Nomad offers no process world '{allocation.world}'",
                why=self.offers.why["worlds"],
                remedy="choose a transport that needs none (job.comm)",
            )
        self._api.at({})
        nodes = self._nodes()
        spec = self._spec(allocation, nodes)
        if nodes is not None:
            capacity.check(spec, self._config, nodes, oversubscribe=allocation.oversubscribe)
        if self._job(spec["ID"]) is not None:
            raise SubmissionRefusedError(
                f"Nomad has a job {spec['ID']} already",
                why="it was submitted before",
                remedy=f"end it first: twister2 kill {allocation.job_id}",
                where=self._api.access.address,
            )
        handle = JobHandle(
            NAME, allocation.job_id, spec["ID"], {"namespace": self._api.access.namespace, **self._elsewhere()}
        )
        try:
            self.publish(handle, allocation.ticket)
            if allocation.master is not None:
                items = {"ticket": _coded(allocation.master_ticket), "token": _coded(self._api.access.token.encode())}
                self._put(jobspec.variable(allocation.job_id, jobspec.MASTER), items)
            # 0: it must not be there yet
            self._api.send("POST", "/jobs", {"Job": spec, "EnforceIndex": True, "JobModifyIndex": 0})
        except BaseException:
            # It may have been accepted although no answer came (a timeout, Ctrl-C).
            with suppress(ResourceError):
                self.clean(handle)
            raise
        return handle

    def _elsewhere(self) -> dict[str, str]:
        region = self._api.access.region
        return {"region": region} if region else {}

    def _spec(self, allocation: Allocation, nodes: Sequence[capacity.Node] | None) -> dict[str, Any]:
        return jobspec.job_spec(allocation, self._config, self._mhz(nodes))

    def _mhz(self, nodes: Sequence[capacity.Node] | None) -> float:
        return self._config.cpu_mhz or (capacity.UNKNOWN_MHZ if nodes is None else capacity.mhz_per_cpu(nodes))

    def _nodes(self) -> list[capacity.Node] | None:
        """The ready nodes; None where the token may not look at them."""
        try:
            return capacity.ready(self._api.get("/nodes", **capacity.query(self._config)))
        except ResourceError as error:
            if "permission denied" in error.why.lower() and self._api.access.token:
                return None
            raise

    def _put(self, path: str, items: dict[str, str]) -> None:
        self._api.send("PUT", f"/var/{path}", {"Path": path, "Items": items})

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        self._api.at(handle.facts)
        self._put(jobspec.variable(handle.job_id), {"ticket": _coded(ticket)})

    # -- the master ----------------------------------------------------------------------------------------------------

    def remember(self, handle: JobHandle, note: bytes, ended: JobState | None = None) -> None:
        if not self.offers.restarts_master:
            super().remember(handle, note, ended)
        self._api.at(handle.facts)
        items = {"note": _coded(note), **({"ended": ended.value} if ended else {})}
        self._put(jobspec.notes(handle.job_id), items)

    def remembered(self, handle: JobHandle) -> bytes | None:
        if not self.offers.restarts_master:
            return super().remembered(handle)
        self._api.at(handle.facts)
        text = self._noted(handle).get("note")
        return None if text is None else base64.b64decode(text)

    def _noted(self, handle: JobHandle) -> dict[str, str]:
        try:
            return dict(self._api.get(f"/var/{jobspec.notes(handle.job_id)}")["Items"])
        except NotFoundError:
            return {}

    def master_returns(self, handle: JobHandle) -> bool:
        self._api.at(handle.facts)
        job = self._job(handle.native_id)
        if job is None or job.get("Stop") or job["Status"] == "dead":
            return False
        return jobspec.restarts_master(job)

    # -- looking -------------------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> JobHandle | None:
        self._api.at({})
        job = self._job(jobspec.native_id(job_id))
        if job is None:
            return None
        return JobHandle(NAME, job_id, job["ID"], {"namespace": job["Namespace"], **self._elsewhere()})

    def _job(self, native_id: str) -> dict[str, Any] | None:
        try:
            job = self._api.get(f"/job/{part(native_id)}")
        except NotFoundError:
            return None
        return job if isinstance(job, dict) and (job.get("Meta") or {}).get("twister2-job") else None

    def _allocs(self, native_id: str) -> list[dict[str, Any]]:
        try:
            return self._api.get(f"/job/{part(native_id)}/allocations", all="true") or []
        except NotFoundError:
            return []

    def _evaluations(self, native_id: str) -> list[dict[str, Any]]:
        try:
            return self._api.get(f"/job/{part(native_id)}/evaluations") or []
        except NotFoundError:
            return []

    def state(self, handle: JobHandle) -> JobStatus:
        self._api.at(handle.facts)
        job = self._job(handle.native_id)
        if job is None:
            return JobStatus(JobState.UNKNOWN, "Nomad knows no such job (any more)")
        allocs = self._allocs(handle.native_id)
        status = states.status(job, allocs, self._evaluations(handle.native_id))
        if status.state is JobState.COMPLETED and jobspec.restarts_master(job):  # its master ends well in any case
            ended = self._noted(handle).get("ended")
            return attrs.evolve(status, state=JobState(ended)) if ended else status
        return status

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        reader = LogReader(self._api, slot)
        self._api.at(handle.facts)
        while (job := self._job(handle.native_id)) is not None:
            last = not follow or self.state(handle).state.final  # before the last look
            yield from reader.read(job, self._allocs(handle.native_id))
            if last:
                return
            time.sleep(self._config.poll_s)

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        self._api.at(handle.facts)
        try:
            path = jobspec.variable(handle.job_id)
            items = self._api.get(f"/var/{path}")["Items"]
            addresses = [str(address) for address in json.loads(base64.b64decode(items["ticket"]))["addresses"]]
        except (NotFoundError, ValueError, KeyError, TypeError) as error:
            raise self._no_master(handle, f"nothing is known of its address: {error}") from error
        if not addresses:
            raise self._no_master(handle, "it has not told its address")
        return nullcontext(addresses)

    def _no_master(self, handle: JobHandle, why: str) -> ResourceError:
        return ResourceError(
            f"the job master of job {handle.job_id} cannot be reached yet",
            why=why,
            remedy="wait until the job has started; 'twister2 status' shows what it waits for",
            where=f"Nomad job {handle.native_id}",
        )

    # -- attempts ------------------------------------------------------------------------------------------------------

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        if not slots:
            return
        self._api.at(handle.facts)
        job = self._job(handle.native_id)
        if job is None or job.get("Stop"):
            raise ResourceError(
                f"attempt {attempt} of job {handle.job_id} cannot be started: the job was stopped in Nomad",
                why="somebody ran 'nomad job stop', or another shell killed it",
                remedy="submit the job again",
                where=f"Nomad job {handle.native_id}",
            )
        self._register(jobspec.with_more_starts(job))

    def _register(self, job: dict[str, Any]) -> None:
        """A new version of a job, unless somebody else has made one meanwhile."""
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": job["JobModifyIndex"]}
        try:
            self._api.send("POST", "/jobs", body)
        except NotFoundError as error:
            raise self._gone(job["ID"]) from error

    def _gone(self, native_id: str) -> ResourceError:
        return ResourceError(
            f"Nomad knows no job {native_id} any more",
            why="it was purged",
            remedy="submit the job again",
            where=native_id,
        )

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        self._api.at(handle.facts)
        job = self._job(handle.native_id)
        if job is None or not slots:
            return
        wanted = set(slots)

        def running() -> list[states.Copy]:
            found = states.copies(job, self._allocs(handle.native_id))
            return [copy for slot, copy in found.items() if slot in wanted and not copy.ended]

        self._end(handle, running, grace_s, tell=True)

    def _end(self, handle: JobHandle, running: Callable[[], list[states.Copy]], grace_s: float, *, tell: bool) -> None:
        """Tell copies to end (unless Nomad has), after the grace kill them, and wait until they are gone."""
        begun = time.monotonic()
        killed: set[str] = set()
        told: set[str] = set()
        while left := running():
            spent = time.monotonic() - begun
            if spent > grace_s + self._context.call_timeout_s:
                nodes = ", ".join(sorted({str(copy.alloc.get("NodeName")) for copy in left}))
                raise ResourceError(
                    f"{len(left)} copies of job {handle.job_id} have not ended",
                    why=f"their nodes ({nodes}) do not answer, or a process cannot be ended",
                    remedy="call it again later; 'nomad job status' shows whether they are gone",
                    where=f"Nomad job {handle.native_id}",
                )
            for copy in left:
                alloc, asked = copy.alloc["ID"], time.monotonic()
                if spent >= grace_s and alloc not in killed:
                    name, heard = copies.KILL, killed
                elif tell and alloc not in told | killed:
                    name, heard = copies.TELL, told
                else:
                    continue
                if self._signal(alloc, name):
                    heard.add(alloc)
                    begun += time.monotonic() - asked  # copies have all the time, however many are told before them
            time.sleep(min(self._config.poll_s, 0.1))

    def _signal(self, alloc: str, name: str) -> bool:
        """Send a copy's wrapper a signal; False when it takes none (yet)."""
        body = {"Signal": name, "Task": jobspec.TASK}
        try:
            self._api.send("POST", f"/client/allocation/{alloc}/signal", body)
        except (NotFoundError, ResourceError):
            return False
        return True

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        self._api.at(handle.facts)
        job = self._job(handle.native_id)
        if job is None or job.get("Stop"):
            raise self._gone(handle.native_id)
        resources, nodes = None, self._nodes()
        if group is not None:
            resources = jobspec.resources(self._config, group, self._mhz(nodes))
        changed = jobspec.resized(job, n_workers, group, resources)
        if nodes is not None:
            capacity.check(changed, self._config, nodes)
        self._register(changed)

        def leaving() -> list[states.Copy]:
            found = states.copies(job, self._allocs(handle.native_id))
            return [copy for slot, copy in found.items() if slot >= n_workers and not copy.ended]

        self._end(handle, leaving, min(SHRINK_S, self._config.stop_grace_s), tell=False)

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        self._api.at(handle.facts)
        job = self._job(handle.native_id)
        if job is None:
            return

        def running() -> list[states.Copy]:
            return [
                states.Copy(0, each)
                for each in self._allocs(handle.native_id)
                if each["ClientStatus"] not in states.ENDED
            ]

        if not job.get("Stop") and not (job["Status"] == "dead" and not running()):
            with suppress(NotFoundError):
                self._api.send("DELETE", f"/job/{part(handle.native_id)}")
        until = time.monotonic() + self._context.call_timeout_s
        while any(each["Status"] == "pending" for each in self._evaluations(handle.native_id)):
            if time.monotonic() > until:  # then Nomad stops what it places, whenever that is
                break
            time.sleep(self._config.poll_s)  # what was submitted a moment ago may be placed all the same
        self._end(handle, running, grace_s, tell=False)

    def remove_secrets(self, handle: JobHandle) -> None:
        self._api.at(handle.facts)
        for group in (jobspec.MASTER, ""):
            with suppress(NotFoundError):
                self._api.send("DELETE", f"/var/{jobspec.variable(handle.job_id, group)}")

    def clean(self, handle: JobHandle) -> list[str]:
        if os.environ.get("NOMAD_JOB_ID") == handle.native_id:
            return []  # the job master inside: the job ends with it
        self.remove_secrets(handle)
        with suppress(NotFoundError):
            self._api.send("DELETE", f"/var/{jobspec.notes(handle.job_id)}")
        if self._job(handle.native_id) is None:
            return []
        try:
            self.kill(handle, 0.0)
        except ResourceError as error:
            return [f"Nomad job {handle.native_id}: {error.what}: {error.why}"]
        for alloc in self._allocs(handle.native_id):  # folders and logs on the nodes
            with suppress(NotFoundError, ResourceError):
                self._api.get(f"/client/allocation/{alloc['ID']}/gc")
        with suppress(NotFoundError):
            self._api.send("DELETE", f"/job/{part(handle.native_id)}", purge="true")
        return []

    def close(self) -> None:
        """Every call has a connection of its own."""

    def __repr__(self) -> str:
        return f"NomadManager({self._config!r})"


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()
