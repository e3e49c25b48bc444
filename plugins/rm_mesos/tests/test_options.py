"""Options of what a job's scheduler tells Mesos about time."""

from __future__ import annotations

import os

import attrs
import pytest

from twister2_rm_mesos import scheduler as module
from twister2_rm_mesos import tasks
from twister2_rm_mesos.config import MesosConfig
from twister2_rm_mesos.folder import Folder


def plan(config):
    slots = ({"cpus": 4.0, "mem": 100.0},) * 2
    return tasks.Plan("job-1", "job", ("python", "-c", "pass"), {}, slots, attrs.asdict(config))


def test_how_long_mesos_keeps_copies_without_their_scheduler():
    config = MesosConfig(failover_s=77.0)
    assert tasks.framework(plan(config), config)["failover_timeout"] == 77.0


@pytest.mark.parametrize(("held_s", "given_back"), [(60.0, False), (101.0, True)])
def test_how_long_offers_are_held_and_agents_not_offered_again(tmp_path, monkeypatch, held_s, given_back):
    """An offer holds one of the two copies, and no other comes: it is held for ``hold_s`` at the longest."""
    folder = Folder.of(str(tmp_path), "job-1")
    folder.make()
    folder.put(folder.plan, plan(MesosConfig(hold_s=100.0, refuse_s=33.0)).to_dict())
    folder.write(folder.ticket, b"{}")
    scheduler = module.Scheduler(folder)
    try:
        calls = []
        monkeypatch.setattr(scheduler, "_call", lambda kind, **parts: calls.append((kind, parts)) or True)
        for slot in scheduler._slots:
            slot.wanted = True
        scheduler._stream, scheduler._framework = object(), "f-1"
        resources = [
            {"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (("cpus", 4), ("mem", 900))
        ]
        offer = {"id": {"value": "o1"}, "agent_id": {"value": "a1"}, "hostname": "h", "resources": resources}
        scheduler._offers = {"o1": (module.time.monotonic() - held_s, offer)}
        scheduler._launch()
    finally:
        scheduler._desk.close()
        for number in scheduler._wake:
            os.close(number)
    declined = {"offer_ids": [{"value": "o1"}], "filters": {"refuse_seconds": 33.0}}
    assert calls == ([("DECLINE", {"decline": declined})] if given_back else [])
    assert bool(scheduler._offers) is not given_back
