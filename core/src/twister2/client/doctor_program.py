"""The program of the job of one worker that ``twister2 doctor`` sends: what is there, seen from a worker."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any

import twister2
from twister2.spec.errors import Twister2Error


def main(env: Any) -> dict[str, Any]:
    """Facts of the worker, as plain data; loads every plugin that the job has selected."""
    wrong = []
    selection = env.resolved.selection()
    for kind, name in selection:
        try:
            env.host.load(kind, name)
        except Twister2Error as error:
            wrong.append({"plugin": f"{kind} {name}", "error": error.to_dict()})
    me = env.controller.workers()[env.worker_id]
    return {
        "host": env.node.host,
        "python": platform.python_version(),
        "interpreter": sys.executable,
        "core": twister2.__version__,
        "plugins": [f"{kind} {name}" for kind, name in selection],
        "wrong": wrong,
        "cores": len(os.sched_getaffinity(0)),
        "cpus": me.cpus,
        "memory_mb": me.memory_mb,
        "disk_free_mb": shutil.disk_usage(env.volumes.volatile).free >> 20,
    }
