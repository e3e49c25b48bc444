"""The scheduler of one job: a process on the submitting host, which Mesos talks to and copies fetch tickets from.

It is started by ``submit`` and lives as long as the job, beside whoever asks for something: orders come as files, what
it knows lies in ``status.json``. Should it die, the next who needs it starts another, which takes the framework over.
"""

from __future__ import annotations

import os
import queue
import random
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2_rm_mesos import agents, slots, states, tasks
from twister2_rm_mesos import offers as fitting
from twister2_rm_mesos.api import Api, RefusedError, Stream
from twister2_rm_mesos.config import MesosConfig, constraint
from twister2_rm_mesos.desk import Desk
from twister2_rm_mesos.folder import Folder
from twister2_rm_mesos.slots import KEPT, Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

SILENCE_S = 75.0
"""Five heartbeats of Mesos: a stream that says nothing for so long is dead."""
CALL_S = 15.0
KILL_EVERY_S = 5.0
GONE_S = 8.0
"""How long executors of a framework that was torn down may take to end."""
RECONCILE_S = 30.0
CLOSED = "_CLOSED"


class Scheduler:
    """See the module."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._plan = tasks.Plan.from_dict(folder.read(folder.plan))
        config = dict(self._plan.config)
        for name in ("masters", "constraints"):
            config[name] = tuple(config[name])
        self._config = MesosConfig(**config)
        self._constraints = [constraint(text) for text in self._config.constraints]
        self._api = Api(self._config, CALL_S)
        kept = folder.read(folder.kept) or {}
        self._framework = str(kept.get("framework", ""))
        self._first = str(kept.get("first", ""))
        self._desk = Desk(self._config, kept.get("desk") or {})
        self._slots = [Slot(dict(each)) for each in self._plan.slots]
        if kept:  # the job may have changed its size since
            self._slots = [Slot(**{name: old[name] for name in KEPT}) for old in kept["slots"]]
        self._history: list[tuple[str, int, str]] = [tuple(each) for each in kept.get("history", ())]
        self._leaving: list[Slot] = []
        self._ticket_seen = 0
        self._events: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stream: Stream | None = None
        self._generation = 0
        self._retry_at, self._pause = 0.0, 0.5
        self._offers: dict[str, tuple[float, dict[str, Any]]] = {}
        self._problem = ""
        self._short = ""
        self._suppressed = False
        self._ending: float | None = None
        self._removed = False
        self._idle_since: float | None = None
        self._reconcile_at = 0.0
        self._told: Any = None
        self._kept: Any = None

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the job has ended and nobody wants another attempt, or it was killed."""
        try:
            while not self._over():
                if not self._folder.plan.exists():  # somebody has removed the job
                    self._removed_job()
                    return
                try:
                    self._turn()
                except ResourceError:
                    if self._folder.plan.exists():  # else it was removed in the middle of the turn
                        raise
                if self._removed and self._ending is None:
                    break
            self._finish()
        finally:
            self._desk.close()
            if self._stream is not None:
                self._stream.close()

    def _turn(self) -> None:
        self._take_ticket()
        for path, order in self._folder.waiting_orders():
            self._obey(order)
            self._keep()  # before it counts as taken: who waits for that looks at the status then
            path.unlink(missing_ok=True)
        self._connect()
        self._launch()
        self._kill_late()
        self._reconcile()
        self._keep()
        watched = [self._wake[0], self._desk.fileno()]
        if not self._desk.serve():
            select.select(watched, [], [], self._config.poll_s / 2)
        with suppress(BlockingIOError):
            os.read(self._wake[0], 4096)
        if self._desk.serve():
            self._keep()
        while not self._events.empty():
            generation, event = self._events.get()
            if generation == self._generation:
                self._hear(event)

    def _over(self) -> bool:
        running = [slot for slot in self._all() if slot.task and not slot.ended]
        if self._ending is not None:
            return not running or self._removed or (self._stream is not None and time.monotonic() > self._ending)
        if running or any(slot.wanted for slot in self._slots):
            self._idle_since = None
            return False
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        return now - self._idle_since > self._config.linger_s

    def _all(self) -> list[Slot]:
        """The slots there are, and those that were given up and have not ended."""
        self._leaving = [slot for slot in self._leaving if slot.task and not slot.ended]
        return [*self._slots, *self._leaving]

    def _removed_job(self) -> None:
        """Nobody can ask for anything any more: end what there is, and write nothing."""
        if self._framework:
            with suppress(ResourceError, RefusedError):
                self._api.teardown(self._framework)

    def _finish(self) -> None:
        """Leave Mesos: nothing of the framework is left there."""
        begun = time.monotonic()
        self._keep()  # whoever asks for another attempt must know whether there can be one
        while self._framework and not self._removed:
            if self._call("TEARDOWN"):
                break  # a scheduler may end what is its own; to do it as an operator takes more rights
            try:
                self._api.teardown(self._framework)
                break
            except (RefusedError, SubmissionRefusedError) as error:
                self._problem, patience = str(error), CALL_S
            except ResourceError as error:
                # Mesos is away. Whoever waits is told so, and need not: this process goes on until Mesos is back, or
                # has ended a framework without a scheduler by itself.
                self._problem, patience = f"{error.what}: {error.why}", self._config.failover_s
            if time.monotonic() - begun > patience:
                break
            if not self._folder.plan.exists():
                return
            self._keep()
            time.sleep(0.5)
        if self._framework and self._history:
            agents.wait_gone(self._api, self._framework, GONE_S)
        if self._removed and self._ending is None:
            for slot in self._slots:
                if slot.task and not slot.ended:
                    slot.ended = "ended: the framework was torn down in Mesos"
                slot.wanted = False
        self._framework = ""
        self._keep(over=True)
        if self._removed:
            self._folder.forget_orders()

    # -- files ---------------------------------------------------------------------------------------------------------

    def _take_ticket(self) -> None:
        with suppress(OSError):
            seen = self._folder.ticket.stat().st_mtime_ns
            if seen != self._ticket_seen:
                self._ticket_seen = seen
                self._desk.publish(self._folder.ticket.read_bytes())

    def _obey(self, order: Mapping[str, Any]) -> None:
        if "start" in order and self._ending is None:
            for number in order["start"]:
                if number < len(self._slots) and not self._slots[number].wanted:
                    self._start_again(number)
        if "stop" in order:
            for number in order["stop"]:
                if number < len(self._slots):
                    self._stop(self._slots[number], float(order["grace_s"]))
        if "resize" in order and self._ending is None:
            self._resize(int(order["resize"]), order.get("wants"))
        if "end" in order:
            self._ending = time.monotonic() + float(order["end"]) + slots.STUCK_S
            for slot in self._all():
                self._stop(slot, float(order["end"]))

    def _start_again(self, number: int) -> None:
        """Have another task launched; the old one, if it could not be ended, is given up."""
        old = self._slots[number]
        self._slots[number] = Slot(dict(old.wants), number=old.number)
        if old.task and not old.ended:
            self._stop(old, 0.0)
            self._leaving.append(old)

    def _resize(self, n_workers: int, wants: dict[str, float] | None) -> None:
        while len(self._slots) < n_workers:
            self._slots.append(Slot(dict(wants or self._slots[-1].wants)))
        for slot in self._slots[n_workers:]:
            self._stop(slot, tasks.GRACE_S)
        self._leaving += self._slots[n_workers:]
        del self._slots[n_workers:]

    def _stop(self, slot: Slot, grace_s: float) -> None:
        slot.wanted = False
        if slot.task and not slot.ended:
            at = time.monotonic() + grace_s
            slot.stop_at = at if slot.stop_at is None else min(at, slot.stop_at)
            if not self._desk.stop(slot.task, grace_s):
                slot.stop_at = time.monotonic() - 1  # it has not begun yet

    def _keep(self, *, over: bool = False) -> None:
        """Write down what others ask for, and what a successor needs, when it has changed."""
        told = self._status(over)
        if told != self._told:
            self._folder.put(self._folder.status, told)
            self._told = told
        kept = {
            "framework": self._framework,
            "first": self._first,
            "desk": self._desk.to_dict(),
            "slots": [{name: getattr(slot, name) for name in KEPT} for slot in self._slots],
            "history": self._history,
        }
        if kept != self._kept:
            self._folder.put(self._folder.kept, kept)
            self._kept = kept

    def _status(self, over: bool) -> dict[str, Any]:
        told = slots.told(self._slots, self._problem or self._short or "no offer of Mesos has come yet")
        began = any(slot.number > 1 for slot in self._slots) or len(self._slots) > len(self._plan.slots)
        return told | {
            "framework": self._framework,
            "began": began,
            "problem": self._problem,
            "tasks": list(self._history),
            "leaving": sum(not slot.stuck for slot in self._all()[len(self._slots) :]),
            "removed": self._removed,
            "over": over,
        }

    # -- the subscription ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._stream is not None or self._removed or time.monotonic() < self._retry_at:
            return
        info = tasks.framework(self._plan, self._config, self._framework)
        try:
            self._stream = self._api.subscribe(info, SILENCE_S)
        except ResourceError as error:
            self._lost(f"{error.what}: {error.why}")
            return
        self._generation += 1
        threading.Thread(target=self._listen, args=(self._stream, self._generation), daemon=True).start()

    def _lost(self, why: str) -> None:
        """No subscription: try again, later and later. Tasks go on meanwhile."""
        self._stream, self._problem = None, why
        self._offers.clear()
        self._retry_at = time.monotonic() + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, 10.0)

    def _listen(self, stream: Stream, generation: int) -> None:
        for event in stream:
            self._events.put((generation, event))
            self._wake_up()
        self._events.put((generation, {"type": CLOSED}))
        self._wake_up()

    def _wake_up(self) -> None:
        with suppress(OSError):
            os.write(self._wake[1], b"x")

    def _call(self, kind: str, **parts: Any) -> bool:
        """Say something to Mesos; False when it was not taken."""
        if self._stream is None:
            return False
        try:
            self._api.call(self._stream.id, self._framework, kind, **parts)
        except RefusedError as error:
            self._problem = str(error)
            if error.status in (400, 403):
                self._stream.close()
            return False
        except ResourceError as error:
            self._problem = f"{error.what}: {error.why}"
            return False
        return True

    def _hear(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind == "SUBSCRIBED":
            self._framework = event["subscribed"]["framework_id"]["value"]
            self._first = self._first or self._framework
            self._problem, self._pause = "", 0.5
            self._suppressed = False
            self._reconcile_at = 0.0
            self._keep()
            if self._history:
                self._call("RECONCILE", reconcile={"tasks": []})  # all: those that nobody knows any more are killed
        elif kind == "OFFERS":
            for offer in event["offers"]["offers"]:
                self._offers[offer["id"]["value"]] = (time.monotonic(), offer)
        elif kind == "RESCIND":
            self._offers.pop(event["rescind"]["offer_id"]["value"], None)
        elif kind == "UPDATE":
            self._update(event["update"]["status"])
        elif kind == "ERROR":
            message = event["error"]["message"]
            self._problem = f"Mesos says: {message}"
            if "removed" in message.lower() or "failed over" in message.lower():
                self._removed = True
        elif kind == CLOSED and self._stream is not None:
            self._stream.close()
            self._lost(self._problem or "the connection to Mesos is broken")

    def _reconcile(self) -> None:
        """Ask for the state of every task that should live: after each subscription, and now and then."""
        now = time.monotonic()
        if self._stream is None or not self._framework or now < self._reconcile_at:
            return
        self._reconcile_at = now + RECONCILE_S
        known = [
            {"task_id": {"value": slot.task}, **({"agent_id": {"value": slot.agent}} if slot.agent else {})}
            for slot in self._all()
            if slot.task and not slot.ended
        ]
        if known:
            self._call("RECONCILE", reconcile={"tasks": known})

    def _update(self, status: Mapping[str, Any]) -> None:
        task_id = status["task_id"]["value"]
        for slot in self._all():
            if slot.task == task_id and not slot.ended:
                self._task_is(slot, status)
                break
        else:
            if status["state"] not in states.ENDED:  # given up: it came back too late
                self._call("KILL", kill={"task_id": status["task_id"], "agent_id": status.get("agent_id")})
        if "uuid" in status:
            self._call(
                "ACKNOWLEDGE",
                acknowledge={
                    "agent_id": status["agent_id"],
                    "task_id": status["task_id"],
                    "uuid": status["uuid"],
                },
            )

    def _task_is(self, slot: Slot, status: Mapping[str, Any]) -> None:
        before, slot.state = slot.state, status["state"]
        if slot.state not in states.ENDED:
            return
        self._desk.drop(slot.task)
        if before == "TASK_STAGING" and slot.stop_at is None and states.never_was(status):
            slot.task, slot.wanted = "", True
        else:
            slot.ended, slot.stop_at = states.ending(status), None

    # -- offers --------------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        if self._stream is None or not self._framework:
            return
        wanted = {number: slot.wants for number, slot in enumerate(self._slots) if slot.wanted}
        if not wanted or self._folder.killed.exists():
            self._decline(0.0, 3600.0)
            if not self._suppressed:
                self._suppressed = self._call("SUPPRESS", suppress={"roles": [self._config.role]})
            return
        if self._suppressed:
            self._suppressed = not self._call("REVIVE", revive={"roles": [self._config.role]})
        offers = [offer for _, offer in self._offers.values()]
        placed = fitting.place(wanted, offers, self._constraints)
        if len(placed) == len(wanted):
            self._accept(placed)
            self._short = ""
            return
        if offers:
            missing = next(number for number in wanted if number not in placed)
            self._short = fitting.shortage(wanted[missing], offers, self._constraints)
        # Those that hold too little are given back after a while, so that two jobs do not wait for each other for ever.
        self._decline(self._config.hold_s * random.uniform(0.7, 1.0), self._config.refuse_s)

    def _accept(self, placed: Mapping[int, str]) -> None:
        by_offer: dict[str, list[int]] = {}
        for number, offer_id in placed.items():
            by_offer.setdefault(offer_id, []).append(number)
        for offer_id, numbers in by_offer.items():
            _, offer = self._offers.pop(offer_id)
            left = [dict(each) for each in offer["resources"]]
            infos = []
            for number in numbers:
                slot = self._slots[number]
                slot.number += 1
                slot.task = f"{self._plan.job_id}.{number}.{slot.number}.{os.getpid()}"
                slot.agent, slot.state = offer["agent_id"]["value"], "TASK_STAGING"
                slot.wanted, slot.ended, slot.stop_at, slot.killed_at = False, "", None, 0.0
                desk = {
                    tasks.DESK: self._desk.address,
                    tasks.DESK_KEY: self._desk.public,
                    tasks.TASK: slot.task,
                    tasks.CLAIM: self._desk.reserve(slot.task),
                }
                place = {"agent_id": offer["agent_id"], "resources": fitting.take(left, slot.wants)}
                infos.append(tasks.task(self._plan, self._config, number, slot.task, desk, place))
            self._history += [(self._slots[number].task, number, offer["agent_id"]["value"]) for number in numbers]
            self._keep()  # before they exist: a successor must know them
            operations = [{"type": "LAUNCH", "launch": {"task_infos": infos}}]
            accept = {"offer_ids": [offer["id"]], "operations": operations, "filters": {"refuse_seconds": 0.0}}
            if not self._call("ACCEPT", accept=accept):
                for number in numbers:
                    self._slots[number].wanted, self._slots[number].task = True, ""

    def _decline(self, older_than_s: float, refuse_s: float) -> None:
        now = time.monotonic()
        old = [offer for came, offer in self._offers.values() if now - came >= older_than_s]
        if old:
            for offer in old:
                del self._offers[offer["id"]["value"]]
            ids = [offer["id"] for offer in old]
            self._call("DECLINE", decline={"offer_ids": ids, "filters": {"refuse_seconds": refuse_s}})

    def _kill_late(self) -> None:
        """Have Mesos end what was told to end and has not, somewhat after its grace."""
        now = time.monotonic()
        for slot in self._all():
            if slot.stop_at is not None and now > slot.stop_at + 1.0 and now - slot.killed_at > KILL_EVERY_S:
                self._kill(slot)

    def _kill(self, slot: Slot) -> None:
        if slot.task and not slot.ended:
            slot.killed_at = time.monotonic()
            self._call("KILL", kill={"task_id": {"value": slot.task}, "agent_id": {"value": slot.agent}})


def main(root: str) -> None:
    """Run the scheduler of the job in this folder, unless there is one."""
    folder = Folder(Path(root))
    if folder.hold() is None:
        return
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    status = folder.read(folder.status) or {}
    if status.get("over") and status.get("removed"):
        folder.forget_orders()  # what somebody has ended in Mesos does not begin again
    elif folder.plan.exists() and not (status.get("over") and not any(folder.orders.glob("[0-9]*"))):
        Scheduler(folder).run()
    # The lock is let go by the end of this process, not before: who waits for it wants nothing to be left.


if __name__ == "__main__":
    main(sys.argv[1])
