"""The collectives of one group: one numbered step per call, over the road that all members choose alike."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from twister2.spec.collectives import OPERATIONS, Call, Collectives, ObjectRequest, Request
from twister2.spec.errors import NetworkError, OperatorError, Twister2Error
from twister2.spec.patterns import Run
from twister2.worker.callers import caller_line
from twister2.worker.network.collectives import choice, objects
from twister2.worker.network.collectives.checking import HOSTS, MESSAGES, NATIVE, Plan, make_plan
from twister2.worker.network.collectives.exchange import EDGE, Debts, Exchange
from twister2.worker.network.collectives.leaders import OPERATIONS as HOST_OPERATIONS
from twister2.worker.network.collectives.leaders import HostsRoad, islands_of
from twister2.worker.network.collectives.moving import allgather_direct, barrier_dissemination
from twister2.worker.network.collectives.native import NativeRoad, common_transport, waits_natively
from twister2.worker.network.collectives.requests import OpenCall, Running
from twister2.worker.network.steps import as_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.comm import Transport
    from twister2.spec.network import Group
    from twister2.spec.patterns import Steps
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep

_IN_PLACE = frozenset({"allreduce", "scan", "exscan", "reduce"})
"""Operations where the same array twice means the same as none to send."""
_HUGE = 1 << 28
"""Bytes in calls of any size."""
FORMS = 1000
"""Calls whose last form is remembered."""


class GroupCollectives(Collectives):
    """See :class:`twister2.spec.collectives.Collectives`."""

    def __init__(self, network: WorkerNetwork, group: Group) -> None:
        self.group = group
        self.rank = group.rank_of(network.worker_id)
        self.size = group.size
        self._network = network
        self._recent: dict[int, Plan] = {}
        self._debts = Debts()
        self._native: NativeRoad | None = None
        self._inside: NativeRoad | None = None
        """Among the members on this host."""
        self._hosts: HostsRoad | None = None
        self._formed = False

    def run(self, call: Call, send: Any = None, receive: Any = None) -> None:
        if send is receive and send is not None and call.operation in _IN_PLACE:
            send = None
        plan = self._recent.get(id(call))
        if plan is None or not plan.fits(send, receive):
            plan = self._plan(call, send, receive)
        network = self._network
        if plan.native is not None:
            me, before = get_ident(), network.waiter
            if before and before != me:
                raise network.entered_twice()
            network.waiter = me
            try:
                plan.native.run(plan, send, receive, plan.known_at(caller_line()))
            finally:
                network.waiter = before
            return
        with network.numbered(self.group, plan.known_at(caller_line())) as step:
            running = self._begin(plan, send, receive, step)
            polls = plan.polled
            network.polled += polls
            try:
                network.wait_until(running.advance, running.what)
            finally:
                network.polled -= polls

    def start(self, call: Call, send: Any = None, receive: Any = None) -> Request:
        if send is receive and send is not None and call.operation in _IN_PLACE:
            send = None
        plan = self._recent.get(id(call))
        if plan is None or not plan.fits(send, receive):
            plan = self._plan(call, send, receive)
        network = self._network
        step = network.numbered(self.group, plan.known_at(caller_line()))
        try:
            if plan.native is not None:
                advance = plan.native.start(plan, send, receive, step)
                what = waits_natively(step)
            else:
                running = self._begin(plan, send, receive, step)
                advance, what = running.advance, running.what
        except BaseException as error:
            network.fail_step(step, as_failure(error, step))
            raise
        return OpenCall(network, step, advance, what, (self, send, receive), polled=plan.polled)

    def run_objects(self, call: Call, value: Any = None) -> Any:
        steps, shape = self._object_steps(call, value)
        network, members = self._network, self.group.members
        with network.step(call.operation, shape, group=self.group) as step:
            run = Run(steps, network.open_port(step, EDGE, members, members), self.rank)
            if not run.done:
                network.wait_until(run.advance, lambda: objects.waits(step, run))
            return objects.fresh(call, self.rank, run.result, value)

    def start_objects(self, call: Call, value: Any = None) -> ObjectRequest:
        steps, shape = self._object_steps(call, value)
        return self._start(call.operation, shape, steps, lambda result: objects.fresh(call, self.rank, result, value))

    def start_pattern(self, kind: str, shape: str, steps: Steps) -> ObjectRequest:
        return self._start(kind, shape, steps, None)

    def _object_steps(self, call: Call, value: Any) -> tuple[Steps, str]:
        try:
            given = self._network.shared.apart(value)
            return objects.steps_of(call, self.rank, self.size, given), objects.shape_of(call, given)
        except Twister2Error as error:
            raise self._refused(error) from error.__cause__

    def _refused(self, error: Twister2Error) -> Twister2Error:
        """A call that cannot be made ends the attempt; say which one it was."""
        if not error.where:
            error.where = f"{caller_line()}, worker {self._network.worker_id}"
        self._network.give_up(error)
        return error

    def _start(self, kind: str, shape: str, steps: Steps, fresh: Callable[[Any], Any] | None) -> ObjectRequest:
        network, members = self._network, self.group.members
        step = network.step(kind, shape, group=self.group)
        try:
            run = Run(steps, network.open_port(step, EDGE, members, members), self.rank)
        except BaseException as error:
            network.fail_step(step, as_failure(error, step))
            raise
        return objects.ObjectCall(network, step, run, fresh)

    def algorithms(self, operation: str) -> Sequence[str]:
        if operation not in OPERATIONS:
            raise OperatorError(
                f"there is no collective operation '{operation}'",
                why=f"the operations are {', '.join(OPERATIONS)}",
                remedy="use one of them",
            )
        self._form(operation, "")
        names = [*choice.ALGORITHMS[operation]]
        large = 0 if operation == "barrier" else _HUGE
        if self._native is not None and self._native.takes(Call(operation), np.dtype("f8"), large):
            names.insert(0, NATIVE)
        elif self._hosts is not None and operation in HOST_OPERATIONS:
            names.insert(0, HOSTS)
        return tuple(names)

    def _plan(self, call: Call, send: Any, receive: Any) -> Plan:
        try:
            plan = make_plan(call, send, receive, self.rank, self.size)
            if not self._formed:
                self._form(call.operation, plan.shape)
            self._choose_road(plan)
        except Twister2Error as error:
            raise self._refused(error) from error.__cause__
        if len(self._recent) >= FORMS:
            self._recent.clear()
        self._recent[id(call)] = plan
        return plan

    def _choose_road(self, plan: Plan) -> None:
        call, native, hosts = plan.call, self._native, self._hosts
        plan.road, plan.native = MESSAGES, None
        if native is not None and not plan.whole and native.takes(call, plan.dtype, plan.nbytes):
            plan.road, plan.native = NATIVE, native
        elif hosts is not None and hosts.takes(plan):
            plan.road = HOSTS
        if call.algorithm and plan.road != call.algorithm:
            if call.algorithm in (NATIVE, HOSTS):
                raise self._no_road(plan)
            plan.road, plan.native = MESSAGES, None

    def _no_road(self, plan: Plan) -> OperatorError:
        """A call that names a road which it cannot go."""
        call, native = plan.call, self._native
        why = "no transport that joins all members of this group has collectives of its own"
        if call.algorithm == HOSTS:
            why = "the members are not on several hosts with native collectives inside, or it has counts or a function"
        elif native is not None:
            limits = f", which does: {native.limits}" if native.limits else ""
            size = "counts" if plan.nbytes < 0 else f"parts of {plan.nbytes} bytes"
            why = f"it is not for the transport of this group{limits}; this call has {size} ({plan.shape})"
        return OperatorError(
            f"{call.operation} cannot go the road '{call.algorithm}' here",
            why=why,
            remedy="leave the algorithm to the system, which takes that road where it can",
        )

    def _form(self, operation: str, shape: str) -> None:
        """Find out, at the first use of the group and together with all members, what its transports can do."""
        if self._formed:
            return
        network, members = self._network, self.group.members
        transport = common_transport(network, members)
        islands = islands_of(members, network.hosts)
        several = 1 < len(islands) < self.size and self._network.common_route(members) is None
        if transport is not None or several:
            with network.step(operation, f"{shape} (first use)".lstrip(), group=self.group, line=caller_line()) as step:
                exchange = self._exchange(step)
                running = Running(exchange, barrier_dissemination(exchange), step)
                network.wait_until(running.advance, running.what)
                if transport is not None:
                    self._native = self._made(transport, members)
                else:
                    self._hosts = self._join(islands, exchange, step)
        self._formed = True

    def _join(self, islands: list[list[int]], exchange: Exchange, step: NumberedStep) -> HostsRoad | None:
        """The road by hosts, when the members of any host have native collectives."""
        mine = next(island for island in islands if self.rank in island)
        members = [self.group.members[rank] for rank in mine]
        transport = common_transport(self._network, members)
        inside = self._made(transport, members) if transport is not None else None
        found = np.empty(self.size, np.uint8)
        telling = allgather_direct(exchange, np.array([inside is not None], np.uint8), found, None)
        running = Running(exchange, telling, step)
        self._network.wait_until(running.advance, running.what)
        self._inside = inside
        return HostsRoad(islands, self.rank, inside) if found.any() else None

    def _made(self, transport: Transport, members: Sequence[int]) -> NativeRoad | None:
        try:
            native = transport.native(members)
        except NetworkError:
            self._network.check()  # the abort is the cause
            raise
        return None if native is None else NativeRoad(self._network, self.group, native, transport)

    def closer(self) -> Callable[[], None]:
        """Does what :meth:`close` does, without keeping this object alive."""
        roads = [native for native in (self._native, self._inside) if native is not None]

        def close() -> None:
            for road in roads:
                road.close()

        return close

    def close(self) -> None:
        """The group is not used any more."""
        self.closer()()
        self._native = self._inside = None

    def _exchange(self, step: NumberedStep) -> Exchange:
        exchange = Exchange(self._network, step, self.rank, self._debts)
        self._network.attach(step, EDGE, exchange)
        return exchange

    def _begin(self, plan: Plan, send: Any, receive: Any, step: NumberedStep) -> Running:
        exchange = self._exchange(step)
        send, receive = None if send is receive else _flat(send), _flat(receive)
        if plan.road == HOSTS and self._hosts is not None:
            return Running(exchange, self._hosts.begin(exchange, plan, send, receive, step), step)
        return Running(exchange, choice.by_messages(exchange, plan, send, receive), step)


def _flat(array: Any) -> Any:
    return array if array is None or array.ndim == 1 else array.reshape(-1)
