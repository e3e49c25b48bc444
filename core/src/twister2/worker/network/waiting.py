"""Waiting of one worker: it spins for a while, then sleeps in the kernel until a message or an abort comes."""

from __future__ import annotations

import os
import select
import threading
import time
from abc import abstractmethod
from threading import get_ident
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import UsageError
from twister2.worker.board import LIMITED
from twister2.worker.callers import caller_line, line_of_thread
from twister2.worker.network.grouping import Grouping
from twister2.worker.network.late import too_late

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.comm import Transport
    from twister2.spec.errors import Twister2Error
    from twister2.spec.network import Step
    from twister2.worker.link import Link
    from twister2.worker.network.collectives.requests import OpenCall

_FIRST_S = 0.0001
"""Length of the first sleep of a wait; the next ones are each twice as long."""
LOOK_S = 5.0
"""A wait of so long is told together with what lies in the ways to the others."""


class _Told:
    """What is told of a wait: what it is for, and after a while what lies in the ways to the others."""

    __slots__ = ("_limit", "_network", "_noted", "_step", "_ways", "_what", "began")

    def __init__(
        self, network: Waiting, what: str | Callable[[], str], deadline_s: float | None, step: Step | None
    ) -> None:
        self._network, self._what, self._step = network, what, step
        self._limit = "" if deadline_s is None else f" ({deadline_s:g}{LIMITED}"
        self._noted = ""
        self._ways = False
        self.began = time.perf_counter()

    @property
    def what(self) -> str:
        """What it is for."""
        return self._what if isinstance(self._what, str) else self._what()

    def tell(self, pause: float) -> None:
        """Called before a sleep of this length: a wait that the first one ends is nobody's concern."""
        if not self._noted and pause <= _FIRST_S:
            return
        network, text = self._network, self.what
        if text != self._noted:
            network.link.waiting(text + self._limit)
            self._noted = text
        if pause > LOOK_S / 100 and (waited_s := time.perf_counter() - self.began) > LOOK_S:
            self._ways = True
            network.link.note_ways(f"has waited {waited_s:.0f} s; {network.ways(self._step)}")

    def close(self) -> None:
        """The wait is over."""
        if self._noted:
            self._network.link.waiting("")
        if self._ways:
            self._network.link.note_ways("")


