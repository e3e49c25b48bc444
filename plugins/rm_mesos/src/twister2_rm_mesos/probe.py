"""Whether Mesos can be used from here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError
from twister2.spec.plugin import Probe
from twister2.spec.rm import Check
from twister2_rm_mesos.api import Api, RefusedError
from twister2_rm_mesos.config import constraint
from twister2_rm_mesos.desk import own_address
from twister2_rm_mesos.offers import suits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2_rm_mesos.config import MesosConfig

TIMEOUT_S = 0.9
OLDEST = (1, 7)


def agents(api: Api, config: MesosConfig) -> tuple[list[Mapping[str, Any]], int]:
    """The active agents with the attributes that are asked for, and how many there are in all.

    :raises ResourceError: nobody answers. :raises RefusedError: it may not be looked at.
    """
    found = [each for each in api.get("/slaves")["slaves"] if each.get("active", True)]
    wanted = [constraint(text) for text in config.constraints]
    return [each for each in found if suits(_attributes(each), wanted)], len(found)


def _attributes(agent: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": "TEXT", "text": {"value": f"{value:g}" if isinstance(value, float) else str(value)}}
        for name, value in (agent.get("attributes") or {}).items()
    ]


def probe(config: MesosConfig) -> Probe:
    """Ask for the agents; reads only."""
    try:
        able, n = agents(Api(config, TIMEOUT_S), config)
    except ResourceError as error:
        return Probe(False, f"{error.what}: {error.why}", error.remedy)
    except RefusedError as error:
        return Probe(False, f"Mesos refused: {error}", "set rm.mesos.principal and rm.mesos.secret_file")
    if not able:
        return Probe(False, f"none of {n} agents is as rm.mesos.constraints ask for", "ask for less")
    return Probe(True, f"{len(able)} agents", facts={"agents": [str(each.get("hostname")) for each in able]})


def doctor(config: MesosConfig, timeout_s: float) -> list[Check]:
    """Master, agents, and the address by which copies fetch their tickets; reads only."""
    api = Api(config, timeout_s)
    try:
        version = api.operate("GET_VERSION")["get_version"]["version_info"]["version"]
        checks = [_version(version)]
        able, n = agents(api, config)
    except ResourceError as error:
        return [Check("Mesos' master", "failed", f"{error.what}: {' '.join(error.why.split())}", error.remedy)]
    except (RefusedError, KeyError) as error:
        return [Check("Mesos' master", "failed", f"refused: {error}", "set rm.mesos.principal and secret_file")]
    if able:
        cpus, memory = (sum(float(each["resources"].get(name, 0)) for each in able) for name in ("cpus", "mem"))
        checks.append(Check("agents", "ok", f"{len(able)} with {cpus:g} CPUs and {memory:,.0f} MiB together"))
    else:
        checks.append(Check("agents", "failed", f"none of {n} suits", "change rm.mesos.constraints, or start agents"))
    address = own_address(config)
    checks.append(Check("way back", "ok", f"agents will fetch tickets from {address}; rm.mesos.host changes it"))
    return checks


def _version(version: str) -> Check:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        remedy = f"use Mesos {OLDEST[0]}.{OLDEST[1]} or newer"
        return Check("Mesos' master", "failed", f"answers, but its version is {version}", remedy)
    return Check("Mesos' master", "ok", f"answers, version {version}")
