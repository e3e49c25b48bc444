"""The backend for ``rm.standalone.hosts``: every host runs its share of the workers as this machine would."""

from __future__ import annotations

import base64
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import (
    CapabilityError,
    JobNotFoundError,
    ResourceError,
    ResourcesExceededError,
    SubmissionRefusedError,
    Twister2Error,
)
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
from twister2_rm_standalone.hosts.fleet import Fleet
from twister2_rm_standalone.hosts.merge import merged
from twister2_rm_standalone.hosts.places import Place, places_of, spread
from twister2_rm_standalone.hosts.ssh import Ssh
from twister2_rm_standalone.logs import is_log, read_logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from twister2_rm_standalone.config import StandaloneConfig

NAME = "standalone"
ANSWER_S = 20.0
"""How long a host may take for a small question."""
POLL_S = 0.3
GRACE_S = 3.0
"""How long copies that a smaller job has no more may take to end; the job master has told them before."""
OFFERS = ResourceOffers(
    supervised=True,
    master_in_client=True,
    restarts_slots=True,
    resizes=True,
    outlives_client=True,
    limits=frozenset({"walltime"}),
    why={
        "worlds": "hosts that are only joined by ssh have no process manager; the supervisors serve PMI-1 themselves",
        "in_process": "workers run on other hosts",
        "master_in_allocation": "hosts need no ssh between them, so the master, which starts workers again, runs here",
        "restarts_master": "the master runs in the client, which nobody starts again",
        "same_host": "workers run on the hosts of rm.standalone.hosts",
        "shared_files": "rm.standalone.shared_files names nothing that hosts and client share",
        "limits": "only control groups confine processes: CPUs and memory, where rm.standalone.limits names them",
    },
)


