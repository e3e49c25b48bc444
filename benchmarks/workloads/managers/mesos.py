"""Mesos, beside a framework that launches as many tasks that exit at once: from its subscription until all have."""

# benchmark: venv=twister2 packages=twister2-rm-mesos
from __future__ import annotations

import json
import os
import pwd
import uuid
from typing import TYPE_CHECKING

from harness.managers import LIMIT_S, main

if TYPE_CHECKING:
    from twister2_rm_mesos.api import Api

MASTERS = json.loads(os.environ.get("TWISTER2__RM__MESOS__MASTERS", "[]"))
AMOUNTS = {"cpus": 0.1, "mem": 32.0}


def api() -> Api:
    from twister2_rm_mesos.api import Api
    from twister2_rm_mesos.config import MesosConfig

    return Api(MesosConfig(masters=tuple(MASTERS)), 20.0)


def down() -> str:
    from twister2.spec.errors import Twister2Error

    if not MASTERS:
        return "TWISTER2__RM__MESOS__MASTERS is not set"
    try:
        api().operate("GET_HEALTH")
    except Twister2Error as error:
        return f"{error.what}: {error.why}"
    return ""


def bare(workers: int) -> None:
    mesos = api()
    user = pwd.getpwuid(os.getuid()).pw_name
    resources = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in AMOUNTS.items()]
    stream = mesos.subscribe(
        {
            "user": user,
            "name": f"bare-{uuid.uuid4().hex[:8]}",
            "roles": ["*"],
            "capabilities": [{"type": "MULTI_ROLE"}],
        },
        LIMIT_S,
    )
    framework, ended = "", 0
    waiting = [f"t{number}" for number in range(workers)]
    for event in stream:
        if event["type"] == "SUBSCRIBED":
            framework = event["subscribed"]["framework_id"]["value"]
        elif event["type"] == "OFFERS":
            for offer in event["offers"]["offers"]:
                tasks = []
                while waiting and len(tasks) < 8:
                    task = waiting.pop()
                    given = [{**each, "allocation_info": {"role": "*"}} for each in resources]
                    command = {"shell": False, "value": "/bin/true", "arguments": ["true"]}
                    tasks.append(
                        {
                            "name": task,
                            "task_id": {"value": task},
                            "agent_id": offer["agent_id"],
                            "resources": given,
                            "command": command,
                        }
                    )
                accept = {
                    "offer_ids": [offer["id"]],
                    "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}] if tasks else [],
                }
                mesos.call(stream.id, framework, "ACCEPT", accept=accept)
        elif event["type"] == "UPDATE":
            status = event["update"]["status"]
            if "uuid" in status:
                known = {key: status[key] for key in ("agent_id", "task_id", "uuid")}
                mesos.call(stream.id, framework, "ACKNOWLEDGE", acknowledge=known)
            if status["state"] == "TASK_FINISHED":
                ended += 1
                if ended == workers:
                    break
            elif status["state"] not in ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"):
                raise RuntimeError(f"a task ended as {status['state']}: {status.get('message')}")
    mesos.call(stream.id, framework, "TEARDOWN")
    stream.close()
    if ended < workers:
        raise RuntimeError("the stream of events has ended")


if __name__ == "__main__":
    main("mesos", bare=bare, down=down, masters=("client",))
