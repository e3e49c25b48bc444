"""Waiting for a transport's own collectives, together with aborts and the other transports."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import StepMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.collectives import NativeCollectives
    from twister2.spec.comm import Transport
    from twister2.spec.network import Group
    from twister2.worker.network.collectives.checking import Plan
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep

_LONGEST_S = 0.001
"""Longest sleep between two looks: a transport need not wake us for its own collectives."""


def common_transport(network: WorkerNetwork, members: Sequence[int]) -> Transport | None:
    """The one transport that joins all members pairwise, or None; the same answer on all of them."""
    index = network.common_route(members)
    if index is None:
        return None
    return network.transport_of(next(peer for peer in members if peer != network.worker_id))


class NativeRoad:
    """The native collectives of a group (or of its members on one host)."""

    def __init__(self, network: WorkerNetwork, group: Group, native: NativeCollectives) -> None:
        self._network, self._native, self.group = network, native, group
        self.operations = native.operations
        self._yields = network.crowded

    def takes(self, plan: Plan) -> bool:
        """Whether it does this call."""
        return plan.call.operation in self.operations and self._native.accepts(plan.call, plan.dtype, plan.nbytes)

    def run(self, plan: Plan, send: Any, receive: Any, step: NumberedStep) -> None:
        """One call, to its end.

        :raises StepMismatchError: another member is in another call; names both lines.
        """
        try:
            request = self._native.start(plan.call, send, receive, step.number, step.digest)
            if request.test():
                return
            test = request.test
            network = self._network
            spins, clock = network.spin_s, time.perf_counter
            until = clock() + spins
            while True:
                if test() or test() or test() or test():
                    return
                if network.link.aborted:
                    network.check()
                if self._yields:
                    os.sched_yield()
                if clock() > until:
                    break
            self._wait(test, step)
        except StepMismatchError as error:
            raise self._network.explained(error, step) from error

    def _wait(self, test: Any, step: NumberedStep) -> None:
        network, pause = self._network, 0.00005
        what = f"{step.fingerprint.kind}, step {step.number}: for the other members (native)"
        network.link.waiting(what)
        try:
            while not test():
                if network.progress():
                    pause = 0.00005
                    continue
                if test():
                    return
                network.wait(pause)
                pause = min(_LONGEST_S, pause * 1.5)
        finally:
            network.link.waiting("")

    def close(self) -> None:
        """The group is not used any more."""
        self._native.close()
