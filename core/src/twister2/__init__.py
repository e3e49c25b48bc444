"""Twister2: batch, streaming and iterative data analysis by N equal worker processes, made of plugins.

``twister2.run(main, workers=4)`` runs a program from a script or notebook; the ``twister2`` command does the same from
a shell. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from twister2.client.run import run as run
    from twister2.spec.environment import WorkerEnvironment as WorkerEnvironment
    from twister2.spec.errors import Twister2Error as Twister2Error
    from twister2.spec.hashing import register_key as register_key
    from twister2.spec.ordering import register_comparator as register_comparator
    from twister2.worker.network.codec import register_serializer as register_serializer

_HOMES = {
    "run": "twister2.client.run",
    "WorkerEnvironment": "twister2.spec.environment",
    "Twister2Error": "twister2.spec.errors",
    "register_comparator": "twister2.spec.ordering",
    "register_key": "twister2.spec.hashing",
    "register_serializer": "twister2.worker.network.codec",
}

__all__ = [
    "Twister2Error",
    "WorkerEnvironment",
    "__version__",
    "register_comparator",
    "register_key",
    "register_serializer",
    "run",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'twister2' has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
