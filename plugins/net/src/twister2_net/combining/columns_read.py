"""Which columns an aggregate looks at: rules ask the catalogue, before there is an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def columns_read(options: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The columns that an aggregate looks at; None where functions or pairs are asked for."""
    key, results = options.get("key"), options.get("aggregates")
    if options.get("pairs") or not isinstance(results, Mapping):
        return None
    named: list[Any] = [] if key is None else list(key) if isinstance(key, (list, tuple)) else [key]
    for what in results.values():
        if what != "count":  # of rows, whatever they have
            named.append(what[0] if isinstance(what, (tuple, list)) and what else None)
    return tuple(dict.fromkeys(named)) if all(isinstance(name, str) for name in named) else None
