"""The node of the hostile cluster: one process per job that starts pods, late and twice, and ends them.

``python -m twister2_testkit.hostile.node CLUSTER JOB SLOTS``
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from twister2_testkit.hostile.cluster import CLUSTER, MARKER, JobObjects, write_whole
from twister2_testkit.hostile.isolate import adopt_orphans, become_host, isolate, join_network, set_death_signal
from twister2_testkit.hostile.plugin import FIRST_INDEX, INDEX
from twister2_testkit.processes import process_ids

TICK_S = 0.01
MASTER = -1
"""Slot of the master's pod."""

AFTER_MASTER_S = 2.0
"""How long the other pods may go on when the master has ended."""


class Pod:
    """A pod to be started, that runs, or that has ended."""

    def __init__(self, slot: int, number: int, starts: float, extra: bool) -> None:
        self.slot, self.number, self.starts, self.extra = slot, number, starts, extra
        self.pid = 0
        self.code: int | None = None
        self.kill_at = 0.0
        self.secret_due = 0.0
        self.secret = b""
        self.leaves = self.lost = False
        """Taken to be gone with its node, whatever it does."""

    @property
    def runs(self) -> bool:
        return self.pid != 0 and self.code is None


class Node:
    """Runs the pods of one job until they have ended or the job is killed."""

    def __init__(self, objects: JobObjects, slots: list[int], first: bool) -> None:
        self.objects = objects
        self.spec: dict[str, Any] = objects.read("spec.json")
        self.random = random.Random(f"{self.spec['seed']} {slots}")
        self.status: dict[str, Any] = objects.read("status.json") or {"slots": {}, "answered": 0}
        self.pods: list[Pod] = []
        self.number = max((int(name) for name in os.listdir(objects.pods)), default=0)
        self.killed = False
        self.master_ended = 0.0
        self.status.setdefault("restarts", self.spec["master_restarts"])
        self.shown = ""
        self.lost_one = False
        now = time.monotonic()
        if first and self.spec["master"]:
            self.add(MASTER, now + self.late())
        twice = set(self.random.sample(slots, min(len(slots), self.spec["twice"]))) if first else set()
        for slot in slots:
            self.add(slot, now + self.late())
            if slot in twice:
                self.add(slot, now + self.late(), extra=True)

    def late(self) -> float:
        return float(self.spec["earliest_s"] + self.random.uniform(0.0, self.spec["late_s"]))

    def add(self, slot: int, starts: float, extra: bool = False) -> None:
        self.number += 1
        self.pods.append(Pod(slot, self.number, starts, extra))

    def run(self) -> None:
        """Until all pods have ended and no request asks for more."""
        while True:
            while any(pod.runs or (pod.pid == 0 and not self.killed and not pod.leaves) for pod in self.pods):
                self.turn(time.monotonic())
                time.sleep(TICK_S)
            end_children()
            self.answer_requests()
            self.show()
            if self.killed or all(pod.pid or pod.leaves for pod in self.pods):
                break
        shutil.rmtree(self.objects.pods, ignore_errors=True)
        self.objects.pods.mkdir(mode=0o700, exist_ok=True)

    def turn(self, now: float) -> None:
        """Start, look after and end pods."""
        self.answer_requests()
        for pod in self.pods:
            if pod.pid == 0 and pod.starts <= now and not self.killed:
                self.start(pod)
            if pod.runs:
                self.bring_secret(pod, now)
                if pod.kill_at and now >= pod.kill_at:
                    signal_group(pod.pid, signal.SIGKILL)
        self.reap()
        self.show()
        masters = [pod for pod in self.pods if pod.slot == MASTER]
        if masters and masters[-1].code and self.status["restarts"] and not self.killed:
            self.status["restarts"] -= 1
            self.add(MASTER, now + self.late())
            if self.random.random() < 0.5:  # in the pod that is there
                self.pods[-1].number = masters[-1].number
        elif masters and masters[-1].code is not None and not self.killed:
            self.master_ended = self.master_ended or now
            if now - self.master_ended > AFTER_MASTER_S:
                self.kill(0.0)

    # -- requests ------------------------------------------------------------------------------------------------------

    def answer_requests(self) -> None:
        waiting = [int(name) for name in os.listdir(self.objects.requests) if name.isdecimal()]
        for number in sorted(number for number in waiting if number > self.status["answered"]):
            request = self.objects.read(f"requests/{number}")
            if request["do"] == "kill":
                self.status["killed"] = True
                self.kill(request["grace_s"])
            elif request["do"] == "stop":
                for pod in self.pods:
                    if pod.slot not in request["slots"] or pod.lost:
                        continue
                    if pod.slot == self.spec["out_of_reach"] and pod.runs and not self.lost_one:
                        self.lost_one = pod.lost = True
                    else:
                        self.end(pod, request["grace_s"])
            elif request["do"] == "resize":
                self.resize(request["n"])
            else:
                for slot in request["slots"]:
                    self.add(slot, time.monotonic() + self.late())
            self.status["answered"] = number

    def resize(self, n: int) -> None:
        """More pods, or fewer."""
        have = 1 + max(int(slot) for slot in self.status["slots"])
        for slot in range(have, n):
            self.status["grown"] = [*self.status.get("grown", []), slot]
            self.add(slot, time.monotonic() + self.late())
        for pod in self.pods:
            if pod.slot >= n:
                pod.extra = pod.leaves = True
                pod.starts = float("inf")
                self.status["slots"].pop(str(pod.slot), None)
                self.end(pod, 0.0)

    def kill(self, grace_s: float) -> None:
        self.killed = True
        for pod in self.pods:
            self.end(pod, grace_s)

    def end(self, pod: Pod, grace_s: float) -> None:
        if pod.runs and not pod.kill_at:
            pod.kill_at = time.monotonic() + grace_s
            signal_group(pod.pid, signal.SIGTERM)
            signal_group(pod.pid, signal.SIGCONT)

    # -- pods ----------------------------------------------------------------------------------------------------------

    def start(self, pod: Pod) -> None:
        own = self.objects.pods / str(pod.number)
        own.mkdir(mode=0o700, exist_ok=True)
        (own / "tmp").mkdir(mode=0o700, exist_ok=True)
        name = "master" if pod.slot == MASTER else "ticket"
        write_whole(own / name, (self.objects.path / name).read_bytes())
        pod.secret = (self.objects.path / "ticket").read_bytes()
        pod.pid = os.fork()
        if pod.pid == 0:
            self.become(pod, own)

    def become(self, pod: Pod, own: Path) -> NoReturn:
        try:
            os.setsid()
            set_death_signal(signal.SIGTERM)
            log = self.objects.logs / ("master.log" if pod.slot == MASTER else f"slot-{pod.slot}.log")
            number = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(number, 1)
            os.dup2(number, 2)
            networks = self.spec["networks"]
            host = networks[pod.slot % len(networks)] if networks and pod.slot != MASTER else ""
            if host:
                join_network(host)
            hidden = (Path(self.spec["hidden"]), Path("/dev/shm"))
            seen = self.objects.home if isolate(own, self.objects.home, hidden) else own
            if host and seen == self.objects.home:
                become_host(host, self.objects.path / "hosts" / host, seen / "tmp")
            environment = {
                **self.spec["environment"],
                "HOME": str(seen),
                "TMPDIR": str(seen / "tmp"),
                CLUSTER: str(self.objects.cluster),
                MARKER: self.objects.job_id,
            }
            if pod.slot == MASTER:
                environment["TWISTER2_MASTER_TICKET"] = str(seen / "master")
            else:
                environment["TWISTER2_TICKET"] = str(seen / "ticket")
                environment[INDEX] = str(pod.slot + FIRST_INDEX)
            os.chdir(seen)
            command = self.spec["master_command" if pod.slot == MASTER else "worker_command"]
            os.execvpe(command[0], command, environment)
        except BaseException as error:
            os.write(2, f"cannot start {self.spec['worker_command'][0]}: {error}\n".encode())
        os._exit(127)

    def bring_secret(self, pod: Pod, now: float) -> None:
        """A secret is not everywhere at once, and never half."""
        if pod.slot == MASTER:
            return
        with contextlib.suppress(FileNotFoundError):  # it was removed at the end of the job: pods keep what they have
            current = (self.objects.path / "ticket").read_bytes()
            if not pod.secret_due:
                if current != pod.secret:
                    pod.secret_due = now + self.random.uniform(0.0, self.spec["secret_late_s"])
            elif now >= pod.secret_due:
                pod.secret_due, pod.secret = 0.0, current
                write_whole(self.objects.pods / str(pod.number) / "ticket", pod.secret)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for pod in self.pods:
                if pod.pid == pid and pod.code is None:
                    code = os.waitstatus_to_exitcode(status)
                    pod.code = code if code >= 0 else 128 - code
                    signal_group(pid, signal.SIGKILL)

    def show(self) -> None:
        """Tell how the pods are; a copy that was started twice does not count."""
        for pod in self.pods:
            if not pod.extra:
                state = "pending" if pod.pid == 0 else "lost" if pod.lost else "running"
                state = state if pod.code is None else f"exited {pod.code}"
                self.status["slots"][str(pod.slot)] = state
        self.status["leaving"] = any(pod.leaves and pod.runs for pod in self.pods)
        text = json.dumps(self.status)
        if text != self.shown:
            self.shown = text
            self.objects.write("status.json", text.encode())


def signal_group(pid: int, number: int) -> None:
    """Signal all processes of a pod's group, if there still are any."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def end_children() -> None:
    """Kill everything that has this process for a parent until nothing has."""
    while True:
        for pid in process_ids():
            try:
                with open(f"/proc/{pid}/stat", "rb") as file:
                    parent = int(file.read().rsplit(b")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == os.getpid():
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def main(cluster: str, job_id: str, slots: str, first: str) -> int:
    """Run the node until the job's pods are gone."""
    objects = JobObjects(cluster, job_id)
    adopt_orphans()
    Node(objects, [int(slot) for slot in slots.split(",")], first == "first").run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
