"""What ``twister2 doctor`` looks at on hosts before it sends a job."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from twister2.spec.errors import Twister2Error
from twister2.spec.rm import Check
from twister2_rm_standalone.hosts.fleet import Fleet
from twister2_rm_standalone.hosts.places import places_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.rm import RmContext
    from twister2_rm_standalone.config import StandaloneConfig


def doctor(config: StandaloneConfig, context: RmContext) -> list[Check]:
    """Whether every host lets us in, and has an interpreter that fits; what it has to give. Reads only."""
    try:
        places = places_of(config)
        fleet = Fleet(config, f"doctor-{uuid.uuid4().hex[:12]}")
    except Twister2Error as error:
        return [Check("hosts", "failed", f"{error.what}: {error.why}", error.remedy)]
    names = [place.name for place in places]
    try:
        replies, errors = fleet.ask({name: {"do": "look"} for name in names}, context.call_timeout_s)
    finally:
        fleet.hang_up(names)
    checks = [Check("hosts", "ok", f"{len(names)} are named: {', '.join(names[:10])}{', ...' if names[10:] else ''}")]
    for place in places:
        if place.name in errors:
            wrong = errors[place.name]
            finding = " ".join(f"{wrong.what}: {wrong.why}".split())
            checks.append(Check(f"host {place.name}", "failed", finding, wrong.remedy))
            continue
        seen = replies[place.name]
        finding = f"{seen['cpus']} CPUs, {seen['free_mb']} MiB of free memory, {seen['python']}"
        room = not place.count or place.count <= seen["cpus"]
        remedy = "" if room else "make its number smaller in rm.standalone.hosts, or let its workers take turns"
        few = "" if room else f"; {place.count} workers may come"
        checks.append(Check(f"host {place.name}", "ok" if room else "warning", finding + few, remedy))
        checks.append(check_limits(f"limits on host {place.name}", config.limits, seen["limits"]))
    return checks


def check_limits(name: str, wanted: Sequence[str], outlook: Mapping[str, str]) -> Check:
    """Whether workers are held to their CPUs and memory, and could be.

    :param outlook: of :func:`twister2_rm_standalone.cgroups.outlook`.
    """
    not_here = {limit: why for limit, why in outlook.items() if why}
    refused = "; ".join(f"{limit}: {not_here[limit]}" for limit in wanted if limit in not_here)
    if refused:
        remedy = (
            "leave out rm.standalone.limits, or have control groups delegated to the user (Delegate=yes of systemd)"
        )
        return Check(name, "failed", f"they cannot be set: {refused}", remedy)
    if wanted:
        return Check(name, "ok", f"control groups hold each worker to its {' and its '.join(wanted)}")
    could = [limit for limit in outlook if limit not in not_here]
    why = next(iter(not_here.values()), "")
    rest = f"control groups would allow {' and '.join(could)}" if could else f"control groups do not allow it: {why}"
    return Check(
        name, "skipped", f"workers may take more CPUs and memory than they ask for (rm.standalone.limits); {rest}"
    )
