"""Options of the plugin."""

from __future__ import annotations

import re
from typing import Any

import attrs
from attrs.validators import ge, gt, in_

from twister2.spec.options import option

CONTAINERS = ("none", "mesos", "docker")
CONSTRAINT = re.compile(r"\s*([\w.-]+)\s*(=|!=|~)\s*(.+?)\s*")


def _constraints(_: Any, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for text in value:
        constraint(text)


def constraint(text: str) -> tuple[str, str, str]:
    """``"rack = r1"`` as attribute, operator and value.

    :raises ValueError: it is not of that form.
    """
    found = CONSTRAINT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"a constraint is 'attribute = text', 'attribute != text' or 'attribute ~ pattern', not {text!r}"
        )
    if found[2] == "~":
        try:
            re.compile(found[3])
        except re.error as error:
            raise ValueError(f"the pattern of {text!r} makes no sense: {error}") from error
    return found[1], found[2], found[3]


def _masters(_: Any, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for text in value:
        if not text.startswith(("http://", "https://")):
            raise ValueError(f"{attribute.name!r} holds addresses such as 'http://mesos.example:5050', not {text!r}")


@attrs.frozen(kw_only=True)
class MesosConfig:
    """Options of ``[rm.mesos]``."""

    masters: tuple[str, ...] = option(
        ("http://127.0.0.1:5050",), "Mesos' masters; the one that leads is found from any.", validator=_masters
    )
    role: str = option("*", "Role whose resources are used.")
    principal: str = option("", "Principal of the framework, where Mesos authenticates frameworks.")
    secret_file: str = option("", "File with the principal's secret (0600).")
    ca_cert: str = option("", "File with the certificate of the authority of masters and agents, for https.")
    user: str = option("", "User that runs the tasks; the submitting user when empty.")
    constraints: tuple[str, ...] = option(
        (), "What agents' attributes must be: 'rack = r1', 'os != old' or 'zone ~ eu-.*'.", validator=_constraints
    )
    host: str = option(
        "",
        "Name or address of this host for the agents: copies fetch their tickets from it. The one that faces Mesos' "
        "master when empty.",
    )
    python: str = option("", "Python of the agents that starts the copies; that of the workers when empty.")
    container: str = option(
        "none",
        "Containerizer of the copies: none, or mesos or docker (experimental) with an image.",
        validator=in_(CONTAINERS),
    )
    image: str = option("", "Docker image of the copies; it needs Python and the plugins.")
    memory_mb: int = option(256, "Memory of a copy for which none is asked for.", unit="MiB", validator=gt(0))
    hold_s: float = option(
        10.0, "How long offers are held until those for all copies are there.", unit="s", validator=gt(0)
    )
    refuse_s: float = option(
        5.0, "How long agents are not offered again that are of no use.", unit="s", validator=ge(0)
    )
    failover_s: float = option(
        3600.0, "How long Mesos keeps the copies when this job's scheduler is gone.", unit="s", validator=gt(0)
    )
    linger_s: float = option(
        30.0, "How long the framework stays for another attempt when all copies have ended.", unit="s", validator=ge(0)
    )
    poll_s: float = option(0.1, "Time between two looks at files, and at logs.", unit="s", validator=gt(0))
