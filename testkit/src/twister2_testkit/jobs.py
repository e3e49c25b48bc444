"""Whole jobs in tests: real clients, masters, supervisors and user processes, and a look at what they leave behind.

Every :class:`Jobs` has a state folder, a temporary folder and a mark of its own, so tests may run side by side. The
mark is an environment variable that all processes of its jobs inherit.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twister2_testkit.processes import ended, process_ids, wait_until
from twister2_testkit.segments import is_named, left_behind, segments_of_transports, transports_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

MARK = "KIT_MARK"
KEPT: tuple[str, ...] = ("record.json", "state.json", "events.jsonl", "addresses", "master.log", "logs/", "slots/")
"""What may stay in a job's folder: its record, its event log, and logs."""
SAID_S = 5.0
LOOKED_AT = 4
"""Jobs, the last ones, that a picture shows."""


class Jobs:
    """Runs programs as jobs of one test. Use as a context: at its end nothing of them may be left.

    :ivar state: the state folder. :ivar folder: where programs are written and clients run.
    :ivar environment: variables of the clients, to be changed by tests.
    :ivar left_s: seconds that processes may take to go after their job has ended.
    :ivar kept: what may stay in a job's folder; to be extended by the logs of other resource managers.
    """

    def __init__(self, folder: Path, left_s: float = 30.0) -> None:
        self.folder, self.left_s = folder, left_s
        self.kept = KEPT
        self.mark = uuid.uuid4().hex
        # Short, whatever the test's name: paths of Unix sockets are limited to 107 bytes.
        self._base = Path(tempfile.mkdtemp(prefix="t2-", dir="/tmp"))
        self.state, self.temporary = self._base / "state", self._base / "tmp"
        self.temporary.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TWISTER2_")},
            MARK: self.mark,
            "TMPDIR": str(self.temporary),
            "TWISTER2__JOB__STATE_DIR": str(self.state),
            "TWISTER2_SITE_CONFIG": os.devnull,
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        self._started: list[subprocess.Popen[str]] = []
        self._segments = left_behind()

    # -- running -------------------------------------------------------------------------------------------------------

    def program(self, source: str, name: str = "prog.py") -> Path:
        """Write a program (dedented) below the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    def start(self, *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Client:
        """Start ``twister2 WORDS...``."""
        command = [sys.executable, "-m", "twister2.cli.main", *map(str, words)]
        return self._start(command, cwd, env)

    def start_python(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> Client:
        """Start ``python WORDS...``."""
        return self._start([sys.executable, *map(str, words)], cwd, env, stdin)

    def _start(
        self, command: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None, stdin: str | None = None
    ) -> Client:
        process = subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._started.append(process)
        if stdin is not None:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
            process.stdin = None
        return Client(process, self.picture)

    def cli(self, *words: str | Path, timeout_s: float = 60.0) -> Done:
        """Run ``twister2 WORDS...`` to its end."""
        return self.start(*words).finish(timeout_s)

    def submit(
        self,
        program: str | Path,
        *options: str,
        workers: int = 2,
        args: Sequence[str] = (),
        profile: str = "standalone",
        timeout_s: float = 60.0,
    ) -> Done:
        """``twister2 submit`` a program and wait for its end."""
        return self.start("submit", profile, "-n", str(workers), *options, program, *args).finish(timeout_s)

    def python(self, *words: str | Path, timeout_s: float = 60.0, stdin: str | None = None) -> Done:
        """Run ``python WORDS...`` to its end."""
        return self.start_python(*words, stdin=stdin).finish(timeout_s)

    # -- looking -------------------------------------------------------------------------------------------------------

    def folders(self) -> list[Path]:
        """Folders of all jobs, oldest first."""
        jobs = self.state / "jobs"
        return sorted(jobs.iterdir(), key=lambda path: path.stat().st_mtime) if jobs.is_dir() else []

    def job(self) -> Path:
        """The folder of the only job."""
        (folder,) = self.folders()
        return folder

    def events(self, kind: str | None = None, folder: Path | None = None) -> list[dict[str, Any]]:
        """The job's event log, or only events of one kind."""
        path = (folder or self.job()) / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines]
        return [event for event in events if kind is None or event["event"] == kind]

    def until_event(self, kind: str, timeout_s: float = 60.0, count: int = 1) -> dict[str, Any]:
        """Wait for the ``count``-th event of a kind in the log of the only job."""
        wait_until(
            lambda: bool(self.folders()) and len(self.events(kind)) >= count,
            timeout_s,
            lambda: f"no event {kind!r} in {[event['event'] for event in self.events()]}",
        )
        return self.events(kind)[count - 1]

    def until_file(self, name: str, timeout_s: float = 60.0) -> str:
        """Wait for a file that a program writes into the folder (whole, by rename), and read it."""
        path = self.folder / name

        def there_or_hopeless() -> bool:
            # what a test starts by itself is not seen in the moment in which it becomes another program
            over = self._started and all(process.poll() is not None for process in self._started)
            return path.exists() or (bool(over) and not self.processes())

        wait_until(there_or_hopeless, timeout_s, lambda: f"no file {name}; the processes are {self.processes()}")
        if not path.exists():
            open_ones = [process for process in self._started if process.stdout and not process.stdout.closed]
            said = [Client(process, self.picture).finish() for process in open_ones]
            pytest.fail(f"no file {name}, and all has ended: {said}", pytrace=False)
        return path.read_text(encoding="utf-8")

    def processes(self) -> dict[int, str]:
        """Living processes of this test's jobs (clients included): what each is, by process id."""
        found = {}
        for pid in process_ids():
            if pid != os.getpid() and f"{MARK}={self.mark}".encode() in _read(pid, "environ") and not ended(pid):
                found[pid] = self._role(pid)
        return found

    def _role(self, pid: int) -> str:
        """What a process is, from its command line and its ancestors. A master may be a fork of its client."""
        command = _read(pid, "cmdline").rstrip(b"\0").split(b"\0")
        if any(process.pid == pid for process in self._started):
            return "client"
        if any([word.encode() for word in process.args] == command for process in self._started):  # type: ignore[union-attr]
            return "master"
        return _role(pid, " ".join(word.decode(errors="replace") for word in command))

    def pids(self, role: str) -> list[int]:
        """Processes that are ``client``, ``master``, ``launcher``, ``supervisor``, ``forkserver`` or ``user``."""
        return sorted(pid for pid, text in self.processes().items() if text == role)

    def picture(self) -> str:
        """What a test that waits in vain needs to be understood: who waits where, the last events, the processes."""
        lines = [f"processes: {self.processes()}"]
        for folder in self.folders()[-LOOKED_AT:]:
            lines += ["", f"events of {folder.name}:", *map(str, self.events(folder=folder)[-20:])]
            status = [sys.executable, "-m", "twister2.cli.main", "status", folder.name]
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    status, env=self.environment, capture_output=True, text=True, timeout=20, check=False
                )
                lines += [done.stdout, done.stderr]
        return "\n".join(lines)

    # -- the end -------------------------------------------------------------------------------------------------------

    def check_nothing_left(self) -> None:
        """Fail when a process, socket, shared-memory segment or file is left other than records and logs."""
        wait_until(lambda: not self.processes(), self.left_s, lambda: f"processes are left: {self.processes()}")
        runtime = [str(path) for path in self.temporary.rglob("*") if path.parent != self.temporary]
        assert not runtime, f"files of the jobs are left: {runtime}"
        strange = [path.name for path in self.temporary.iterdir() if not path.name.startswith("twister2-")]
        assert not strange, f"temporary files are left: {strange}"
        wait_until(lambda: not self._left(), self.left_s, lambda: f"shared memory is left: {self._left()}")
        kept = [path.relative_to(self.state) for path in self.state.rglob("*") if path.is_file()]
        left = [str(path) for path in kept if not _is_kept(path, self.kept)]
        assert not left, f"files are left in the state folder: {left}"

    def _left(self) -> set[str]:
        """Shared memory that nobody uses and that this test's processes may have left: others run beside it, and some
        of them kill what has just begun. What is called as segments of a transport are is told of jobs that had it.
        """
        mine = transports_of(self.folders())
        others = [
            pattern for name, patterns in segments_of_transports().items() if name not in mine for pattern in patterns
        ]
        return {path for path in left_behind() - self._segments if not is_named(path, others)}

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for process in self._started:
                    assert process.poll() is not None, f"{process.args!r} still runs"
                self.check_nothing_left()
        finally:
            for _ in range(3):
                for pid in self.processes():
                    _signal(pid, signal.SIGKILL)
            for process in self._started:
                process.wait(30)
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()
            shutil.rmtree(self._base, ignore_errors=True)


