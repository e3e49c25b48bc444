"""Needs and offers of the chosen plugins, matched at submit, before anything starts.

Plugins *declare* what they need and what they offer; nothing here knows a plugin by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from twister2.spec.errors import CapabilityError
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.comm import TransportFacts
    from twister2.spec.rm import ResourceOffers

SUPERVISORS_WORLD = "pmi1"
"""The process world that the supervisors themselves serve where the resource manager does not."""

Place = Literal["client", "allocation"]


@attrs.frozen(eq=False, repr=False)
class Match(Value):
    """How the chosen plugins fit together.

    :ivar transports: those of ``job.comm`` that can serve here, in the job's order of preference.
    :ivar world: the process world the resource manager must provide (``Allocation.world``), None when none is needed
        or the supervisors serve it.
    :ivar supervisors_serve: whether the supervisors must serve the process world.
    :ivar master: where the job master lives.
    :ivar notes: what was left out, and why, one sentence each; worth a log line.
    """

    transports: tuple[str, ...]
    world: str | None
    supervisors_serve: bool
    master: Place
    notes: tuple[str, ...] = ()


def match(
    *,
    rm: str,
    offers: ResourceOffers,
    transports: Mapping[str, TransportFacts],
    workers: int,
    master: Literal["auto", "client", "allocation"] = "auto",
) -> Match:
    """Fit transports, process worlds and the master's place to what the resource manager offers.

    :param rm: name of the resource manager, for messages. :param offers: of its backend.
    :param transports: what each plugin of ``job.comm`` declares, in the job's order.
    :param workers: number of workers; a single one needs no transport at all.
    :param master: ``job.master``.
    :raises CapabilityError: they do not fit; names both sides and the remedy.
    """
    reasons = {name: _why_not(facts, offers, workers) for name, facts in transports.items()}
    usable = tuple(name for name, reason in reasons.items() if not reason)
    if workers > 1 and not any(_joins_all(transports[name], offers) for name in usable):
        listed = "; ".join(
            f"{name} {reason or 'reaches only workers of one host or process'}" for name, reason in reasons.items()
        )
        raise CapabilityError(
            f"no transport of job.comm ({', '.join(transports)}) can join {workers} workers under rm plugin {rm!r}",
            where="job.comm, job.rm",
            why=listed or "job.comm is empty",
            remedy=_remedy(rm, offers),
            details={"rm": rm, "transports": dict(reasons)},
        )
    world, served = _world(transports, usable, offers)
    notes = tuple(f"transport {name} is left out: it {reason}" for name, reason in reasons.items() if reason)
    return Match(usable, world, served, place_master(rm, offers, master), notes)


def _why_not(facts: TransportFacts, offers: ResourceOffers, workers: int) -> str:
    """Why a transport cannot serve at all, empty when it can."""
    if offers.in_process:
        if facts.worlds:
            return f"needs a process of its own for each worker ({' or '.join(facts.worlds)}), workers are threads here"
        return ""
    if facts.same_process and not facts.crosses_processes and workers > 1:
        return "reaches threads of one process only, workers are processes here"
    if facts.worlds and not _worlds(facts, offers):
        have = ", ".join(sorted(offers.worlds)) or "none"
        return f"needs a process world ({' or '.join(facts.worlds)}), offered are: {have}"
    return ""


def _joins_all(facts: TransportFacts, offers: ResourceOffers) -> bool:
    """Whether a usable transport reaches every pair of workers."""
    if offers.in_process:
        return True
    return facts.crosses_processes and not facts.same_process and (offers.same_host or not facts.same_host)


def _worlds(facts: TransportFacts, offers: ResourceOffers) -> list[str]:
    """The worlds a transport can live in here, in its order."""
    have = offers.worlds | ({SUPERVISORS_WORLD} if offers.supervised else set())
    return [world for world in facts.worlds if world in have]


def _world(
    transports: Mapping[str, TransportFacts], usable: tuple[str, ...], offers: ResourceOffers
) -> tuple[str | None, bool]:
    """The process world of the job and whether the supervisors serve it. A job lives in one world."""
    for name in usable:
        choices = _worlds(transports[name], offers)
        provided = [world for world in choices if world in offers.worlds]
        if provided:
            return provided[0], False
        if choices:
            return None, True
    return None, False


def _remedy(rm: str, offers: ResourceOffers) -> str:
    if offers.in_process:
        return "choose a transport between threads, e.g. -o job.comm=inproc, or workers as processes"
    if offers.same_host:
        return f"add one that joins processes, e.g. -o job.comm=tcp, or choose another manager than {rm!r}"
    return f"add one that joins hosts, e.g. -o job.comm=tcp, or choose another manager than {rm!r}"


def place_master(rm: str, offers: ResourceOffers, wanted: Literal["auto", "client", "allocation"]) -> Place:
    """Where the job master lives: on one host in the client, else in the allocation, so that the client may go away.

    :raises CapabilityError: the wanted place is not offered.
    """
    possible: dict[Place, bool] = {"client": offers.master_in_client, "allocation": offers.master_in_allocation}
    if wanted == "auto":
        order: tuple[Place, Place] = ("client", "allocation") if offers.same_host else ("allocation", "client")
        for place in order:
            if possible[place]:
                return place
        why = "it offers neither a master in the client nor one in the allocation"
    elif possible[wanted]:
        return wanted
    else:
        why = offers.why.get(f"master_in_{wanted}") or f"it does not offer a master in the {wanted}"
    others = [place for place, offered in possible.items() if offered]
    raise CapabilityError(
        f"rm plugin {rm!r} cannot place the job master ({wanted})",
        where="job.master",
        why=why,
        remedy=f"set job.master = {others[0]!r}" if others else "choose another resource manager",
    )
