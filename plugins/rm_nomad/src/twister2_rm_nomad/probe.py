"""Whether Nomad can be used from here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2.spec.plugin import Probe
from twister2.spec.rm import Check
from twister2_rm_nomad import capacity
from twister2_rm_nomad.api import Api, NotFoundError, part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2_rm_nomad.config import NomadConfig

TIMEOUT_S = 0.9
OLDEST = (1, 5)
"""First version whose tasks can be given an identity that reads the job's variables."""


def probe(config: NomadConfig) -> Probe:
    """Ask for the jobs (which needs the token) and the nodes; reads only."""
    api = Api(config, TIMEOUT_S)
    try:
        api.get("/jobs", prefix="twister2-")
        nodes = capacity.ready(api.get("/nodes", **capacity.query(config)))
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
    """Server, credentials, what they permit, namespace, nodes, their drivers and versions; reads only."""
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
        checks.append(_namespace(api))
        look(
            "variables",
            lambda: api.get("/vars", prefix="nomad/jobs/twister2-"),
            lambda _: f"may look at variables of namespace '{where}'",
        )
    try:
        nodes = capacity.ready(api.get("/nodes", **capacity.query(config)))
    except (ResourceError, NotFoundError) as error:
        checks.append(Check("nodes", "skipped", f"the token may not look at nodes: {_line(error)}"))
        return checks
    return [*checks, _nodes(nodes, config), *_versions(nodes)]


def _namespace(api: Api) -> Check:
    name = api.access.namespace
    try:
        api.get(f"/namespace/{part(name)}")
    except NotFoundError:
        return Check("namespace", "failed", f"there is no namespace '{name}'", "set rm.nomad.namespace")
    except ResourceError as error:
        return Check("namespace", "skipped", f"the token may not look at it: {_line(error.why)}")
    return Check("namespace", "ok", f"'{name}' is there")


def _nodes(nodes: Sequence[capacity.Node], config: NomadConfig) -> Check:
    try:
        able = capacity.suitable(nodes, config)
    except SubmissionRefusedError as error:
        return Check("nodes", "failed", f"{error.what}: {error.why}", error.remedy)
    cpu, memory = sum(node.cpu for node in able), sum(node.memory_mb for node in able)
    text = f"{len(able)} have driver '{config.driver}', with {cpu:,} MHz and {memory:,} MiB together"
    return Check("nodes", "ok", text)


def _versions(nodes: Sequence[capacity.Node]) -> list[Check]:
    found = sorted({node.version for node in nodes if node.version})
    numbers = {text: re.match(r"(\d+)\.(\d+)", text) for text in found}
    old = [text for text, at in numbers.items() if at and (int(at[1]), int(at[2])) < OLDEST]
    if old:
        text = f"there are nodes of version {', '.join(old)}"
        return [Check("version", "failed", text, f"use nodes of Nomad {OLDEST[0]}.{OLDEST[1]} or newer")]
    return [Check("version", "ok", f"nodes have {', '.join(found)}")] if found else []


def _line(value: object) -> str:
    """Text in one line."""
    return " ".join(str(value).split())
