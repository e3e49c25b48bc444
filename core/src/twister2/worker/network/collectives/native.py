"""Waiting for a transport's own collectives, together with aborts and the other transports."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import StepMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twister2.spec.collectives import Call, NativeCollectives
    from twister2.spec.comm import Transport
    from twister2.worker.network.collectives.checking import Plan
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep


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

    def __init__(self, network: WorkerNetwork, native: NativeCollectives) -> None:
        self._network, self._native = network, native
        self.operations = native.operations
        self._yields = network.crowded
        self._calls = 0

    def takes(self, call: Call, dtype: Any, nbytes: int) -> bool:
        """Whether it does such a call."""
        return call.operation in self.operations and self._native.accepts(call, dtype, nbytes)

    def run(self, plan: Plan, send: Any, receive: Any, step: NumberedStep) -> None:
        """One call, to its end.

        :raises StepMismatchError: another member is in another call; names both lines.
        """
        network = self._network
        try:
            test = self._native.start(plan.call, send, receive, step.number, step.digest).test
            if test():
                return
            clock = time.perf_counter
            until = clock() + network.spin_s
            yields, link = self._yields, network.link
            while clock() < until:
                if test() or test() or test() or test():
                    return
                if link.aborted:
                    network.check()
                if yields:
                    os.sched_yield()
        except StepMismatchError as error:
            raise network.explained(error, step) from error
        network.polled += 1
        try:
            network.wait_until(self.checked(test, step), waits_natively(step))
        finally:
            network.polled -= 1

    def start(self, plan: Plan, send: Any, receive: Any, step: NumberedStep) -> Callable[[], bool]:
        """Begin a call; what is returned advances it and says whether it is complete."""
        try:
            return self.checked(self._native.start(plan.call, send, receive, step.number, step.digest).test, step)
        except StepMismatchError as error:
            raise self._network.explained(error, step) from error

    def checked(self, test: Callable[[], bool], step: NumberedStep) -> Callable[[], bool]:
        """``test``, with both lines in the error of a mismatch."""

        def tested() -> bool:
            try:
                return test()
            except StepMismatchError as error:
                raise self._network.explained(error, step) from error

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
    """What ``twister2 status`` shows while a native call waits."""
    return lambda: f"{step.fingerprint.kind}, step {step.number}: for the other members (native)"
