"""Whether this code runs inside a worker, where nothing may be submitted."""

from __future__ import annotations

import sys

from twister2.spec.errors import UsageError


def inside_worker() -> bool:
    """Whether this process, or this thread, is a worker of a job."""
    threads = sys.modules.get("twister2.client.threads")
    if threads is not None and threads.inside_worker_thread():
        return True
    user = sys.modules.get("twister2.worker.user")
    return user is not None and user.is_user_process()


def refuse_inside_worker() -> None:
    """``run`` makes no sense in a worker: most often the program has no ``__main__`` guard.

    :raises UsageError: called in a worker.
    """
    if inside_worker():
        raise UsageError(
            "twister2.run was called inside a worker",
            why="workers import the program, and it calls run() at its top level",
            remedy='put the call under a guard:\n\n    if __name__ == "__main__":\n        twister2.run(main)\n',
        )
