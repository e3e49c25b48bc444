"""A worker as a thread of the client's process: no supervisor, the link goes straight to the master's thread."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from twister2.control.folders import runtime_folder, runtime_path
from twister2.control.messages import OUTPUT_WINDOW, weight_of
from twister2.control.ticket import curve_pair
from twister2.spec.errors import StepAbortedError
from twister2.worker.conversation import Conversation
from twister2.worker.environment import Start
from twister2.worker.facts import worker_facts
from twister2.worker.interrupt import ThreadInterrupt
from twister2.worker.life import flush_streams, live

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Mapping

    from twister2.control.messages import Message
    from twister2.control.package import Manifest
    from twister2.master.local import LocalMaster
    from twister2.spec.network import Fingerprint, Group

_inside = threading.local()


def inside_worker_thread() -> bool:
    """Whether the calling thread is a worker."""
    return getattr(_inside, "worker", False)


class ThreadLink(Conversation):
    """A :class:`~twister2.worker.link.Link` by queues."""

    def __init__(self, master: LocalMaster, slot: int) -> None:
        super().__init__(slot, attempt=1)
        self._master, self._peer = master, f"worker-{slot}".encode()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._notes: dict[int, list[Any]] = {}
        self._waits_for = self._ways = ""
        self._room, self._on_the_way, self._held = threading.Condition(), 0, True
        """What is on its way to the master unasked, and whether that may hold this worker up."""
        self._joined = self._closed = self._aborted = False
        self.interrupt = ThreadInterrupt(self)
        self.start: dict[str, Any] | None = None
        self.welcomed: bool | None = None
        master.register(self._peer, self._deliver, self._beat)

    def _deliver(self, message: Message) -> None:
        """Called by the master's thread."""
        if message.kind == "ack":
            return
        with self._room:
            if message.kind in ("taken", "abort", "end"):
                self._on_the_way -= message.body.get("size", 0)
                self._held = self._held and message.kind == "taken"
                self._room.notify_all()
                if message.kind == "taken":
                    return
            self._joined = self._joined or message.kind == "welcome"
            self._inbox.put(message)
            self._aborted = self._aborted or message.kind in ("abort", "end")
            if not self._closed:  # else the descriptor may be somebody else's by now
                with contextlib.suppress(BlockingIOError):  # full: it is readable anyway
                    os.write(self._write, b"x")
        if message.kind == "abort":  # with processes the supervisor does this, and kills it after the grace
            self.interrupt.send(0.0 if message.body.get("interrupt") else message.body.get("grace_s", 0.0))

    def _beat(self) -> dict[str, Any] | None:
        """Called by the master's thread: this worker's notes, as a supervisor would send them."""
        if not self._joined:
            return None
        waits = {"waits_for": self._waits_for, "ways": self._ways}
        return {"attempt": self.attempt, "steps": self.steps(), **waits, "memory": 0}

    def steps(self) -> list[list[Any]]:
        """The latest noted step of each group."""
        return list(self._notes.values())

    def _say(self, kind: str, body: dict[str, Any], blob: bytes | None = None) -> None:
        body = {"attempt": self.attempt, **body}
        self._master.send(self._peer, kind, body, () if blob is None else (blob,))

    @property
    def aborted(self) -> bool:
        return self._aborted

    def learn_cause(self) -> None:
        self.poll()  # it was put there before the flag could be seen

    def fileno(self) -> int:
        return self._read

    def poll(self, timeout_s: float = 0.0) -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        came = False
        while True:
            try:
                message = self._inbox.get(block=timeout_s > 0 and not came, timeout=timeout_s or None)
            except queue.Empty:
                return came
            came = True
            self.take(message.kind, message.body, message.blobs[0] if message.blobs else b"")

    def take(self, kind: str, body: Mapping[str, Any], blob: bytes) -> None:
        super().take(kind, body, blob)
        match kind:
            case "welcome":
                self.welcomed = True
            case "refused":
                self.welcomed = False
            case "start":
                self.start = json.loads(blob)
            case "end":
                self._cause = self._cause or StepAbortedError(
                    "the job is over", why="it was ended while this worker ran", remedy="see the job's error"
                )

    def enter_step(self, group: Group, number: int, fingerprint: Fingerprint) -> None:
        self._notes[group.number] = [group.number, number, True, fingerprint.kind, fingerprint.shape, fingerprint.line]

    def leave_step(self, group: Group, number: int) -> None:
        note = self._notes.get(group.number)
        if note is not None and note[1] == number:
            note[2] = False

    def waiting(self, what: str) -> None:
        self._waits_for = what

    def note_ways(self, text: str) -> None:
        self._ways = text

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        size = weight_of(kind, body)
        if size:
            with self._room:
                self._room.wait_for(self._has_room)
                self._on_the_way += size
        self._say(kind, dict(body), blob or None)

    def _has_room(self) -> bool:
        """Every wait for it ends: the master says "end" whatever becomes of it."""
        return not self._held or self._on_the_way <= OUTPUT_WINDOW

    def ended(self, code: int, result: bytes | None, failed: bool) -> None:
        """Tell the master how the worker ended.

        :param failed: the master has been told why.
        """
        body = {"code": code, "returned": result is not None, "failed": failed, "tail": []}
        body.update(steps=self.steps(), last=self.last_steps())
        self._say("ended", body, result)

    def close(self) -> None:
        """Say goodbye, and let go."""
        self.interrupt.close()
        self._say("bye", {})
        with self._room:
            self._closed = True
            os.close(self._read)
            os.close(self._write)


def run_worker(
    slot: int, master: LocalMaster, join_key: str, function: Callable[[Any], Any], manifest: Manifest, job_id: str
) -> None:
    """The life of one worker thread. Whatever happens in it, the master hears of its end."""
    _inside.worker = True
    link = ThreadLink(master, slot)
    try:
        curve = curve_pair()  # transports between processes serve threads, too
        hello = {"slot": slot, "attempt": 1, "join_key": join_key, "key": curve[0], **worker_facts()}
        link.post("hello", hello)
        while link.start is None and not link.aborted and link.welcomed is not False:
            link.poll(1.0)
        if link.start is not None:
            _live(link, function, manifest, job_id, curve)
    finally:
        link.close()


def _live(
    link: ThreadLink, function: Callable[[Any], Any], manifest: Manifest, job_id: str, curve: tuple[str, str]
) -> None:
    """Threads that the program starts and leaves are not waited for, as in a process: they are the client's, too."""
    result, failed = None, False
    try:
        result = live(link, function, manifest, partial(_start, link, job_id, curve), around=lambda: link.interrupt)
        failed = result is None
        flush_streams()
        shutil.rmtree(_volatile(link, job_id).parent, ignore_errors=True)
    finally:
        link.ended(int(result is None), result, failed)


def _start(link: ThreadLink, job_id: str, curve: tuple[str, str]) -> Start:
    runtime = str(runtime_folder(job_id))
    volatile = str(_volatile(link, job_id))
    return Start.from_json({**(link.start or {}), "curve": curve, "runtime_dir": runtime, "volatile": volatile})


def _volatile(link: ThreadLink, job_id: str) -> pathlib.Path:
    return runtime_path(job_id) / f"s{link.worker_id}" / "volatile"
