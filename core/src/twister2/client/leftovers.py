"""What a job's master removes at the end, removed by a client when there is no master left to do it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from twister2.spec.errors import Twister2Error
from twister2.spec.state import StateContext, StateStore

if TYPE_CHECKING:
    from twister2.config import Resolved
    from twister2.host import PluginHost


def remove_checkpoints(host: PluginHost, resolved: Resolved, state_dir: str, job_id: str) -> None:
    """Remove the checkpoints of a job that has ended. None is no error, nor is a store that cannot be reached."""
    name = resolved.job.state
    with contextlib.suppress(Twister2Error):
        store: StateStore = host.create(
            "state", name, resolved.plugin("state", name), context=StateContext(root=state_dir)
        )
        try:
            store.delete_all(f"checkpoints/{job_id}/")
        finally:
            store.close()
