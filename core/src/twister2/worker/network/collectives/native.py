"""Waiting for a transport's own collectives, together with aborts and the other transports."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any, Final

from twister2.spec.errors import NetworkError, StepMismatchError
from twister2.worker.board import OTHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twister2.spec.collectives import Call, NativeCollectives
    from twister2.spec.comm import Transport
    from twister2.spec.network import Fingerprint, Group
    from twister2.worker.network.collectives.checking import Plan
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep

POLL_S_PER_BYTE: Final = 2e-9
"""A call on large arrays is polled for two nanoseconds more for each byte of each member (500 MB/s)."""

DOZE_S: Final = 0.005
"""How long a call is waited for asleep before everything else of the network goes on as well."""

NAP_S: Final = 2e-5
"""The first sleep of a call that is polled; the system makes some 70 us of it."""


def common_transport(network: WorkerNetwork, members: Sequence[int]) -> Transport | None:
    """The one transport that joins all members pairwise and has collectives of its own, or None; the same answer on
    all of them.
    """
    if network.common_route(members) is None:
        return None
    transport = network.transport_of(next(peer for peer in members if peer != network.worker_id))
    return transport if transport.facts.native else None


class NativeRoad:
    """The native collectives of a group, or of its members on one host."""

    def __init__(self, network: WorkerNetwork, group: Group, native: NativeCollectives, transport: Transport) -> None:
        self._network, self._group, self._native = network, group, native
        self.wakes = native.wakes
        """Whether the transport's descriptor tells of its calls, so that nothing needs polling."""
        self.spins = native.spins and not (native.wakes and network.crowded)
        """Whether it is polled at first: not where it wakes its workers and they have fewer cores than there are."""
        self._wait_fd = transport.wait_fd
        self._poller: select.poll | None = None
        self._start = native.start
        self.operations = native.operations
        self.limits = native.limits
        self._yields = network.crowded
        self._size = group.size
        self._calls = 0

    def takes(self, call: Call, dtype: Any, nbytes: int) -> bool:
        """Whether it does such a call."""
        return call.operation in self.operations and self._native.accepts(call, dtype, nbytes)

    def run(self, plan: Plan, send: Any, receive: Any, known: tuple[Fingerprint, int, bytes]) -> None:
        """One call, to its end, as a step of its own.

        :raises StepMismatchError: another member is in another call; names both lines.
        """
        network, group = self._network, self._group
        number = network.begin(group, known[0])
        link = network.link
        try:
            test = self._start(plan.call, send, receive, number, known[1]).test
            if (  # nothing is polled for beside other calls under way: these go on in wait_until only
                test()
                or (self.spins and not network.open_calls and self._spin(test, max(plan.nbytes, 0)))
                or (self.wakes and self._doze(test))
                or (self._wait_fd() is None and self._nap(test))
            ):
                link.leave_step(group, number)
                return
        except BaseException as error:
            with network.opened(group, number, known) as step:
                if isinstance(error, StepMismatchError):
                    raise network.explained(error, step) from error
                if isinstance(error, NetworkError):
                    network.await_cause_of(error)
                raise
        with network.opened(group, number, known) as step:
            polls = not self.wakes
            network.polled += polls
            try:
                network.wait_until(self.checked(test, step), waits_natively(step))
            finally:
                network.polled -= polls

    def _spin(self, test: Callable[[], bool], nbytes: int) -> bool:
        """Poll for as long as waiting workers may, and longer where much data is under way: it moves by polling."""
        network = self._network
        clock = network.spin_clock
        until = clock() + network.spin_s + nbytes * POLL_S_PER_BYTE * self._size
        yields, link = self._yields, network.link
        while clock() < until:
            if yields:  # before each look: those who have no core meanwhile are waited for
                os.sched_yield()
                if test():
                    return True
            elif test() or test() or test() or test():
                return True
            if link.aborted:
                network.check()
        return False

    def _doze(self, test: Callable[[], bool]) -> bool:
        """Sleep until the transport or the supervisor has something: who polls instead takes the processor from the
        threads that move the data.
        """
        network = self._network
        link = network.link
        poller, supervisor = self._poller, link.fileno()
        if poller is None:
            poller = self._poller = select.poll()
            for descriptor in (supervisor, self._wait_fd()):
                if descriptor is not None and descriptor >= 0:
                    poller.register(descriptor, select.POLLIN)
        until = 0.0
        while not network.open_calls:
            told = poller.poll(1 + DOZE_S * 1000)
            if test():
                return True
            for descriptor, _ in told:
                if descriptor == supervisor:
                    link.poll()
            if link.aborted:
                network.check()
            now = time.perf_counter()
            until = until or now + DOZE_S
            if now > until or not told:
                break
        return False

    def _nap(self, test: Callable[[], bool]) -> bool:
        """Sleep, where the transport never wakes this worker, for a part of the time that it has waited: what comes
        late is found hardly later.
        """
        network = self._network
        link, began = network.link, time.perf_counter()
        waited = 0.0
        while waited < DOZE_S and not network.open_calls:
            time.sleep(max(NAP_S, waited / 4))
            if test():
                return True
            if link.aborted:
                network.check()
            waited = time.perf_counter() - began
        return False

    def start(self, plan: Plan, send: Any, receive: Any, step: NumberedStep) -> Callable[[], bool]:
        """Begin a call; what is returned advances it and says whether it is complete."""
        try:
            return self.checked(self._native.start(plan.call, send, receive, step.number, step.digest).test, step)
        except StepMismatchError as error:
            raise self._network.explained(error, step) from error
        except NetworkError as error:
            self._network.await_cause_of(error)
            raise

    def checked(self, test: Callable[[], bool], step: NumberedStep) -> Callable[[], bool]:
        """``test``, with both lines in the error of a mismatch."""

        def tested() -> bool:
            try:
                return test()
            except StepMismatchError as error:
                raise self._network.explained(error, step) from error
            except NetworkError as error:
                self._network.await_cause_of(error)
                raise

        return tested

    def within(self, call: Call, send: Any, receive: Any, step: NumberedStep) -> Iterator[None]:
        """One call as part of a larger one: the steps of these members are numbered by their own calls."""
        self._calls += 1
        test = self.checked(self._native.start(call, send, receive, self._calls, step.digest).test, step)
        while not test():
            yield

    def close(self) -> None:
        """The group is not used any more."""
        self._native.close()


def waits_natively(step: NumberedStep) -> Callable[[], str]:
    """What ``twister2 status`` shows while a native call waits; the job master fills in the members."""
    return lambda: f"{step.fingerprint.kind}, step {step.number}: {OTHERS}"