class Done:
    """How a client ended.

    :ivar code: its exit code; :ivar out: what it wrote to stdout; :ivar err: to stderr; :ivar seconds: how long it ran.
    """

    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    def __repr__(self) -> str:
        return f"exit code {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Client:
    """A client that runs."""

    def __init__(self, process: subprocess.Popen[str], picture: Callable[[], str] = str) -> None:
        self.process, self._picture, self._begun = process, picture, time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the client alone."""
        self.process.send_signal(number)

    def finish(self, timeout_s: float = 60.0) -> Done:
        """Wait for its end.

        :raises AssertionError: it does not end in time; it is killed, after a look at what all of its job do.
        """
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            picture = self._picture()
            self.process.kill()
            out, err = self._said()
            raise AssertionError(f"the client did not end within {timeout_s} s\n{out}\n{err}\n{picture}") from error
        return Done(self.process.returncode, out, err, time.monotonic() - self._begun)

    def _said(self) -> tuple[str, str]:
        """What a client has said that was killed; what others hold open that it started has no end."""
        try:
            return self.process.communicate(timeout=SAID_S)
        except subprocess.TimeoutExpired as error:
            out, err = (data.decode(errors="replace") if data else "" for data in (error.stdout, error.stderr))
            return out, f"{err}\n(another process holds its output open)"


def _role(pid: int, command: str) -> str:
    if "twister2.master" in command:
        return "master"
    if "launcher" not in command and "twister2.worker" not in command:
        return command
    name = _read(pid, "comm").decode().strip()
    depth, parent = 0, pid
    while (parent := _parent(parent)) > 1 and _read(parent, "cmdline") == _read(pid, "cmdline"):
        depth += 1
    if "launcher" not in command:
        depth += 1
    roles = ("launcher", "supervisor", "forkserver", "user")
    return roles[depth] if depth < len(roles) else f"child of a user process ({name})"


def _parent(pid: int) -> int:
    text = _read(pid, "stat")
    return int(text.rsplit(b")", 1)[1].split()[1]) if text else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_kept(path: Path, names: Sequence[str]) -> bool:
    parts = path.parts
    inside = "/".join(parts[2:])
    return parts[0] == "jobs" and any(inside == kept or (kept[-1] == "/" and inside.startswith(kept)) for kept in names)
