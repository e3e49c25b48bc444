"""What runs on a host: answers requests that come as lines of JSON over standard input, with the manager of processes
that runs jobs on one machine. It holds nothing: launchers, workers and files of a job are there without it, and another
agent finds them again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import JobNotFoundError, ResourceError, Twister2Error
from twister2.spec.rm import JobHandle, ResourceGroup, RmContext
from twister2_rm_standalone import procfs
from twister2_rm_standalone.capacity import check_fit, free_memory_mb, usable_cpus
from twister2_rm_standalone.config import StandaloneConfig
from twister2_rm_standalone.copies import wants
from twister2_rm_standalone.folder import RmFolder
from twister2_rm_standalone.processes import SPARE_S, ProcessManager

if TYPE_CHECKING:
    from twister2_rm_standalone.logs import Places

Say = Callable[[dict[str, Any]], None]
IDLE_S = 45
"""An agent that hears nothing for so long ends: the connection may have broken without a word."""
KEPT_BYTES = 1 << 18
"""Of each log file of a job that is cleaned, what is given to the other side."""


def main(say: Say) -> None:
    """Answer requests until there are no more."""
    for name in [name for name in os.environ if name.startswith("SSH_")]:
        del os.environ[name]  # of this connection; copies are to have one environment
    while True:
        signal.alarm(IDLE_S)
        line = sys.stdin.readline()
        signal.alarm(0)
        if not line:
            return
        request = json.loads(line)
        try:
            reply = Agent(request).answer(request)
        except Twister2Error as error:
            say({"id": request["id"], "error": error.to_dict()})
        except Exception as error:
            failed = ResourceError(
                f"host {os.uname().nodename} failed at a request: {request.get('do')}",
                why=f"{type(error).__name__}: {error}",
                remedy="please report it; see that both sides have the same version installed",
            )
            say({"id": request["id"], "error": failed.to_dict()})
        else:
            say({"id": request["id"], "reply": reply})


def state_folder(wanted: str) -> str:
    """Where the files of jobs lie on this host; by its name, for homes that several hosts share."""
    base = os.environ.get("XDG_STATE_HOME", "")
    folder = (
        os.path.expanduser(wanted) if wanted else os.path.join(base or os.path.expanduser("~/.local/state"), "twister2")
    )
    return os.path.join(folder, "hosts", os.uname().nodename)


class Agent:
    """One request about one job."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._job_id = str(request["job_id"])
        self._state_dir = state_folder(str(request["folder"]))
        self._folder = RmFolder(self._state_dir, self._job_id)
        config = StandaloneConfig(**request.get("config", {}))
        self._manager = ProcessManager(config, RmContext(self._state_dir, request.get("timeout_s", 30.0)))
        self._config = config

    def answer(self, request: Mapping[str, Any]) -> Any:
        do = str(request["do"])
        answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "begin": self._begin,
            "start": self._start,
            "publish": self._publish,
            "state": self._state,
            "stop": self._stop,
            "forget": self._forget,
            "ticket": self._ticket,
            "kill": self._kill,
            "clean": self._clean,
            "logs": self._logs,
            "find": self._find,
            "look": self._look,
        }
        return answers[do](request)

    @property
    def _handle(self) -> JobHandle:
        found = self._manager.find(self._job_id)
        return found or JobHandle("standalone", self._job_id, "")

    def _begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make the job's folder and start its copies for some slots."""
        job, slots = request["job"], [int(slot) for slot in request["slots"]]
        groups = [ResourceGroup(**group) for group in request["groups"]]
        confinement = self._manager.confinement()
        warnings = check_fit(groups, self._config.worker_min_mb, bool(job["oversubscribe"]))
        os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        logs = self._folder.path / "slots"
        record = {
            # the worker command's interpreter is this one: the launcher then forks copies instead of executing them
            "command": [
                sys.executable if job["command"][0] in job["pythons"] else job["command"][0],
                *job["command"][1:],
            ],
            "environment": {
                **job["environment"],
                procfs.JOB_MARKER: self._job_id,
                "TWISTER2_TICKET": str(self._folder.ticket),
            },
            "cwd": os.path.expanduser("~"),
            "logs": str(logs),
            "name": job["name"],
            "groups": [[*attrs.astuple(group)] for group in groups],
            "wants": wants(groups, slots),
            **confinement,
            "oversubscribe": job["oversubscribe"],
            "deadline": time.time() + job["walltime_s"] + SPARE_S if job["walltime_s"] else 0,
            "n_workers": len(slots),
            "slots": slots,
            "attempts": {str(slot): int(request["attempt"]) for slot in slots},
            "mpiexec": [],
            "place": procfs.place(),
            "warnings": warnings,
            "handle": request["handle"],
        }
        self._manager.begin(self._folder, record, base64.b64decode(request["ticket"]), str(logs), slots)
        return {"warnings": warnings}

    def _start(self, request: Mapping[str, Any]) -> None:
        """Start copies for slots again, or for slots that another host had."""
        job = self._folder.read_json("allocation.json")
        if job is None:
            self._begin(request)
            return
        slots, attempt = [int(slot) for slot in request["slots"]], int(request["attempt"])
        job["slots"] = sorted({*job["slots"], *slots})
        job["n_workers"] = len(job["slots"])
        job["attempts"] |= {str(slot): attempt for slot in slots}
        job["wants"] |= wants([ResourceGroup(**group) for group in request["groups"]], slots)
        self._folder.write_json("allocation.json", job)
        if request["ticket"]:
            self._folder.write("ticket", base64.b64decode(request["ticket"]))
        self._manager.start_attempt(self._handle, attempt, slots)

    def _publish(self, request: Mapping[str, Any]) -> bool:
        """Replace the ticket; whether the job is known here."""
        try:
            self._manager.publish(self._handle, base64.b64decode(request["ticket"]))
        except JobNotFoundError:
            return False
        return True

    def _state(self, _: Mapping[str, Any]) -> dict[str, Any]:
        job = self._folder.read_json("allocation.json")
        status = self._manager.state(self._handle)
        return {
            "known": job is not None,
            "state": status.state.value,
            "reason": status.reason,
            "slots": {str(slot): text for slot, text in status.slots.items() if job and slot in job["slots"]},
            "attempts": job["attempts"] if job else {},
            "wants": job["wants"] if job else {},
        }

    def _stop(self, request: Mapping[str, Any]) -> None:
        with contextlib.suppress(JobNotFoundError):
            self._manager.stop_attempt(self._handle, request["slots"], float(request["grace_s"]))

    def _forget(self, request: Mapping[str, Any]) -> None:
        """Stop copies of slots that the job has no more."""
        self._stop(request)
        job = self._folder.read_json("allocation.json")
        if job is not None:
            gone = {str(slot) for slot in request["slots"]}
            job["slots"] = [slot for slot in job["slots"] if str(slot) not in gone]
            job["n_workers"] = len(job["slots"])
            for name in ("attempts", "wants"):
                job[name] = {slot: value for slot, value in job[name].items() if slot not in gone}
            self._folder.write_json("allocation.json", job)
            self._manager.remove_groups(self._job_id, job, gone)  # later nobody knows of them

    def _ticket(self, _: Mapping[str, Any]) -> str:
        """The ticket as it lies here, for hosts that the job comes to; empty when the job is not known here."""
        try:
            return base64.b64encode(self._folder.ticket.read_bytes()).decode()
        except FileNotFoundError:
            return ""

    def _kill(self, request: Mapping[str, Any]) -> None:
        self._manager.kill(self._handle, float(request["grace_s"]))

    def _clean(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Remove the job's files; what copies wrote goes with the reply."""
        kept = {}
        for path in sorted(pathlib.Path(self._folder.path, "slots").glob("*.log")):
            with contextlib.suppress(OSError):
                kept[path.name] = path.read_bytes()[-KEPT_BYTES:].decode("utf-8", "replace")
        left = self._manager.clean(self._handle)
        for temporary in {tempfile.gettempdir(), "/tmp"}:  # of supervisors that were killed
            with contextlib.suppress(OSError):
                path = pathlib.Path(temporary, f"twister2-{os.getuid()}", self._job_id)
                if path.lstat().st_uid == os.getuid():
                    shutil.rmtree(path)
        for folder in (self._folder.path.parent, pathlib.Path(self._state_dir), pathlib.Path(self._state_dir).parent):
            with contextlib.suppress(OSError):
                folder.rmdir()  # when no other job has anything there
        return {"left": left, "logs": {name: text for name, text in kept.items() if text}}

    def _logs(self, request: Mapping[str, Any]) -> dict[str, Any]:
        from twister2_rm_standalone.logs import new_chunks

        places: Places = {name: (int(read), base64.b64decode(head)) for name, (read, head) in request["places"].items()}
        chunks = new_chunks(self._folder.path / "slots", request["slot"], places)
        return {
            "chunks": [[chunk.slot, chunk.stream, chunk.text] for chunk in chunks],
            "places": {name: [read, base64.b64encode(head).decode()] for name, (read, head) in places.items()},
        }

    def _find(self, _: Mapping[str, Any]) -> Any:
        job = self._folder.read_json("allocation.json")
        return None if job is None else job["handle"]

    @staticmethod
    def _look(_: Mapping[str, Any]) -> dict[str, Any]:
        """What this host has to give."""
        from twister2_rm_standalone.cgroups import outlook

        return {"cpus": usable_cpus(), "free_mb": free_memory_mb(), "python": sys.executable, "limits": outlook()}
