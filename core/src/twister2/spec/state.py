"""Kind ``state``: a store for checkpoints, what programs commit.

Job records, packages and logs are files of ``job.state_dir`` whatever the store is: any shell must find a job before it
knows a plugin.

Who calls what: client, job master and workers make one store each, when they first need it; from then on any of their
threads may call it, several at once. Calls may take as long as the storage takes (never while a step runs records), but
end: a storage that does not answer is a StateError, not a wait for ever. A caller that gets one may call again.

Thought through against an object store: keys are flat text with ``/`` by convention, an object is written whole and
appears whole, nothing is renamed or appended to, listing may be slow but is complete for finished writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.plugin import PluginSpec, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen(eq=False, repr=False)
class StateContext(Value):
    """What a store is made for.

    :ivar root: folder or URI of the user's state (``job.state_dir``); a plugin may have a location of its own instead.
    :ivar attempt: the attempt of the worker that asks; 0 in client and master, whose stores outlive attempts.
    """

    root: str
    attempt: int = 0


class StateStore(ABC):
    """The backend. Thread-safe; a key is ``[a-zA-Z0-9._-]+`` parts joined by ``/``, none of
    them ``.`` or ``..``. Errors are StateError; a bad key is one that names it. No method keeps
    ``data`` or changes it, and none starts threads.

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
        """Store an object unless the key exists; atomic among all writers (threads, processes, hosts). Returns whether
        this call stored it; after an error that is not known: ask :meth:`get`.

        :raises StateError: as :meth:`put`.
        """

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The object as a whole, or None when there is none of that key.

        :raises StateError: the storage cannot be read. Never None instead: a caller would take it for a first start.
        """

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Keys that begin with ``prefix`` (any text; empty: all), in order of their characters.

        Objects that are put or deleted meanwhile may be there or not.

        :raises StateError: the storage cannot be read; at the call or at the first key.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; no error when it is not there.

        :raises StateError: no permission, or the storage cannot be reached; the object may be there or not.
        """

    def delete_all(self, prefix: str) -> int:
        """Remove all objects below ``prefix``, and what crashed writers left there; returns how many.

        :raises StateError: as :meth:`delete`; some objects may be gone then.
        """
        keys = [*self.list(prefix)]
        for key in keys:
            self.delete(key)
        return len(keys)

    def close(self) -> None:
        """Release connections. Called once nobody calls it any more; idempotent, and never raises."""


class StateSpec(PluginSpec):
    """Base of every ``twister2.state`` plugin."""

    kind: ClassVar[str] = "state"

    @hookspec(firstresult=True)
    def state_create(self, config: Any, context: StateContext) -> StateStore | None:
        """Build the store. Called in client, master and workers, once each, in any thread; must not create or contact
        anything yet.

        :raises StateError: the options or the root cannot be right (an address of another kind of storage).
        """
