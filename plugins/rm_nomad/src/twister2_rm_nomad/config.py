"""Options of the plugin."""

from __future__ import annotations

from typing import Any

import attrs
from attrs.validators import ge, gt, in_, le

from twister2.spec.options import option

DRIVERS = ("raw_exec", "exec", "docker")
OPERANDS = ("=", "!=", ">", ">=", "<", "<=", "regexp", "version", "semver", "set_contains", "set_contains_any")
ALONE = ("is_set", "is_not_set")


def _address(_: Any, attribute: attrs.Attribute[Any], value: str) -> None:
    if value and not value.startswith(("http://", "https://", "unix://")):
        raise ValueError(f"{attribute.name!r} begins with http://, https:// or unix://, unlike {value!r}")


def _constraints(_: Any, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for text in value:
        constraint(text)


def constraint(text: str) -> dict[str, str]:
    """``"${attr.kernel.name} = linux"`` as Nomad's API has it.

    :raises ValueError: it is not of that form.
    """
    words = text.split(None, 2)
    if len(words) == 3 and words[1] in OPERANDS:
        return {"LTarget": words[0], "Operand": words[1], "RTarget": words[2]}
    if len(words) == 2 and words[1] in ALONE:
        return {"LTarget": words[0], "Operand": words[1]}
    raise ValueError(
        f"a constraint is an attribute, an operator ({', '.join((*OPERANDS, *ALONE))}) and a value, "
        f"e.g. '${{attr.kernel.name}} = linux', not {text!r}"
    )


@attrs.frozen(kw_only=True)
class NomadConfig:
    """Options of ``[rm.nomad]``."""

    address: str = option(
        "",
        "Nomad's API, e.g. 'https://nomad.example:4646' or 'unix:///path'; NOMAD_ADDR, else "
        "http://127.0.0.1:4646, when empty.",
        validator=_address,
    )
    token_file: str = option("", "File with the ACL token (0600); NOMAD_TOKEN when empty.")
    ca_cert: str = option("", "File with the certificate of Nomad's authority; NOMAD_CACERT when empty.")
    client_cert: str = option("", "File with the client's certificate; NOMAD_CLIENT_CERT when empty.")
    client_key: str = option("", "File with the client's key; NOMAD_CLIENT_KEY when empty.")
    tls_server_name: str = option(
        "", "Name in the server's certificate, e.g. 'server.global.nomad'; the address's host when empty."
    )
    namespace: str = option("", "Namespace of the jobs; NOMAD_NAMESPACE, else 'default', when empty.")
    region: str = option("", "Region; NOMAD_REGION, else the region of the server that answers, when empty.")
    datacenters: tuple[str, ...] = option(("*",), "Datacenters to run in.")
    node_pool: str = option("", "Pool of nodes; the namespace's default when empty.")
    constraints: tuple[str, ...] = option(
        (), "What nodes must be, e.g. '${attr.cpu.arch} = amd64' or '${node.class} regexp big'.", validator=_constraints
    )
    priority: int = option(50, "Priority of the job, 1 to 100.", unit="1", validator=[ge(1), le(100)])
    driver: str = option(
        "raw_exec", "How copies run: raw_exec (no isolation), exec, or docker (experimental).", validator=in_(DRIVERS)
    )
    image: str = option("", "Image for the docker driver; it needs Python, the plugins and a shell.")
    user: str = option("", "User that runs the copies; the driver's own choice when empty.")
    ticket_uid: int = option(
        -1,
        "User id that owns the tickets' files, for copies of another user than the agent.",
        unit="1",
        validator=ge(-1),
    )
    cpu_mhz: float = option(
        0.0, "MHz of one CPU of 'job.cpus'; that of the slowest ready node when 0.", unit="MHz", validator=ge(0)
    )
    cores: bool = option(False, "Reserve whole cores instead of shares in MHz.")
    master_cpus: float = option(0.25, "CPUs asked for a job master in the allocation.", unit="1", validator=gt(0))
    master_memory_mb: int = option(300, "Memory of a job master in the allocation.", unit="MiB", validator=gt(0))
    memory_mb: int = option(300, "Memory of a worker for which none is asked for.", unit="MiB", validator=gt(0))
    master_restarts: int = option(
        3,
        "How often Nomad starts a job master again that has died; 0: its end is that of the job.",
        unit="1",
        validator=ge(0),
    )
    stop_grace_s: float = option(
        20.0,
        "How long copies that Nomad stops may take; below its max_kill_timeout (30).",
        unit="s",
        validator=gt(0),
    )
    poll_s: float = option(0.2, "Time between two looks at logs, or at an ending job.", unit="s", validator=gt(0))
