from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_rm_standalone.config import StandaloneConfig
from twister2_testkit.processes import wait_until

SCRIPT = Path(__file__).resolve().parents[4] / "tests" / "clusters" / "hosts.sh"


class Rig:
    """Pretended hosts h1 to hN of one test module."""

    def __init__(self, home: Path, pids: str = "") -> None:
        self.home, self.pids = home, pids

    def do(self, *words: str) -> str:
        done = subprocess.run(
            [str(SCRIPT), *words],
            env={**os.environ, "TWISTER2_HOSTS_HOME": str(self.home), "TWISTER2_HOSTS_PIDS": self.pids},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def ssh(self) -> tuple[str, ...]:
        return ("ssh", "-F", str(self.home / "ssh_config"))

    def config(self, *hosts: str, **options) -> StandaloneConfig:
        return StandaloneConfig(hosts=hosts or ("h1", "h2", "h3"), ssh=self.ssh, **options)

    def settings(self, *hosts: str) -> list[str]:
        """As options of the command line."""
        names = ",".join(f'"{name}"' for name in hosts or ("h1", "h2", "h3"))
        words = ",".join(f'"{word}"' for word in self.ssh)
        return ["-o", f"rm.standalone.hosts=[{names}]", "-o", f"rm.standalone.ssh=[{words}]"]

    def processes(self, host: str) -> list[str]:
        """Commands that run on a host, but for its sshd and shared connections to it."""
        lines = self.do("run", host, "ps", "-eo", "args=").splitlines()
        return [line for line in lines if not line.startswith(("sshd", "ps -eo", "/usr/sbin/sshd"))]

    def files(self, host: str) -> list[str]:
        """Files of jobs on a host: in the state folder, for sockets, in shared memory."""
        base = f"{self.home}/{host}"
        look = f"find {base}/state ! -type d; find {base}/sockets /dev/shm -mindepth 1; true"
        return self.do("run", host, "sh", "-c", look).split()

    def left(self, *hosts: str) -> dict[str, list[str]]:
        """What is left of jobs on these hosts."""
        names = hosts or ("h1", "h2", "h3")
        found = {host: ([] if self.pids else self.processes(host)) + self.files(host) for host in names}
        return {host: lines for host, lines in found.items() if lines}

    def until_nothing_is_left(self, *hosts: str) -> None:
        wait_until(lambda: not self.left(*hosts), 60, lambda: f"left behind: {self.left(*hosts)}")


@contextlib.contextmanager
def started(pids: str = "") -> Iterator[Rig]:
    rig = Rig(Path(f"/var/tmp/t2h-{uuid.uuid4().hex[:8]}"), pids)
    try:
        rig.do("start", "3")
        yield rig
    finally:
        rig.do("stop")
    assert not rig.home.exists()


@pytest.fixture(scope="module")
def rig():
    with started() as rig:
        yield rig


@pytest.fixture(scope="module")
def transparent_rig():
    """Hosts whose processes this machine sees by the same numbers."""
    with started("shared") as rig:
        yield rig


@pytest.fixture
def hidden():
    """A folder that no host sees: /dev/shm is each host's own. Its name says whose it is."""
    folder = Path(f"/dev/shm/hidden_of_process_{os.getpid()}_{uuid.uuid4().hex[:8]}")
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)
