"""A process world from a library's ``mpiexec``, for copies that the launcher forks.

MPI libraries that speak PMIx (Open MPI) take their rank, and the way to their peers, from the environment that their
``mpiexec`` gives the processes it starts. Here it starts one *placeholder* for each slot, which writes that environment
down and waits; the copy of the slot takes it over before its interpreter goes on, and so does the user's process that
is forked from it. When the copies have ended, or the launcher has, the placeholders and ``mpiexec`` end.

Imported by the launcher when an order asks for a world, so it stays cheap.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

PR_SET_PDEATHSIG = 1
START_S = 30.0
"""How long ``mpiexec`` has to start all placeholders."""
END_S = 5.0
POLL_S = 0.005

TAKEN = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "HYDRA_", "HYDI_", "MPI_LOCAL")
"""What the variables of a rank begin with."""

FOREIGN = (
    "PMIX_", "PMI_", "OMPI_COMM_", "OMPI_MCA_orte_", "OMPI_MCA_ess", "OMPI_FILE_", "OMPI_UNIVERSE", "OMPI_APP",
    "SLURM_", "PBS_", "LSB_", "SGE_", "PE_HOSTFILE", "HYDRA_", "HYDI_", "MPI_LOCAL",
)  # fmt: skip
"""Variables of a surrounding world or batch system: ``mpiexec`` would start on that one's hosts, in its world."""

SETTINGS = {
    # the copies are what runs, the manager has said how many there may be: nothing is counted or bound here
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    # whoever submits as root has decided so already
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}

PLACEHOLDER = """
import json, os, sys
folder, taken = sys.argv[1], tuple(sys.argv[2:])
names = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
rank = next((os.environ[name] for name in names if name in os.environ), None)
if rank is None:
    sys.exit("it gives no rank: none of " + ", ".join(names) + " is set")
if "PMI_FD" in os.environ:
    sys.exit("it speaks PMI-1, which the supervisors do themselves: leave rm.standalone.mpiexec out for this library")
with open(os.open(f"{folder}/{rank}.part", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
    json.dump({name: value for name, value in os.environ.items() if name.startswith(taken)}, file)
os.rename(f"{folder}/{rank}.part", f"{folder}/{rank}.json")
open(f"{folder}/end").read()  # until the launcher has ended
"""


class WorldError(Exception):
    """The world could not be started; the message says why."""


class MpiexecWorld:
    """A world of as many ranks as the order has slots, which are all of a job.

    :param order: the launcher's order; its ``world`` has the command ``mpiexec`` and the ``folder`` for its files.
    :raises WorldError: it did not start within :data:`START_S`, or the job was killed meanwhile.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._folder = tempfile.mkdtemp(prefix="world-", dir=order["world"]["folder"])
        end = os.path.join(self._folder, "end")
        os.mkfifo(end, 0o600)
        self._held = os.open(end, os.O_RDWR | os.O_CLOEXEC)
        self._log = os.path.join(self._folder, "mpiexec.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._ranks: dict[int, dict[str, str]] = {}
        try:
            self._process = self._start(order["world"]["mpiexec"], len(order["slots"]))
            self._await(order)
        except WorldError:
            self.end()
            raise
        except OSError as error:
            self.end()
            raise WorldError(f"{order['world']['mpiexec'][0]}: {error.strerror or error}") from error

    @property
    def pid(self) -> int:
        """Process id of ``mpiexec``."""
        return 0 if self._process is None else self._process.pid

    def enter(self, slot: int) -> None:
        """In a copy: take over the environment of its rank, and leave the world's end to the launcher."""
        os.close(self._held)
        for name in [name for name in os.environ if name.startswith(TAKEN)]:
            del os.environ[name]
        os.environ.update(self._ranks[slot])

    def end(self) -> None:
        """End the placeholders and ``mpiexec``, and remove their files. Idempotent."""
        process, self._process = self._process, None
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        if process is not None:
            self._stop(process)
        shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _stop(process: subprocess.Popen[bytes]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
                return

    def _start(self, mpiexec: list[str], size: int) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

        def die_with_us() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with open(self._log, "wb") as log:
            return subprocess.Popen(
                [*mpiexec, "-n", str(size), sys.executable, "-I", "-S", "-c", PLACEHOLDER, self._folder, *TAKEN],
                env={**environment, **SETTINGS, "TMPDIR": self._folder},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_us,  # the launcher has one thread
            )

    def _await(self, order: dict[str, Any]) -> None:
        assert self._process is not None
        slots, deadline = order["slots"], time.monotonic() + START_S
        name = order["world"]["mpiexec"][0]
        while len(self._ranks) < len(slots):
            code = self._process.poll()
            for slot in slots:  # all slots of the job: the rank is the slot
                if slot not in self._ranks:
                    with contextlib.suppress(FileNotFoundError), open(f"{self._folder}/{slot}.json") as file:
                        self._ranks[slot] = json.load(file)
            if len(self._ranks) == len(slots):
                return
            if code is not None:
                raise WorldError(f"{name} has ended with code {code} instead of starting a world: {self._said()}")
            if os.path.exists(order["killed"]):
                raise WorldError("the job was killed while its world was started")
            if time.monotonic() > deadline:
                have = len(self._ranks)
                raise WorldError(
                    f"{name} has started {have} of {len(slots)} ranks within {START_S:g} s: {self._said()}"
                )
            time.sleep(POLL_S)

    def _said(self) -> str:
        """What ``mpiexec`` has said, in one line, without the frames it draws."""
        with open(self._log, encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log]
        return " ".join(line for line in lines if line.strip("-"))[:500] or "it has said nothing"
