"""The state store of a job, as its master (or who cleans up after one) uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.state import StateContext, StateStore

if TYPE_CHECKING:
    from twister2.config import Resolved
    from twister2.host import PluginHost


class JobStore:
    """Makes the configured store when it is first asked for: most jobs commit nothing."""

    def __init__(self, host: PluginHost, resolved: Resolved, root: str) -> None:
        """
        :param root: the state folder.
        """
        self._host, self._resolved, self._root = host, resolved, root
        self._store: StateStore | None = None

    def __call__(self) -> StateStore:
        """The store, the same one at every call.

        :raises Twister2Error: it cannot be made.
        """
        if self._store is None:
            name, context = self._resolved.job.state, StateContext(root=self._root)
            store: StateStore = self._host.create("state", name, self._resolved.plugin("state", name), context=context)
            self._store = store
        return self._store

    def close(self) -> None:
        """Close it if it was made."""
        if self._store is not None:
            self._store.close()