class Waiting(Grouping):
    """What a network does while there is nothing to do.

    :ivar spin_s: seconds for which it polls before it sleeps. :ivar crowded: this host has more workers than cores: who
        polls yields to the others. :ivar spin_clock: what ``spin_s`` counts: where others run between two polls, their
        time is not this worker's.
    """

    _transports: tuple[Transport, ...]
    _outbox: Mapping[int, Any]

    def __init__(self, link: Link, size: int, hosts: Mapping[int, str] | None, spin_s: float) -> None:
        super().__init__(size, hosts)
        self.link = link
        self.spin_s = spin_s
        here = self.hosts.get(link.worker_id, "")
        neighbours = sum(self.hosts.get(worker, "") == here for worker in range(size))
        self.crowded = neighbours > len(os.sched_getaffinity(0))
        self.spin_clock = time.thread_time if self.crowded else time.perf_counter
        self._poller: select.poll | None = None
        self._poll_fds: tuple[int | None, ...] = ()
        self.open_calls: list[OpenCall] = []
        """Collective calls that were started and are not complete: they go on whenever the network progresses."""
        self.polled = 0
        """Calls that are waited for and that nothing wakes this worker for."""
        self.waiter = 0
        """The thread that is in a call, 0 when none is."""
        self.handed = 0
        """Batches that were handed over between tasks of this worker, or taken: nothing wakes who waits for these."""

    @abstractmethod
    def give_up(self, error: Twister2Error) -> None:
        """End the attempt."""

    @abstractmethod
    def check(self) -> None:
        """Raise when the attempt is over."""

    def wait(self, timeout_s: float) -> None:
        self.check()
        supervisor = self.link.fileno()
        descriptors = (supervisor, *[transport.wait_fd() for transport in self._transports])
        if descriptors != self._poll_fds or self._poller is None:
            self._poller = select.poll()
            self._poll_fds = descriptors
            for descriptor in set(descriptors) - {None, -1}:
                assert descriptor is not None
                self._poller.register(descriptor, select.POLLIN)
        if None in descriptors or self._outbox or self.polled or any(call.polled for call in self.open_calls):
            timeout_s = min(timeout_s, 0.001)
        told = self._poller.poll(max(0.0, timeout_s) * 1000)
        if supervisor < 0 or any(descriptor == supervisor for descriptor, _ in told):
            self.link.poll()
        self.check()

    @abstractmethod
    def ways(self, step: Step | None) -> str:
        """What lies in the ways to the other members of a step (None: to all workers), for people."""

    def idle(self, timeout_s: float) -> None:
        clock = self.spin_clock
        spin_s, yields = self._spinning()
        until = clock() + min(spin_s, timeout_s)
        while not self.progress():
            if clock() >= until:
                self.wait(timeout_s)
                return
            if yields:
                os.sched_yield()

    def _spinning(self) -> tuple[float, bool]:
        """For how long this worker polls before it sleeps, and whether it yields meanwhile: to others of its host that
        have no core of their own, or to the threads of a transport, which nobody spins for alone: who yields on a busy
        machine may get the processor back after some milliseconds, and who sleeps when there is something to do.
        """
        spins = [transport.spins for transport in self._transports]
        if not any(spins) and spins:
            return 0.0, False
        return self.spin_s, self.crowded or not all(spins)

    def wait_until(
        self,
        ready: Callable[[], bool],
        what: str | Callable[[], str],
        deadline_s: float | None = None,
        *,
        step: Step | None = None,
    ) -> None:
        before = self.check_thread()
        if ready():
            self.check()
            return
        self.waiter = get_ident()
        clock = self.spin_clock
        spin_s, yields = self._spinning()
        spin_until = clock() + spin_s
        told = _Told(self, what, deadline_s, step)
        pause = _FIRST_S
        try:
            while True:
                handed = self.handed
                moved = self.progress()
                if ready():
                    return
                if moved or handed != self.handed:
                    spin_until = clock() + spin_s
                    pause = _FIRST_S
                    continue
                if clock() < spin_until:
                    if yields:
                        os.sched_yield()
                    continue
                left = 1.0
                if deadline_s is not None:
                    left = told.began + deadline_s - time.perf_counter()
                    if left <= 0:
                        raise too_late(self.link, deadline_s, told.what, step, self.ways(step))
                told.tell(pause)
                self.wait(min(left, pause))
                pause = min(1.0, pause * 2)
        finally:
            self.waiter = before
            told.close()

    def check_thread(self) -> int:
        """The thread that is in a call: this one, or 0.

        :raises UsageError: it is another one.
        """
        waiter = self.waiter
        if waiter and waiter != get_ident():
            raise self.entered_twice()
        return waiter

    def entered_twice(self) -> UsageError:
        """The error for a thread that makes a call while another one is in one. The attempt is over: nobody knows which
        of their calls are those of the other workers.
        """
        other = self.waiter
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        there = line_of_thread(other) or "an unknown line"
        error = UsageError(
            f"two threads of worker {self.link.worker_id} communicate at the same time: "
            f"'{threading.current_thread().name}' and '{names.get(other, other)}'",
            why=f"'{names.get(other, other)}' is in the call at {there}; a worker's calls have one order, the same on "
            "all workers, which threads side by side do not keep",
            remedy="let one thread at a time communicate: compute in threads, and let the one that started them make "
            "the calls, or hold a lock around them and keep their order",
            where=f"{caller_line()}, worker {self.link.worker_id}",
        )
        self.give_up(error)
        return error