class HostsManager(ResourceManager):
    """See :class:`twister2.spec.rm.ResourceManager`. On each host the manager of processes does the work."""

    def __init__(self, config: StandaloneConfig, context: RmContext) -> None:
        self._config, self._context = config, context
        self.offers = attrs.evolve(
            OFFERS,
            shared_files=frozenset(config.shared_files),
            python=config.python,
            limits=OFFERS.limits | set(config.limits),
        )
        self._fleets: dict[str, Fleet] = {}
        self._ticket = b""

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        shares = self._shares(allocation)
        python = self._config.python or sys.executable
        words = [python if word == sys.executable else word for word in allocation.worker_command]
        lines = [
            f"# {allocation.summary}",
            "# submitted by one ssh for each host, whose standard input brings an agent",
        ]
        ssh = Ssh(self._config, allocation.job_id)
        for host, slots in shares.items():
            lines += [f"# {host}: slots {slots[0]} to {slots[-1]}", shlex.join(ssh.command(host, ssh.python()))]
        ssh.hang_up([])
        lines += [
            f"# The agent writes below {self._config.host_folder or 'the state folder of the user there'}, the ticket"
            " to a file (0600), and starts a launcher, which starts every worker as",
            *(f"export {key}={shlex.quote(value)}" for key, value in sorted(allocation.environment.items())),
            f"export TWISTER2_JOB={allocation.job_id}",
            "# with TWISTER2_SLOT, and TWISTER2_TICKET, which names that file",
            shlex.join(words),
        ]
        return "\n".join(lines) + "\n"

    def _shares(self, allocation: Allocation) -> dict[str, list[int]]:
        self._refuse(allocation)
        return spread(places_of(self._config), range(allocation.n_workers), {}, allocation.oversubscribe)

    def _refuse(self, allocation: Allocation) -> None:
        if allocation.world is not None:
            problem, remedy = (
                f"no {allocation.world} world is provided: {OFFERS.why['worlds']}",
                "use comm_tcp, or an MPI library that speaks PMI-1",
            )
        elif allocation.master is not None:
            problem, remedy = OFFERS.why["master_in_allocation"], "set job.master = 'client'"
        elif allocation.n_workers < 1:
            problem, remedy = "it asks for no worker", "ask for at least one"
        else:
            return
        raise SubmissionRefusedError(
            f"the hosts do not take job {allocation.job_id}", why=problem, remedy=remedy, where="rm.standalone.hosts"
        )

    def submit(self, allocation: Allocation) -> JobHandle:
        shares = self._shares(allocation)
        job = {
            "pythons": [sys.executable, self._config.python],
            "command": [*allocation.worker_command],
            "environment": dict(allocation.environment),
            "name": allocation.name,
            "walltime_s": allocation.walltime_s,
            "oversubscribe": allocation.oversubscribe,
            "groups": [attrs.asdict(group) for group in allocation.groups],
        }
        handle = JobHandle(
            NAME,
            allocation.job_id,
            ",".join(shares),
            {
                "hosts": [place.name for place in places_of(self._config)],
                "shares": shares,
                "logs": str(Path(allocation.folder, "slots").absolute()),
                "n_workers": allocation.n_workers,
                "job": job,
            },
        )
        requests = {
            host: self._start_request(handle, slots, 1, allocation.ticket, do="begin") for host, slots in shares.items()
        }
        fleet, begun = self._fleet(allocation.job_id), False
        try:
            replies, errors = fleet.ask(requests, self._context.call_timeout_s)
            begun = not errors
        finally:
            if not begun:
                fleet.ask(_all(shares, {"do": "kill", "grace_s": 0.0}), ANSWER_S, patient=False)
                fleet.ask(_all(shares, {"do": "clean"}), ANSWER_S, patient=False)
                fleet.hang_up([*shares])
        if errors:
            raise _worst(errors)
        warnings = [f"{host}: {text}" for host, reply in replies.items() for text in reply["warnings"]]
        return attrs.evolve(handle, facts={**handle.facts, "warnings": warnings})

    def _start_request(
        self,
        handle: JobHandle,
        slots: Sequence[int],
        attempt: int,
        ticket: bytes,
        *,
        do: str,
        wants: Mapping[int, Sequence[float]] | None = None,
    ) -> dict[str, Any]:
        """
        :param wants: CPUs and memory of slots that came with a change of size.
        """
        job = handle.facts["job"]
        groups, first = [], 0
        for group in job["groups"]:
            here = sum(first <= slot < first + group["count"] for slot in slots)
            first += group["count"]
            if here:
                groups.append({**group, "count": here})
        for slot in slots:
            if slot >= first:
                like = job["groups"][-1]  # the host that knew what it wants may be lost
                cpus, memory_mb = (wants or {}).get(slot) or (like["cpus"], like["memory_mb"])
                groups.append(attrs.asdict(ResourceGroup("more", 1, cpus, int(memory_mb))))
        kept = ("worker_min_mb", "log_limit_kb", "limits", "bind")
        return {
            "do": do,
            "job": job,
            "groups": groups,
            "slots": [*slots],
            "attempt": attempt,
            "ticket": base64.b64encode(ticket).decode(),
            "handle": attrs.asdict(handle),
            "config": {name: getattr(self._config, name) for name in kept},
        }

    # -- look ----------------------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> JobHandle | None:
        replies, errors = self._fleet(job_id).ask({host: {"do": "find"} for host in self._names()}, ANSWER_S)
        found = next((reply for reply in replies.values() if reply is not None), None)
        if found is None and errors:
            raise _worst(errors)
        return None if found is None else JobHandle(**found)

    def state(self, handle: JobHandle) -> JobStatus:
        hosts = self._hosts(handle)
        replies, errors = self._fleet(handle.job_id).ask(_all(hosts, {"do": "state"}), ANSWER_S, patient=False)
        if errors and not any(reply["known"] for reply in replies.values()):
            raise _worst(errors)  # who has it cannot be asked; it is not gone
        return merged(handle, replies, errors)

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        yield from read_logs(Path(str(handle.facts.get("logs", "/nonexistent"))), slot, False, lambda: True)
        fleet, places = self._fleet(handle.job_id), dict[str, dict[str, Any]]()
        while True:
            last = not follow or self._is_over(handle)
            requests = {
                host: {"do": "logs", "slot": slot, "places": places.get(host, {})} for host in self._hosts(handle)
            }
            replies, _ = fleet.ask(requests, ANSWER_S, patient=False)
            for host, reply in replies.items():
                places[host] = reply["places"]
                for number, stream, text in reply["chunks"]:
                    yield LogChunk(number, stream, text)
            if last:
                return
            time.sleep(POLL_S)

    def _is_over(self, handle: JobHandle) -> bool:
        status = self.state(handle)
        return status.state.final or status.state is JobState.UNKNOWN

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        raise ResourceError(
            f"job {handle.job_id} has no master in its allocation",
            why=OFFERS.why["master_in_allocation"],
            remedy="reach the master at the address in the job record",
        )

    # -- attempts ------------------------------------------------------------------------------------------------------

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        first, self._ticket = not self._ticket, ticket
        request = {"do": "publish", "ticket": base64.b64encode(ticket).decode()}
        replies, errors = self._fleet(handle.job_id).ask(_all(self._hosts(handle), request), ANSWER_S)
        mine = {host: error for host, error in errors.items() if handle.facts.get("shares", {}).get(host)}
        if mine and (first or not replies):  # later on, hosts may have been lost, and their slots live elsewhere
            raise _worst(mine)
        if not any(replies.values()):
            raise JobNotFoundError(
                f"job {handle.job_id} is not known on its hosts",
                why="it has ended and was cleaned away, or its hosts were",
                remedy="submit it again",
            )

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        if world is not None:
            raise CapabilityError(
                f"the hosts provide no {world} world",
                why=OFFERS.why["worlds"],
                remedy="use a transport that needs none from the manager",
            )
        shares, wants = self._placed(handle, slots)
        requests = {
            host: self._start_request(handle, here, attempt, self._ticket, do="start", wants=wants)
            for host, here in shares.items()
        }
        _, errors = self._fleet(handle.job_id).ask(requests, self._context.call_timeout_s)
        if errors:
            raise _worst(errors)

    def _placed(
        self, handle: JobHandle, slots: Sequence[int]
    ) -> tuple[dict[str, list[int]], dict[int, Sequence[float]]]:
        """Hosts for these slots: the one that each had, or where that does not answer, one that does; and what is known
        of what slots want.
        """
        replies, errors = self._fleet(handle.job_id).ask(
            _all(self._hosts(handle), {"do": "state"}), ANSWER_S, patient=False
        )
        if errors and not replies:
            raise _worst(errors)
        owners = _owners(handle, replies)
        shares: dict[str, list[int]] = {}
        homeless = []
        for slot in slots:
            host = owners.get(slot, "")
            if host in replies:
                shares.setdefault(host, []).append(slot)
            else:
                homeless.append(slot)
        taken = {host: [slot for slot, owner in owners.items() if owner == host] for host in replies}
        try:
            moved = spread(
                [place for place in self._places(handle) if place.name in replies],
                homeless,
                taken,
                bool(handle.facts["job"]["oversubscribe"]),
            )
        except ResourcesExceededError as error:
            lost = next(iter(errors.values()), None)
            raise ResourceError(
                f"workers of job {handle.job_id} have lost their hosts, and the others have no room for them",
                why=f"{lost.what}; {error.why}" if lost else error.why,
                remedy="give the hosts larger numbers, or none (rm.standalone.hosts), or set job.oversubscribe = true",
            ) from error
        for host, here in moved.items():
            shares[host] = sorted([*shares.get(host, []), *here])
        return shares, _wants(replies)

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        request = {"do": "stop", "slots": [*slots], "grace_s": grace_s}
        _, errors = self._fleet(handle.job_id).ask(
            _all(self._hosts(handle), request), self._context.call_timeout_s + grace_s, patient=False
        )
        if errors:
            raise _worst(errors)

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        fleet, hosts = self._fleet(handle.job_id), self._hosts(handle)
        if n_workers < 1:
            raise ResourceError(
                f"job {handle.job_id} cannot have {n_workers} workers", why="one is the least", remedy="kill the job"
            )
        replies, errors = fleet.ask(_all(hosts, {"do": "state"}), ANSWER_S, patient=False)
        if errors and not replies:
            raise _worst(errors)
        owners = _owners(handle, replies)
        slots = {int(slot) for reply in replies.values() for slot in reply["attempts"]}
        if any(host in errors for slot, host in owners.items() if slot not in slots):
            raise _worst(errors)  # what it has is not known
        before = max(slots, default=-1) + 1
        if n_workers < before:
            request = {"do": "forget", "slots": [*range(n_workers, before)], "grace_s": GRACE_S}
            _, errors = fleet.ask(_all(replies, request), self._context.call_timeout_s + GRACE_S)
            if errors:
                raise _worst(errors)
            return
        more = [*range(before, n_workers)]
        taken = {host: [slot for slot in slots if owners[slot] == host] for host in replies}
        places = [place for place in self._places(handle) if place.name in replies]
        shares = spread(places, more, taken, bool(handle.facts["job"]["oversubscribe"]))
        like = group or ResourceGroup(**handle.facts["job"]["groups"][-1])
        attempt = max((attempt for reply in replies.values() for attempt in reply["attempts"].values()), default=1)
        wants = dict.fromkeys(more, (like.cpus, like.memory_mb))
        ticket = self._ticket or self._ticket_there(handle, replies)
        requests = {
            host: self._start_request(handle, here, attempt, ticket, do="start", wants=wants)
            for host, here in shares.items()
        }
        _, errors = fleet.ask(requests, self._context.call_timeout_s)
        if errors:  # all or nothing
            forget = {"do": "forget", "slots": more, "grace_s": 0.0}
            fleet.ask(_all(shares, forget), ANSWER_S, patient=False)
            raise _worst(errors)

    def _ticket_there(self, handle: JobHandle, hosts: Iterable[str]) -> bytes:
        """The ticket that copies on the hosts have, for others."""
        replies, _ = self._fleet(handle.job_id).ask(_all(hosts, {"do": "ticket"}), ANSWER_S, patient=False)
        return base64.b64decode(next(filter(None, replies.values()), ""))

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        request = {"do": "kill", "grace_s": grace_s}
        _, errors = self._fleet(handle.job_id).ask(
            _all(self._hosts(handle), request), self._context.call_timeout_s + grace_s
        )
        if errors:
            worst = _worst(errors)
            lost = ", ".join(errors)
            raise ResourceError(
                f"job {handle.job_id} could not be ended on {lost}",
                why=f"{worst.what}: {worst.why}",
                remedy="its workers end by themselves when the job master has been silent for job.master_lost_s; "
                f"call it again when the host answers. {worst.remedy}",
                where=worst.where,
            )

    def clean(self, handle: JobHandle) -> list[str]:
        fleet, hosts = self._fleet(handle.job_id), self._hosts(handle)
        replies, errors = fleet.ask(_all(hosts, {"do": "clean"}), ANSWER_S, patient=False)
        for host, reply in replies.items():
            self._keep(handle, host, reply["logs"])
        fleet.hang_up(hosts)
        left = [f"{host}: {text}" for host, reply in replies.items() for text in reply["left"]]
        return left + [f"files of the job on {host}: {error.what}" for host, error in errors.items()]

    def _keep(self, handle: JobHandle, host: str, texts: Mapping[str, str]) -> None:
        """What copies wrote outlives the job's files on the hosts, where this host keeps the job's folder."""
        folder = Path(str(handle.facts.get("logs", "")))
        if not texts or not folder.parent.is_dir():
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in texts.items():
            if not is_log(name):  # a host tells names of files here: no others than these
                continue
            with open(
                folder / name, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)
            ) as f:
                f.write(text if name != "launcher.log" else f"{host}: {text}")

    def close(self) -> None:
        for fleet in self._fleets.values():
            fleet.close()
        self._fleets = {}

    # -- inside --------------------------------------------------------------------------------------------------------

    def _fleet(self, job_id: str) -> Fleet:
        return self._fleets.setdefault(job_id, Fleet(self._config, job_id))

    def _names(self) -> list[str]:
        return [place.name for place in places_of(self._config)]

    def _hosts(self, handle: JobHandle) -> list[str]:
        return [str(host) for host in handle.facts.get("hosts", ())] or self._names()

    def _places(self, handle: JobHandle) -> list[Place]:
        known = {place.name: place for place in places_of(self._config)}
        return [known.get(name, Place(name)) for name in self._hosts(handle)]


