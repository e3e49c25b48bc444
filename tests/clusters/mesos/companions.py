#!/usr/bin/python3
"""The small programs beside Mesos' agent, which the archive with the library does not have: started by their names.

``mesos-containerizer launch`` starts a container's command, ``mesos-fetcher`` brings its files into the sandbox, and
``mesos-executor`` runs one command over the executor API. Standard library only: the agent's Python has nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE_S = 3.0


def containerizer() -> None:
    """Become the container's command once the agent lets it go."""
    if sys.argv[1:2] != ["launch"]:
        sys.exit(1)
    info = json.loads(os.environ["MESOS_CONTAINERIZER_LAUNCH_INFO"])
    read, write = (os.environ.get(f"MESOS_CONTAINERIZER_PIPE_{end}") for end in ("READ", "WRITE"))
    if read and write:
        os.close(int(write))
        if not os.read(int(read), 1):
            sys.exit(1)
        os.close(int(read))
    environment = {each["name"]: each.get("value", "") for each in info.get("environment", {}).get("variables", [])}
    environment.setdefault("PATH", PATH)
    sandbox = environment.get("MESOS_SANDBOX", "")
    os.chdir(info.get("working_directory") or sandbox or "/")
    if sandbox:  # agents of this kind let containers inherit their own output
        for name, number in (("stdout", 1), ("stderr", 2)):
            file = os.open(os.path.join(sandbox, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, number)
            os.close(file)
    command = info["command"]
    if command.get("shell", True):
        os.execve("/bin/sh", ["sh", "-c", command["value"]], environment)
    os.execvpe(command["value"], command.get("arguments") or [command["value"]], environment)


def fetcher() -> None:
    """Copy what the task names into its sandbox."""
    info = json.loads(os.environ["MESOS_FETCHER_INFO"])
    for item in info.get("items", []):
        uri = item["uri"]
        target = os.path.join(info["sandbox_directory"], uri.get("output_file") or os.path.basename(uri["value"]))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if "://" in uri["value"] and not uri["value"].startswith("file://"):
            with urllib.request.urlopen(uri["value"], timeout=60) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
        else:
            shutil.copyfile(uri["value"].removeprefix("file://"), target)
        if uri.get("executable"):
            os.chmod(target, 0o755)


class Executor:
    """Runs one command and tells the agent how it does."""

    def __init__(self) -> None:
        self.place = os.environ["MESOS_AGENT_ENDPOINT"]
        self.path = "/" + os.environ["MESOS_SLAVE_PID"].split("@")[0] + "/api/v1/executor"
        self.names = {
            "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]},
            "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.task: dict = {}
        self.unacknowledged: dict[str, dict] = {}
        self.killing = False
        self.done = threading.Event()

    def post(self, body: dict) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.place, timeout=30)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        token = os.environ.get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN")
        if token:
            headers["Authorization"] = "Bearer " + token
        connection.request("POST", self.path, json.dumps({**self.names, **body}), headers)
        return connection, connection.getresponse()

    def update(self, state: str, message: str = "") -> None:
        mark = base64.b64encode(uuid.uuid4().bytes).decode()
        status = {
            "task_id": self.task["task_id"],
            "state": state,
            "uuid": mark,
            "source": "SOURCE_EXECUTOR",
            "timestamp": time.time(),
            "executor_id": self.names["executor_id"],
            **({"message": message} if message else {}),
        }
        self.unacknowledged[mark] = {"status": status}
        with contextlib.suppress(OSError, http.client.HTTPException):  # the agent has died, or hangs
            connection, answer = self.post({"type": "UPDATE", "update": {"status": status}})
            answer.read()
            connection.close()

    def launch(self, task: dict) -> None:
        self.task, command = task, task["command"]
        self.update("TASK_STARTING")
        environment = dict(os.environ)
        for each in command.get("environment", {}).get("variables", []):
            environment[each["name"]] = each.get("value", "")
        shell = command.get("shell", True)
        words = ["/bin/sh", "-c", command["value"]] if shell else command.get("arguments") or [command["value"]]
        program = None if shell else command["value"]
        try:
            self.process = subprocess.Popen(words, executable=program, env=environment, start_new_session=True)
        except OSError as error:
            self.update("TASK_FAILED", f"Failed to execute command: {error}")
            self.finish()
            return
        self.update("TASK_RUNNING")
        threading.Thread(target=self.reap, daemon=True).start()

    def reap(self) -> None:
        assert self.process is not None
        code = self.process.wait()
        if code < 0:
            text = f"Command terminated with signal {signal.strsignal(-code)}"
            self.update("TASK_KILLED" if self.killing else "TASK_FAILED", text)
        elif self.killing:
            self.update("TASK_KILLED", f"Command exited with status {code}")
        else:
            self.update("TASK_FAILED" if code else "TASK_FINISHED", f"Command exited with status {code}")
        self.finish()

    def finish(self) -> None:
        """Leave once everything is acknowledged."""
        for _ in range(100):
            if not self.unacknowledged:
                break
            time.sleep(0.1)
        self.done.set()

    def kill(self, grace_s: float) -> None:
        process = self.process
        if self.killing or process is None or process.poll() is not None:
            return
        self.killing = True
        self.update("TASK_KILLING")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

        def hard() -> None:
            time.sleep(grace_s)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

        threading.Thread(target=hard, daemon=True).start()

    def run(self) -> None:
        unheard = list(self.unacknowledged.values())
        subscribe = {"unacknowledged_tasks": [self.task] if self.task else [], "unacknowledged_updates": unheard}
        connection, answer = self.post({"type": "SUBSCRIBE", "subscribe": subscribe})
        if answer.status != 200:
            sys.exit(f"subscribe: {answer.status} {answer.read()[:200]!r}")
        if connection.sock is not None:
            connection.sock.settimeout(None)
        threading.Thread(target=self.listen, args=(answer,), daemon=True).start()
        self.done.wait()
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def listen(self, answer: http.client.HTTPResponse) -> None:
        while True:
            line = answer.readline(32)
            if not line:
                self.kill(GRACE_S) if self.process else self.done.set()
                return
            event = json.loads(answer.read(int(line)))
            kind = event["type"]
            if kind == "LAUNCH":
                self.launch(event["launch"]["task"])
            elif kind == "KILL":
                policy = event["kill"].get("kill_policy") or self.task.get("kill_policy") or {}
                grace = policy.get("grace_period", {}).get("nanoseconds")
                self.kill(GRACE_S if grace is None else int(grace) / 1e9)
            elif kind == "ACKNOWLEDGED":
                self.unacknowledged.pop(event["acknowledged"]["uuid"], None)
            elif kind == "SHUTDOWN":
                self.kill(GRACE_S) if self.process else self.done.set()
            elif kind == "ERROR":
                self.done.set()


if __name__ == "__main__":
    name = os.path.basename(sys.argv[0])
    if name == "mesos-containerizer":
        containerizer()
    elif name == "mesos-fetcher":
        fetcher()
    elif name == "mesos-executor":
        Executor().run()
    else:
        sys.exit(f"{name}: there is no such program here")
