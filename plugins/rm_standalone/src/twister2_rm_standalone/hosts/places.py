"""Which hosts there are, and which slots live where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import ConfigError, ResourcesExceededError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from twister2_rm_standalone.config import StandaloneConfig

_SPEC = re.compile(r"(?P<name>[^\s:\[\]-][^\s:\[\]]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])(?::(?P<count>[1-9]\d{0,5}))?")


@attrs.frozen
class Place:
    """A host as the user named it.

    :ivar name: what OpenSSH is given: a host name, an alias of ``~/.ssh/config``, ``user@host``, an address.
    :ivar count: workers that it takes at the most; 0: any number.
    """

    name: str
    count: int = 0


def parse(text: str) -> Place:
    """``"h1"``, ``"h1:4"``, ``"user@h1:4"`` or ``"[fe80::1]:4"`` as a place.

    :raises ValueError: it is none of them.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no host: write a name as ssh knows it, with the number of workers as in 'h2:4'")
    return Place(match["name"].strip("[]"), int(match["count"] or 0))


def parse_file(text: str) -> list[Place]:
    """The places of a hosts file: one per line, ``h1``, ``h1:4``, ``h1 slots=4`` or ``h1 4``; ``#`` begins a remark.

    :raises ValueError: a line is none of them.
    """
    places = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        count = re.fullmatch(r"(?:slots=)?([1-9]\d{0,5})", words[1]) if len(words) == 2 else None
        if len(words) > 2 or (len(words) == 2 and (count is None or ":" in words[0])):
            raise ValueError(f"line {number}: {line.strip()!r} is not 'host', 'host:4' or 'host slots=4'")
        try:
            places.append(parse(words[0] if count is None else f"{words[0]}:{count[1]}"))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return places


def places_of(config: StandaloneConfig) -> list[Place]:
    """The hosts of the configuration, each once; empty when there are none.

    :raises ConfigError: the file cannot be read, or a host is written wrongly, or twice.
    """
    where = "rm.standalone.hosts"
    try:
        places = [parse(text) for text in config.hosts]
        if config.hosts_file:
            where = f"rm.standalone.hosts_file ({config.hosts_file})"
            places += parse_file(Path(config.hosts_file).expanduser().read_text("utf-8"))
            if not places:
                raise ValueError("it names no host")
        twice = [place.name for number, place in enumerate(places) if place.name in {p.name for p in places[:number]}]
        if twice:
            raise ValueError(f"{twice[0]} is named twice: give the number of its workers, as in '{twice[0]}:4'")
    except (OSError, ValueError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise ConfigError("the hosts cannot be used", why=why, remedy="correct it there", where=where) from None
    return places


def spread(
    places: Sequence[Place], slots: Sequence[int], taken: Mapping[str, Collection[int]], oversubscribe: bool
) -> dict[str, list[int]]:
    """Give every slot a host: the one with the fewest that has room, so that all get alike; neighbours stay together.

    :param taken: slots that hosts have already. :param oversubscribe: whether a host may get more than its count.
    :raises ResourcesExceededError: there is not that much room.
    """
    if not slots:
        return {}
    load = {place.name: len(taken.get(place.name, ())) for place in places}
    share = dict.fromkeys(load, 0)
    for _ in slots:
        free = [place for place in places if not place.count or load[place.name] < place.count]
        if not free and oversubscribe:
            free = [*places]
        if not free:
            room = sum(place.count for place in places)
            listed = ", ".join(f"{place.name}:{place.count}" for place in places)
            raise ResourcesExceededError(
                f"{len(slots) + sum(len(each) for each in taken.values()):,} workers do not fit the hosts"
                if places
                else "there is no host left for the workers",
                why=f"the hosts take {room:,} ({listed})" if places else "none of them can be reached",
                remedy="ask for fewer workers, add hosts or raise their numbers (rm.standalone.hosts), "
                "or set job.oversubscribe = true",
                where="rm.standalone.hosts",
            )
        best = min(free, key=lambda place: load[place.name])
        load[best.name] += 1
        share[best.name] += 1
    result, at = {}, 0
    for name, count in share.items():
        if count:
            result[name] = [*slots[at : at + count]]
            at += count
    return result
