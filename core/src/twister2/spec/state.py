"""Kind ``state``: a store for checkpoints, job records and job packages.

Thought through against an object store: keys are flat text with ``/`` by convention, an object is written whole and
appears whole, nothing is renamed or appended to, listing may be slow but is complete for finished writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.plugin import PluginSpec, hookspec

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen
class StateContext:
    """What a store is made for.

    :ivar root: folder or URI of the user's state (``job.state_dir``); a plugin may have a location of its own instead.
    """

    root: str


class StateStore(ABC):
    """The backend. Thread-safe; a key is ``[a-zA-Z0-9._-]+`` parts joined by ``/``, none of
    them ``.`` or ``..``. Errors are StateError; a bad key is one that names it.

    ``shared`` says whether every worker of every host sees the same objects (decides who writes a commit: the workers,
    or the master for them).
    """

    shared: bool

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Store an object, replacing an older one. Durable and visible as a whole when it returns; a crash in between
        leaves the old object or none, never a part.

        :raises StateError: no space, no permission; the text names the key and the place.
        """

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store an object unless the key exists; atomic among all writers. Returns whether this call stored it."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The object, or None."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Keys that begin with ``prefix``, in order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; no error when it is not there."""

    def delete_all(self, prefix: str) -> int:
        """Remove all objects below ``prefix``; returns how many."""
        keys = [*self.list(prefix)]
        for key in keys:
            self.delete(key)
        return len(keys)

    def close(self) -> None:
        """Release connections. Idempotent."""


class StateSpec(PluginSpec):
    """Base of every ``twister2.state`` plugin."""

    kind: ClassVar[str] = "state"

    @hookspec(firstresult=True)
    def state_create(self, config: Any, context: StateContext) -> StateStore | None:
        """Build the store. Called in client, master and workers, once each; must not create anything yet."""