def _all(hosts: Iterable[str], request: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The same request for all hosts."""
    return dict.fromkeys(hosts, request)


def _owners(handle: JobHandle, replies: Mapping[str, Any]) -> dict[int, str]:
    """The host of each slot: where it was started last. Where it was at first tells of hosts only that cannot say."""
    latest: dict[int, tuple[int, str]] = {}
    for host, reply in replies.items():
        for text, attempt in reply["attempts"].items():
            if attempt > latest.get(int(text), (0, ""))[0]:
                latest[int(text)] = (attempt, host)
    owners = {slot: host for slot, (_, host) in latest.items()}
    for host, slots in handle.facts.get("shares", {}).items():
        if host not in replies or not replies[host]["known"]:
            for slot in slots:
                owners.setdefault(int(slot), str(host))
    return owners


def _wants(replies: Mapping[str, Any]) -> dict[int, Sequence[float]]:
    """CPUs and memory of the slots, as the hosts know them."""
    return {int(slot): wanted for reply in replies.values() for slot, wanted in reply["wants"].items()}


def _worst(errors: Mapping[str, Twister2Error]) -> Twister2Error:
    """The error to raise for those of several hosts: the first, which names the others."""
    host, first = next(iter(errors.items()))
    others = [name for name in errors if name != host]
    if others:
        first.details["hosts"] = [*errors]
        same = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        first.why = f"{first.why}; likewise, or otherwise, failed: {same}" if first.why else f"as did {same}"
    return first
