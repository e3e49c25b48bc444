"""The network of one worker: steps, ports, progress and waiting, over the transports that were chosen per peer."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import NetworkError, StepAbortedError, StepMismatchError, Twister2Error
from twister2.worker.callers import caller_line
from twister2.worker.groups import SHOWN
from twister2.worker.network.blame import OF_THIS_WORKER, placed
from twister2.worker.network.ports import ChannelPort
from twister2.worker.network.shared import SharedArrays
from twister2.worker.network.steps import (
    NumberedStep,
    explained,
    fingerprint_of,
    left_open,
    mismatch,
    other_attempt,
)
from twister2.worker.network.under_way import UnderWay
from twister2.worker.network.userops import check_outside
from twister2.worker.network.waiting import Waiting
from twister2.worker.network.wire import Message, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twister2.config.job import NetworkConfig
    from twister2.spec.batch import Buffer
    from twister2.spec.collectives import Request
    from twister2.spec.comm import Transport
    from twister2.spec.memory import MemoryService
    from twister2.spec.network import Fingerprint, Group, Port, Step
    from twister2.worker.link import Link
    from twister2.worker.network.codec import Encoded
    from twister2.worker.network.collectives import GroupCollectives
    from twister2.worker.network.forming import Pairs
    from twister2.worker.network.steps import Receiver

_CREDIT = int(HeaderKind.CREDIT)
_ABORT = int(HeaderKind.ABORT)
_NOTHING: Encoded = (0, b"", [], 0)
_BURST = 64
"""Messages taken from one transport before the next one has its turn."""


class WorkerNetwork(Waiting):
    """See :class:`twister2.spec.network.Network`. Not thread-safe: one thread runs the steps."""

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        link: Link,
        size: int,
        routes: Mapping[int, Transport],
        transports: Sequence[Transport],
        config: NetworkConfig,
        memory: MemoryService | None = None,
        hosts: Mapping[int, str] | None = None,
        pairs: Pairs | None = None,
        heartbeat_s: float = 1.0,
    ) -> None:
        self.worker_id = link.worker_id
        self.attempt = link.attempt
        super().__init__(link, size, hosts, config.spin_us / 1e6)
        self.under_way = UnderWay(config, memory, size)
        self.hold = self.under_way.hold
        self._pairs = pairs
        self._heartbeat_s = heartbeat_s
        self._transports = tuple(transports)
        self._routes = dict(routes)
        self._numbers: dict[int, int] = {}
        self.shared = SharedArrays()
        self._open: dict[tuple[int, int], NumberedStep] = {}
        self._future: dict[tuple[int, int], list[Message]] = {}
        self._outbox: dict[int, deque[tuple[NumberedStep, list[Buffer], bool]]] = {}
        self._error: Twister2Error | None = None
        self.stale_messages = 0
        """Messages of past steps and attempts that were dropped."""

    # -- steps -----------------------------------------------------------------------------------------------------

    def step(self, kind: str, shape: str = "", *, group: Group | None = None, line: str | None = None) -> NumberedStep:
        if line is None:
            line = caller_line()
        return self.numbered(group or self.world, fingerprint_of(kind, shape, line))

    def numbered(self, group: Group, known: tuple[Fingerprint, int, bytes]) -> NumberedStep:
        """The group's next step, of a fingerprint that is known."""
        self.check_thread()
        return self.opened(group, self.begin(group, known[0]), known)

    def begin(self, group: Group, fingerprint: Fingerprint) -> int:
        """Begin the group's next step; :meth:`opened` makes it known to messages."""
        link = self.link
        if link.aborted or self._error is not None:
            self.check()
        check_outside()
        number = link.begin_step(group, fingerprint)
        self._numbers[group.number] = number + 1
        return number

    def opened(self, group: Group, number: int, known: tuple[Fingerprint, int, bytes]) -> NumberedStep:
        """A step that was begun, from now on with messages: those that came already are delivered."""
        key = (group.number, number)
        step = self._open[key] = NumberedStep(self, group, number, known)
        if self._future:
            for message in self._future.pop(key, ()):
                self.hold(-message.size)
                self._deliver(step, message)
        return step

    def end_step(self, step: NumberedStep) -> None:
        """The step's body returned: let what was sent leave, then forget the step."""
        try:
            if self._outbox or step.sends:
                self.wait_until(lambda: self._has_left(step), f"messages of {step!r} to leave this worker")
        finally:
            self._forget(step)
        self.link.leave_step(step.group, step.number)

    def ended(self, step: NumberedStep) -> bool:
        """End a step whose body is over if what it sent has left; never waits."""
        if (self._outbox or step.sends) and not self._has_left(step):
            return False
        self._forget(step)
        self.link.leave_step(step.group, step.number)
        return True

    def note_again(self, step: NumberedStep) -> None:
        """This worker is in an earlier step than the last one it began."""
        if step.number + 1 != self._numbers[step.group.number]:
            self.link.enter_step(step.group, step.number, step.fingerprint)

    def fail_step(self, step: NumberedStep, error: Twister2Error | None) -> None:
        """The step's body raised: tell the master, once."""
        self._forget(step)
        if self._error is None and error is not None:
            self._error = error
            if not self.link.aborted:
                self.link.fail(error)

    def _forget(self, step: NumberedStep) -> None:
        for port in list(step.ports.values()):
            port.close()
        if step.held:
            for messages in step.held.values():
                for message in messages:
                    self.hold(-message.size)
            step.held.clear()
        self._open.pop((step.group.number, step.number), None)
        if not self._outbox:
            return
        for queue in self._outbox.values():
            kept = [entry for entry in queue if entry[0] is not step]
            queue.clear()
            queue.extend(kept)
        self._outbox = {peer: queue for peer, queue in self._outbox.items() if queue}

    def _has_left(self, step: NumberedStep) -> bool:
        if any(entry[0] is step and entry[2] for queue in self._outbox.values() for entry in queue):
            return False
        step.sends = [send for send in step.sends if not send.done]
        return not step.sends

    def keep_open(
        self, step: Step, advance: Callable[[], bool], what: str, *, polled: bool = False, lasting: bool = True
    ) -> Request:
        from twister2.worker.network.collectives.requests import OpenCall

        assert isinstance(step, NumberedStep)
        return OpenCall(self, step, advance, lambda: what, None, polled=polled, lasting=lasting)

    def open_port(self, step: Step, edge: int, sources: Sequence[int], targets: Sequence[int]) -> Port:
        if not isinstance(step, NumberedStep) or (step.group.number, step.number) not in self._open:
            raise NetworkError(
                f"a port was opened in a step that is over ({step!r})",
                why="channels live within one step",
                remedy="reset the operator with the current step first",
            )
        if edge in step.ports or edge in step.closed_edges:
            raise NetworkError(
                f"edge {edge} was opened twice in {step!r}",
                why="the number of an edge is unique within a step",
                remedy="give every operator of a step an edge number of its own",
            )
        port = ChannelPort(self, step, edge, sources, targets)
        self.attach(step, edge, port)
        return port

    def attach(self, step: NumberedStep, edge: int, port: Receiver) -> None:
        """Give a port the messages of an edge, those that came already first."""
        step.ports[edge] = port
        if step.held:
            for message in step.held.pop(edge, ()):
                self.hold(-message.size)
                self._to_port(port, message)

    # -- sending ---------------------------------------------------------------------------------------------------

    def post(
        self, step: NumberedStep, peer: int, address: tuple[int, int, int, int, int, int], encoded: Encoded | None
    ) -> None:
        """Send one message; it waits here when the transport refuses it.

        :param address: kind, edge, source, target, sequence, n_records. :param encoded: None without a value.
        """
        kind, edge, source, target, sequence, n_records = address
        encoding, head, buffers, size = encoded or _NOTHING
        story = b""
        if peer not in step.told:
            step.told.add(peer)
            story = step.story
        group = step.group.number
        fields = (
            kind, encoding, self.attempt, group, step.number, step.digest, edge, source, target, sequence, n_records
        )  # fmt: skip
        frames = pack(fields, story, head, buffers, size)
        needed = kind != _CREDIT or not sequence  # credit that is given back; a request for it has no number
        queue = self._outbox.get(peer)
        if queue is None:
            try:
                send = self._route(peer).isend(peer, frames)
            except NetworkError as error:
                self.check()  # peers that heard of an abort have gone: the abort is the cause
                if not needed:
                    return  # the sender is through: its END is here, or on its way
                self.await_cause_of(error)
                raise
            if send is not None:
                if needed and not send.done:
                    step.sends.append(send)
                return
            queue = self._outbox[peer] = deque()
        queue.append((step, frames, needed))

    def _route(self, peer: int) -> Transport:
        try:
            return self._routes[peer]
        except KeyError:
            raise NetworkError(
                f"worker {self.worker_id} has no way to worker {peer}",
                why="there is no worker of that id in this attempt",
                remedy="use worker ids from 0 to n_workers - 1",
            ) from None

    def _flush(self) -> bool:
        moved = False
        for peer in list(self._outbox):
            queue = self._outbox[peer]
            transport = self._route(peer)
            while queue:
                step, frames, needed = queue[0]
                try:
                    send = transport.isend(peer, frames)
                except NetworkError:
                    if needed:
                        raise
                    queue.popleft()
                    continue
                if send is None:
                    break
                queue.popleft()
                moved = True
                if needed and not send.done:
                    step.sends.append(send)
            if not queue:
                del self._outbox[peer]
        return moved

    # -- receiving -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise when the attempt is over."""
        if self.link.aborted:
            self.link.raise_if_aborted()
        if self._error is not None:
            raise self._aborted(self._error)

    def _aborted(self, cause: Twister2Error) -> StepAbortedError:
        error = StepAbortedError(
            f"the attempt is over on worker {self.worker_id}: {cause.what}",
            why=cause.why,
            remedy=cause.remedy,
            where=cause.where,
            details={"cause": cause.to_dict()},
        )
        error.__cause__ = cause
        return error

    def progress(self) -> bool:
        self.check()
        self.check_thread()
        moved = False
        try:
            for transport in self._transports:
                if transport.progress():
                    moved = True
                for _ in range(_BURST):
                    received = transport.receive()
                    if received is None:
                        break
                    moved = True
                    self._dispatch(unpack(received.peer, received.frames))
            if self._outbox and self._flush():
                moved = True
            for call in tuple(self.open_calls) if self.open_calls else ():
                if call.advance():
                    moved = True
        except Twister2Error as error:
            if not isinstance(error, OF_THIS_WORKER):
                self.check()  # the abort is the cause
            self.await_cause_of(error)
            if type(error) is StepMismatchError and "lines" not in error.details:
                # a transport saw it while it went on with a native call, or after one of its own has returned
                told = self.explained(error, next(reversed(self._open.values()), None))
                self.give_up(told)
                raise told from error
            if len(self._open) == 1:  # the master is told before the error leaves the step
                placed(error, next(iter(self._open.values())))
            self.give_up(error)
            raise
        return moved

    def give_up(self, error: Twister2Error) -> None:
        """What the network itself found wrong is an error of the attempt, whoever catches it here."""
        if self._error is None and not isinstance(error, StepAbortedError):
            self._error = error
            if not self.link.aborted:
                self.link.fail(error)

    def _dispatch(self, message: Message) -> None:
        if message.attempt != self.attempt:
            if message.attempt < self.attempt:
                self.stale_messages += 1
                return
            raise other_attempt(message, self.attempt)
        key = (message.group, message.step)
        step = self._open.get(key)
        if step is not None:
            self._deliver(step, message)
        elif message.step >= self._numbers.get(message.group, 0):
            self.hold(message.size)
            self._future.setdefault(key, []).append(message)
        else:
            self.stale_messages += 1

    def _deliver(self, step: NumberedStep, message: Message) -> None:
        if message.fingerprint != step.digest:
            error = mismatch(self.worker_id, step, message)
            self.give_up(error)
            raise error
        if message.kind == _ABORT:
            raise self._aborted(
                NetworkError(
                    f"worker {message.peer} gave up step {step.number}", why="it said so", remedy="see its error"
                )
            )
        port = step.ports.get(message.edge)
        if port is not None:
            self._to_port(port, message)
        elif message.edge in step.closed_edges:
            self.stale_messages += 1
        else:
            self.hold(message.size)
            step.held.setdefault(message.edge, []).append(message)

    def _to_port(self, port: Receiver, message: Message) -> None:
        if message.kind == _CREDIT:
            port.grant(message)
        else:
            port.accept(message)

    def await_cause(self) -> None:
        """Wait for what the master says of something that it knows more of: it aborts within a beat or two.

        :raises Twister2Error: the cause of the abort.
        """
        until = time.monotonic() + 2 * self._heartbeat_s + 0.5
        while time.monotonic() < until and not self.link.aborted:
            self.link.poll(0.02)
        self.check()

    def await_cause_of(self, error: Twister2Error) -> None:
        """Where a transport says that a worker has left: the master knows whether it has returned, raised or died.

        :raises Twister2Error: that, if the master says it.
        """
        if isinstance(error, NetworkError) and error.details.pop("left", None) is not None:
            self.await_cause()

    def explained(self, error: StepMismatchError, step: NumberedStep | None) -> StepMismatchError:
        """A transport found that another member is in another call: the same with both lines.

        :param step: None: this worker's calls have returned.
        """
        return explained(self, error, step)

    def ways(self, step: Step | None) -> str:
        group = self.world if step is None else step.group
        told = []
        for peer in [one for one in group.members if one != self.worker_id][:SHOWN]:
            transport = self._routes.get(peer)
            if transport is None:
                continue
            words = [transport.state(peer) or "nothing known"]
            if peer in self._outbox:
                words.append(f"{len(self._outbox[peer])} refused by the transport")
            name = self.transport_name(peer)
            told.append(f"worker {peer}{' over ' if name else ''}{name}: {', '.join(words)}")
        early = sum(map(len, self._future.values())) + sum(
            len(messages) for one in self._open.values() for messages in one.held.values()
        )
        if early:
            told.append(f"{early} messages came for what this worker has not begun")
        if self.stale_messages:
            told.append(f"{self.stale_messages} messages came for what was over here")
        return "; ".join(told)

    # -- transports ------------------------------------------------------------------------------------------------

    def transport_of(self, peer: int) -> Transport:
        """The transport that leads to a worker (for native collectives and ``env.mpi``)."""
        return self._route(peer)

    def _make_collectives(self, group: Group) -> GroupCollectives:
        from twister2.worker.network.collectives import GroupCollectives

        return GroupCollectives(self, group)

    def empty_shared(self, shape: int | Sequence[int], dtype: Any = "float64") -> Any:
        return self.shared.empty(self._transports, shape, dtype)

    @property
    def transports(self) -> tuple[Transport, ...]:
        """The transports in use, in the job's order of preference."""
        return self._transports

    def check_finished(self) -> None:
        """The program has returned.

        :raises OperatorError: it leaves calls or operators open, in which others may wait for this worker.
        """
        for call in self.open_calls:
            if not call.lasting:
                raise left_open(call.step)
        lasting = {call.step for call in self.open_calls}
        for step in self._open.values():
            if step not in lasting and step.group.size > 1 and not step.is_through:
                raise left_open(step)

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """Close all transports; the first error is raised after all were closed. Idempotent."""
        transports, self._transports = self._transports, ()
        first: Exception | None = None
        self.open_calls.clear()
        for collectives in self._collectives.values():
            collectives.close()
        self._collectives.clear()
        self._routes.clear()
        self.under_way.close()
        for transport in transports:
            try:
                transport.close(aborted=aborted, deadline_s=deadline_s)
            except StepMismatchError as error:  # of a call that has returned: who only gives does not wait for others
                try:
                    first = first or self.explained(error, None)
                except StepAbortedError as aborted_by:
                    first = aborted_by
            except Exception as error:
                first = first or error
        if first is not None:
            raise first
