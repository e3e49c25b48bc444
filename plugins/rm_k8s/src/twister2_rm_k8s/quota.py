"""Whether a job can fit at all: quotas of its namespace, and the size of the nodes."""

from __future__ import annotations

import contextlib
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError, ResourcesExceededError
from twister2_rm_k8s.api import RefusedError
from twister2_rm_k8s.names import path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twister2_rm_k8s.api import Api

Object = dict[str, Any]

UNITS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(text: str) -> Decimal:
    """A quantity of Kubernetes, ``500m`` or ``2Gi``, as a number.

    :raises ValueError: it is none.
    """
    match = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]?i?)", text)
    if match is None or match[2] not in UNITS:
        raise ValueError(f"no quantity: {text!r}")
    return Decimal(match[1]) * UNITS[match[2]]


def wanted(jobs: Iterable[Object]) -> dict[str, Decimal]:
    """What all pods of these Jobs ask for together, by the names that quotas use."""
    total: dict[str, Decimal] = {}
    for job in jobs:
        count = job["spec"]["parallelism"]
        total["pods"] = total.get("pods", Decimal(0)) + count
        for container in job["spec"]["template"]["spec"]["containers"]:
            resources = container.get("resources") or {}
            limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
            for name, text in {**limits, **requests}.items():
                for key in (f"requests.{name}", name):
                    total[key] = total.get(key, Decimal(0)) + count * quantity(str(text))
            for name, text in limits.items():
                total[f"limits.{name}"] = total.get(f"limits.{name}", Decimal(0)) + count * quantity(str(text))
    return total


def check(api: Api, namespace: str, jobs: list[Object]) -> None:
    """Whether the quotas of the namespace leave room for the job when nothing else runs there. What we may not see is
    not checked.

    :raises ResourcesExceededError: more is asked for than can ever be had.
    """
    over: list[str] = []
    with contextlib.suppress(RefusedError, ResourceError, ValueError):
        total = wanted(jobs)
        over = [
            f"{name} {_plain(total[name])} of {text} (quota {body['metadata']['name']})"
            for body in api.items(path(namespace, "resourcequotas"))
            if not body["spec"].get("scopes") and not body["spec"].get("scopeSelector")
            for name, text in (body["spec"].get("hard") or {}).items()
            if name in total and total[name] > quantity(str(text))
        ]
    if over:
        raise ResourcesExceededError(
            "the job asks for more than its namespace may ever have",
            why="; ".join(over),
            remedy="ask for fewer or smaller workers, or for a larger quota",
            where=f"namespace {namespace}",
        )


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
