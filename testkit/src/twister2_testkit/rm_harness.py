"""What the suite for resource managers works with: programs for the copies, fixtures, waiting and reading."""

from __future__ import annotations

import json
import sys
import uuid
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pytest

from twister2.spec.rm import Allocation, Check, JobHandle, JobState, ResourceGroup, ResourceManager, SlotSource
from twister2_testkit.capabilities import SKIP_PREFIX, ConformanceSuite
from twister2_testkit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SECRET = b"ticket-of-the-suite-4711:"

REPORT = r"""
import json, os, sys, time
folder, = sys.argv[1:2]
def write(name, data):
    path = os.path.join(folder, f"{name}-{os.getpid()}-{time.monotonic_ns()}")
    with open(path + ".tmp", "w") as file:
        json.dump(data, file)
    os.rename(path + ".tmp", path)
"""
"""First lines of the programs that copies run: they leave JSON files in a folder."""

STAND = REPORT + "write('env', [os.getpid(), dict(os.environ)])\ntime.sleep(600)\n"
"""Tell the environment, then stay."""

STUBBORN = (
    REPORT
    + r"""
import signal
def stay(*_):
    time.sleep(0.2)
    write("asked", os.getpid())
signal.signal(signal.SIGTERM, stay)
write("env", [os.getpid(), dict(os.environ)])
while True:
    time.sleep(600)
"""
)
"""Tell the environment, then stay; when asked to end (SIGTERM), tell that after a while, and stay."""

READ_TICKETS = (
    REPORT
    + r"""
seen, missed = [], 0
path = os.environ["TWISTER2_TICKET"]
deadline = time.monotonic() + 100
while time.monotonic() < deadline:
    try:
        with open(path, "rb") as file:
            data, mode = file.read().decode(), oct(os.fstat(file.fileno()).st_mode & 0o777)
    except FileNotFoundError:
        missed += 1
        continue
    if not seen or seen[-1] != data:
        seen.append(data)
        write("tickets", [seen, mode, missed])
    if "last" in data:
        break
"""
)
"""Read the ticket over and over, and tell every text seen."""

DAEMONS = (
    REPORT
    + r"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        write("daemon", os.getpid())
        time.sleep(600)
    os._exit(0)
write("child", child.pid)
time.sleep(600)
"""
)
"""Start a child, and a daemon in the old way: two forks and a session of its own."""

LINES = 1000

SPEAK = f"""
import sys, time
print("to out", flush=True)
print("to err", file=sys.stderr, flush=True)
time.sleep(0.5)
print(*(f"line {{n}}" for n in range({LINES})), sep="\\n")
sys.stdout.write("no newline")
"""
"""Write a little, and after a while more than a page and more than a buffer, with a last line that does not end."""


class ResourceManagerHarness(ConformanceSuite):
    """Fixtures and helpers of the suite for resource managers."""

    python: str = sys.executable
    """A Python interpreter where the copies run."""

    slot_source: SlotSource = SlotSource("TWISTER2_SLOT")
    """Where copies find their slot (the plugin class's ``slot_source``)."""

    n_workers: int = 3

    timeout_s: ClassVar[float] = 60.0

    ticket_blinks: bool = False
    """Whether a copy that opens the ticket in the moment of its replacement may find none, and must look again."""

    ticket_modes: tuple[str, ...] = ("0o600", "0o400")
    """Modes that the ticket may have where copies read it; a group may read it only where nobody else is in it."""

    @abstractmethod
    def make_backend(self, state_dir: Path) -> ResourceManager:
        """A fresh backend object over this state folder; called several times per test."""

    def handle_name(self, rm: ResourceManager) -> str:
        return "none"

    def doctor(self, state_dir: Path) -> Sequence[Check] | None:
        """What the plugin's ``rm_doctor`` finds, where the tests run; None when it has none."""
        return None

    def copy_folder(self, tmp_path: Path) -> Path:
        """A folder that copies can write to and the test can read, at the same path."""
        folder = tmp_path / "reports"
        folder.mkdir(exist_ok=True)
        return folder

    # -- fixtures ------------------------------------------------------------------------------------------------------

    @pytest.fixture
    def state_dir(self, tmp_path: Path) -> Path:
        return tmp_path / "state"

    @pytest.fixture
    def reports(self, tmp_path: Path) -> Path:
        return self.copy_folder(tmp_path)

    @pytest.fixture
    def jobs(self, state_dir: Path) -> Iterator[list[JobHandle]]:
        """Every job of the test; ended and cleaned afterwards whatever happened."""
        handles: list[JobHandle] = []
        yield handles
        backend = self.make_backend(state_dir)
        for handle in handles:
            backend.kill(handle, 0.5)
            backend.clean(handle)
        backend.close()

    @pytest.fixture
    def rm(self, state_dir: Path) -> Iterator[ResourceManager]:
        backend = self.make_backend(state_dir)
        if not backend.offers.supervised:
            pytest.skip(f"{SKIP_PREFIX}supervised is closed: {backend.offers.why.get('supervised', '')}")
        yield backend
        backend.close()

    def allocation(self, state_dir: Path, *command: str, n: int | None = None, **changes: Any) -> Allocation:
        """An allocation of ``n`` workers that run ``command``."""
        job_id = f"kit-{uuid.uuid4().hex[:12]}"
        base = Allocation(
            job_id=job_id,
            name="a job of the suite",
            groups=(ResourceGroup("worker", n or self.n_workers, cpus=0.1),),
            worker_command=command,
            master_command=command,
            environment={"KIT_COLOUR": "blue green", "KIT_EMPTY": ""},
            ticket=SECRET + b"first",
            master_ticket=b"",
            folder=str(state_dir / "jobs" / job_id),
        )
        return attrs.evolve(base, **changes)

    def program(self, text: str, reports: Path) -> tuple[str, ...]:
        return (self.python, "-c", text, str(reports))

    def submit(
        self, rm: ResourceManager, jobs: list[JobHandle], state_dir: Path, command: Sequence[str], **changes: Any
    ) -> JobHandle:
        handle = rm.submit(self.allocation(state_dir, *command, **changes))
        jobs.append(handle)
        return handle

    def until_state(self, rm: ResourceManager, handle: JobHandle, *states: JobState) -> None:
        """Wait for one of these states."""
        wait_until(
            lambda: rm.state(handle).state in states,
            self.timeout_s,
            lambda: f"still {rm.state(handle)}, wanted {[state.value for state in states]}",
        )

    def read(self, reports: Path, kind: str, count: int) -> list[Any]:
        """Wait for ``count`` reports of this kind and return what they hold."""

        def found() -> list[Path]:
            return sorted(path for path in reports.glob(f"{kind}-*") if path.suffix != ".tmp")

        wait_until(
            lambda: len(found()) >= count,
            self.timeout_s,
            lambda: f"{len(found())} of {count} {kind} reports in {reports}",
        )
        return [json.loads(path.read_text()) for path in found()]

    def environments(self, reports: Path, count: int) -> dict[int, dict[str, str]]:
        return {pid: environ for pid, environ in self.read(reports, "env", count)}

    def slot(self, environ: dict[str, str]) -> int:
        return int(environ[self.slot_source.variable]) + self.slot_source.base
