"""Whether Nomad can be used from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError
from twister2.spec.plugin import Probe
from twister2.spec.rm import Check
from twister2_rm_nomad.api import Api, NotFoundError
from twister2_rm_nomad.capacity import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2_rm_nomad.config import NomadConfig

TIMEOUT_S = 0.9


def probe(config: NomadConfig) -> Probe:
    """Ask for the jobs (which needs the token) and the nodes; reads only."""
    api = Api(config, TIMEOUT_S)
    try:
        api.get("/jobs", prefix="twister2-")
        nodes = ready(api.get("/nodes", resources="true"))
    except (ResourceError, NotFoundError) as error:
        if isinstance(error, ResourceError):
            return Probe(False, f"{error.what}: {error.why}", error.remedy)
        return Probe(False, f"what answers is not Nomad: {error}", "set rm.nomad.address to Nomad's API")
    able = [node for node in nodes if config.driver in node.drivers]
    facts = {"nodes": [node.name for node in nodes], "datacenters": sorted({node.datacenter for node in nodes})}
    if not able:
        drivers = sorted(set().union(*(node.drivers for node in nodes))) if nodes else []
        text = f"{len(nodes)} nodes, none with driver '{config.driver}'; they have {', '.join(drivers) or 'none'}"
        return Probe(False, text, "set rm.nomad.driver to one of them", facts)
    return Probe(True, f"{len(able)} nodes with driver '{config.driver}', {able[0].datacenter}", facts=facts)


def doctor(config: NomadConfig, timeout_s: float) -> list[Check]:
    """Server, credentials, what they permit, nodes and their drivers; reads only."""
    api = Api(config, timeout_s)
    checks: list[Check] = []

    def look(name: str, ask: Callable[[], Any], tell: Callable[[Any], str]) -> Any:
        """Note what was found; what was answered, None for no answer or a refusal."""
        try:
            answer = ask()
            checks.append(Check(name, "ok", tell(answer)))
        except NotFoundError as error:
            answer = None
            checks.append(Check(name, "failed", f"what answers is not Nomad: {_line(error)}", "set rm.nomad.address"))
        except ResourceError as error:
            answer = None
            checks.append(Check(name, "failed", _line(f"{error.what}: {error.why}"), error.remedy))
        return answer

    leader = look("Nomad's server", lambda: api.get("/status/leader"), lambda found: f"answers; its leader is {found}")
    if leader is None:
        return checks
    jobs = look("credentials", lambda: api.get("/jobs", prefix="twister2-"), lambda _: "may look at jobs")
    if jobs is not None:
        where = api.access.namespace
        look(
            "variables",
            lambda: api.get("/vars", prefix="nomad/jobs/twister2-"),
            lambda _: f"may look at variables of namespace '{where}'",
        )
    try:
        nodes = ready(api.get("/nodes", resources="true"))
    except (ResourceError, NotFoundError) as error:
        checks.append(Check("nodes", "skipped", f"the token may not look at nodes: {_line(error)}"))
        return checks
    able = [node for node in nodes if config.driver in node.drivers]
    drivers = ", ".join(sorted(set().union(*(node.drivers for node in nodes)))) or "none"
    if able:
        cpu, memory = sum(node.cpu for node in able), sum(node.memory_mb for node in able)
        text = f"{len(able)} have driver '{config.driver}', with {cpu:,} MHz and {memory:,} MiB together"
        checks.append(Check("nodes", "ok", text))
    else:
        text = f"none of {len(nodes)} has driver '{config.driver}'; drivers there: {drivers}"
        checks.append(Check("nodes", "failed", text, "set rm.nomad.driver, or have it enabled on the nodes"))
    return checks


def _line(value: object) -> str:
    """Text in one line."""
    return " ".join(str(value).split())
