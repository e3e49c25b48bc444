"""The supervisor's view of one attempt's user process: having it forked, what it writes, how it is ended."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.control.messages import OUTPUT_WINDOW, weight_of
from twister2.control.text import output_decoder, readable
from twister2.worker.board import StepBoard
from twister2.worker.pipe import Pipe, drain
from twister2.worker.processes import end_leftovers, end_process, runs

if TYPE_CHECKING:
    import codecs
    from collections.abc import Iterator

    from twister2.worker.forkserver import ForkServer

TAIL_LINES = 20
RECENT_STEPS = 8
REPORT_S = 1.0
"""How long the report of the end of a killed process may take."""
FRAMES_A_TURN = 256
"""Messages taken from the user process before the master and the beat have their turn."""

Frame = tuple[str, dict[str, Any], bytes]


class UserProcess:
    """One user process, from the request to fork it until what it left behind is ended.

    :ivar pid: 0 until the fork server has said that it is forked. :ivar result: what the function returned, pickled.
    :ivar last: its latest steps by group. :ivar failed: it has reported an error.
    :ivar kill_at: monotonic time at which it is killed if it still runs. :ivar killed: it was killed, or is as soon as
        it is forked. :ivar aborted: it still ran when it was told of an abort, or was killed from here.
    :ivar started: it was told to call the function. :ivar more: whole frames may be left from the last turn.
    """

    def __init__(self, fork_server: ForkServer, job: dict[str, Any], pmi_descriptor: int | None) -> None:
        """
        :param job: for :func:`twister2.worker.user.main`; ``attempt`` tells the fork server's reports apart.
        """
        self._fork_server = fork_server
        self.attempt: int = job["attempt"]
        ours, theirs = Pipe.pair()
        self.pipe = Pipe(ours)
        descriptor = StepBoard.create()
        self.board = StepBoard(descriptor)
        self.outputs: dict[int, tuple[str, codecs.IncrementalDecoder]] = {}
        given = [theirs.fileno(), descriptor]
        for stream in ("stdout", "stderr"):
            read, write = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(read, False)
            self.outputs[read] = (stream, output_decoder())
            given.append(write)
        if pmi_descriptor is not None:
            given.append(pmi_descriptor)
        fork_server.fork(job, given)
        theirs.close()
        for number in given[1:]:
            os.close(number)
        self._killed_at = 0.0
        self.pid = 0
        self.result: bytes | None = None
        self.last: list[list[int]] = []
        self.failed = self.killed = self.aborted = self.more = self.started = self._interrupt = False
        self.kill_at: float | None = None
        self.on_the_way = 0
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    # -- what it says --------------------------------------------------------------------------------------------------

    @property
    def must_wait(self) -> bool:
        """Whether the master has to take in what this process wrote before it may write more."""
        return self.on_the_way > OUTPUT_WINDOW

    @property
    def readable(self) -> list[int]:
        """The descriptors to wait for; none while it has to wait itself."""
        if self.must_wait:
            return []
        return [*self.outputs, *([] if self.pipe.closed else [self.pipe.fileno()])]

    def frames(self, *, to_the_end: bool = False) -> Iterator[Frame]:
        """What it sent: one turn's share, or everything."""
        taken = 0
        self.more = False
        while to_the_end or not self.must_wait:
            frame = self.pipe.receive()
            if frame is None:
                return
            kind, body, _ = frame
            self.on_the_way += weight_of(kind, body)
            yield frame
            taken += 1
            if taken == FRAMES_A_TURN and not to_the_end:
                break
        self.more = True

    def written(self, *, to_the_end: bool = False) -> Iterator[tuple[str, str]]:
        """Pieces of its output: stream and text."""
        for descriptor, (stream, decoder) in list(self.outputs.items()):
            while True:
                data = drain(descriptor)
                text = decoder.decode(data or b"", final=data is None)
                if text:
                    if stream == "stderr":
                        self.tail.extend(readable(text).splitlines())
                    self.on_the_way += weight_of("output", {"text": text})
                    yield stream, text
                if data is None:
                    os.close(descriptor)
                    del self.outputs[descriptor]
                if not data or not to_the_end:
                    break

    def steps(self) -> list[list[Any]]:
        """The steps that it noted last, those it is in before all others."""
        entries = sorted(self.board.entries(), key=lambda entry: (entry.inside, entry.last))[-RECENT_STEPS:]
        return [entry.to_json() for entry in entries]

    # -- what it is told -----------------------------------------------------------------------------------------------

    def tell(self, kind: str, body: dict[str, Any], blob: bytes = b"") -> None:
        """Send it a message, without waiting until it reads it; one that has ended is told nothing."""
        self.started = self.started or kind == "start"
        self.pipe.post(kind, body, blob)

    def abort(self, error: dict[str, Any], grace_s: float, *, interrupt: bool = False) -> None:
        """Raise in it, and kill it if it still runs after ``grace_s`` seconds; one that is not forked yet, and has not
        been told to start, runs nothing that needs grace.

        :param interrupt: it is told by a signal, too, wherever it is (:mod:`twister2.worker.interrupt`).
        """
        self.aborted = self.aborted or not self.pid or runs(self.pid)
        self.board.abort()
        self.tell("abort", {"error": error})
        self._interrupt = interrupt
        if interrupt and self.pid:
            end_process(self.pid, signal.SIGINT)
        self.kill_at = time.monotonic() + (grace_s if self.pid or self.started else 0.0)

    def is_forked(self, pid: int) -> None:
        """The fork server has forked it; one that was given up meanwhile is ended at once."""
        self.pid = pid
        if self.killed:
            self.end()
        elif self._interrupt:  # it may run already: the report of its fork can be late
            end_process(pid, signal.SIGINT)

    def kill_if_due(self) -> None:
        """End it when its grace is over."""
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self.kill_at = None
            self.end()

    @property
    def reported_late(self) -> bool:
        """It is to end without another grace, and the fork server has had time to report its end."""
        return self.kill_at is None and time.monotonic() - self._killed_at > REPORT_S

    def end(self, grace_s: float = 0.0) -> None:
        """End it with all that it started; when it is not forked yet, as soon as it is."""
        self.killed, self._killed_at = True, time.monotonic()
        self.aborted = self.aborted or runs(self.pid)
        end_leftovers(os.getpid(), keep={self._fork_server.pid}, below_kept=True, grace_s=grace_s)

    def end_leftovers(self) -> None:
        """It has ended: end what it left behind."""
        end_leftovers(os.getpid(), keep={self._fork_server.pid}, grace_s=0.0)

    def close(self) -> None:
        self.pipe.close()
        self.board.close()
        for descriptor in self.outputs:
            os.close(descriptor)
        self.outputs.clear()
