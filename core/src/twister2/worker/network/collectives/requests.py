"""Collective calls under way: an algorithm by messages, and a step that stays open until its call is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.collectives import Request
from twister2.worker.network.steps import as_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twister2.worker.network.collectives.exchange import Exchange
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep


class Running:
    """An algorithm and its exchange; :meth:`advance` goes on as far as messages have come."""

    __slots__ = ("_algorithm", "_exchange", "_step")

    def __init__(self, exchange: Exchange, algorithm: Iterator[None] | None, step: NumberedStep) -> None:
        self._exchange, self._algorithm, self._step = exchange, algorithm, step

    def advance(self) -> bool:
        """Whether it is complete."""
        algorithm = self._algorithm
        while algorithm is not None:
            for _ in algorithm:
                return False
            exchange = self._exchange
            algorithm = self._algorithm = exchange.settle() if exchange.unsettled else None
        return True

    def what(self) -> str:
        """What is waited for."""
        step, rank = self._step, self._exchange.waits
        whom = f": for worker {self._exchange.members[rank]}" if rank >= 0 else ""
        return f"{step.fingerprint.kind}, step {step.number}{whom}"


class OpenCall(Request):
    """A call that was started and not waited for yet. The network advances all open calls whenever it progresses, as
    other members may wait for any of them.
    """

    __slots__ = ("_advance", "_keeps", "_network", "_what", "done", "lasting", "polled", "step")

    def __init__(
        self,
        network: WorkerNetwork,
        step: NumberedStep,
        advance: Callable[[], bool],
        what: Callable[[], str],
        keeps: Any,
        *,
        polled: bool,
        lasting: bool = False,
    ) -> None:
        """
        :param keeps: what must live until the call is complete. :param polled: nothing wakes a waiting worker for it.
        :param lasting: it may be open when the program returns.
        """
        self._network, self.step, self._advance, self._what, self._keeps = network, step, advance, what, keeps
        self.polled, self.lasting = polled, lasting
        self.done = False
        network.open_calls.append(self)
        self.advance()

    def advance(self) -> bool:
        """Go on; whether the call is complete and its step has ended."""
        if self.done:
            return True
        step, network = self.step, self._network
        try:
            if not self._advance() or not network.ended(step):
                return False
        except BaseException as error:
            self._over()
            network.fail_step(step, as_failure(error, step))
            raise
        self._over()
        return True

    def _over(self) -> None:
        self.done = True
        self._keeps = None
        self._network.open_calls.remove(self)

    def test(self) -> bool:
        if not self.advance():
            self._network.progress()
        return self.done

    def wait(self, deadline_s: float | None = None) -> None:
        if not self.advance():
            network, step = self._network, self.step
            network.note_again(step)
            network.wait_until(lambda: self.done, self._what, deadline_s, step=step)

    def __repr__(self) -> str:
        return f"<{'complete' if self.done else 'open'} call: {self.step!r}>"
