"""Offers and what fits into them: pure functions on Mesos' own data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMALL = 1e-6
"""Mesos counts thousandths."""


def amounts(resources: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sums of the scalar resources by name."""
    found: dict[str, float] = {}
    for each in resources:
        if each.get("type") == "SCALAR":
            found[each["name"]] = found.get(each["name"], 0.0) + float(each["scalar"]["value"])
    return found


def fits(wants: Mapping[str, float], has: Mapping[str, float]) -> bool:
    """Whether all that is wanted is there."""
    return all(has.get(name, 0.0) + SMALL >= amount for name, amount in wants.items())


def take(left: list[dict[str, Any]], wants: Mapping[str, float]) -> list[dict[str, Any]]:
    """Take resources out of ``left``, as they were offered: with their role and reservation. It must fit."""
    taken = []
    for name, amount in wants.items():
        rest = amount
        for each in left:
            if each["name"] != name or each.get("type") != "SCALAR" or rest <= SMALL:
                continue
            here = min(rest, float(each["scalar"]["value"]))
            if here > SMALL:
                taken.append({**each, "scalar": {"value": round(here, 3)}})
                each["scalar"] = {"value": round(float(each["scalar"]["value"]) - here, 3)}
                rest -= here
    return taken


def suits(attributes: Sequence[Mapping[str, Any]], constraints: Sequence[tuple[str, str, str]]) -> bool:
    """Whether an agent's attributes are as asked for; one that it does not have is no text at all."""
    has = {each["name"]: value_of(each) for each in attributes}
    for name, operator, value in constraints:
        found = has.get(name)
        if operator == "=" and found != value:
            return False
        if operator == "!=" and found == value:
            return False
        if operator == "~" and (found is None or re.fullmatch(value, found) is None):
            return False
    return True


def value_of(attribute: Mapping[str, Any]) -> str:
    """An attribute's value as text."""
    if attribute.get("type") == "TEXT":
        return str(attribute["text"]["value"])
    if attribute.get("type") == "SCALAR":
        return f"{float(attribute['scalar']['value']):g}"
    return str(attribute.get("set", attribute.get("ranges", "")))


def place(
    wanted: Mapping[int, Mapping[str, float]],
    offers: Sequence[Mapping[str, Any]],
    constraints: Sequence[tuple[str, str, str]],
) -> dict[int, str]:
    """Put slots into offers, the emptiest first; offer ids by slot. Those that find no place are left out."""
    left = {
        offer["id"]["value"]: amounts(offer.get("resources", ()))
        for offer in offers
        if suits(offer.get("attributes", ()), constraints)
    }
    placed: dict[int, str] = {}
    for slot, wants in sorted(wanted.items()):
        able = [name for name, has in left.items() if fits(wants, has)]
        if able:
            best = max(able, key=lambda name: (left[name].get("cpus", 0.0), left[name].get("mem", 0.0), name))
            placed[slot] = best
            for name, amount in wants.items():
                left[best][name] -= amount
    return placed


def shortage(
    wants: Mapping[str, float],
    offers: Sequence[Mapping[str, Any]],
    constraints: Sequence[tuple[str, str, str]],
) -> str:
    """Why a slot finds no place among the offers, in plain words."""
    if not offers:
        return "Mesos offers nothing to the role"
    able = [offer for offer in offers if suits(offer.get("attributes", ()), constraints)]
    if not able:
        return f"none of the {len(offers)} agents offered is as rm.mesos.constraints ask for"
    names = {"cpus": "CPUs (job.cpus)", "mem": "MiB of memory (job.memory_mb)", "disk": "MiB of disk", "gpus": "GPUs"}
    for name, amount in wants.items():
        most = max(amounts(offer.get("resources", ())).get(name, 0.0) for offer in able)
        if most + SMALL < amount:
            return f"a copy asks for {amount:g} {names.get(name, name)}, the largest offer has {most:g}"
    return "the offers do not hold all copies at once"
