"""What a job's master removes at the end, removed by a client when there is no master left to do it."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING

from twister2.control.folders import job_folder
from twister2.master.journal import STATE
from twister2.master.store import JobStore
from twister2.spec.errors import Twister2Error

if TYPE_CHECKING:
    from twister2.config import Resolved
    from twister2.host import PluginHost


def remove_rest(host: PluginHost, resolved: Resolved, state_dir: str, job_id: str) -> None:
    """Remove the checkpoints of a job that has ended, and a state file that its master had not written to the end.

    None is no error, nor is a store that cannot be reached.
    """
    with contextlib.suppress(OSError):
        for path in job_folder(pathlib.Path(state_dir), job_id).glob(f"{STATE}.*.new"):
            path.unlink(missing_ok=True)
    store = JobStore(host, resolved, state_dir)
    with contextlib.suppress(Twister2Error):
        try:
            store().delete_all(f"checkpoints/{job_id}/")
        finally:
            store.close()
