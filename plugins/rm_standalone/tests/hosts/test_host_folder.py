"""Where a host keeps files of jobs: the option comes with every request."""

from __future__ import annotations

import os

import pytest

from twister2_rm_standalone.config import StandaloneConfig
from twister2_rm_standalone.hosts.agent import state_folder
from twister2_rm_standalone.hosts.fleet import Fleet


@pytest.mark.parametrize("option", ["", "/scratch/jobs", "~/jobs"])
def test_it_is_told_to_every_host(option, monkeypatch):
    fleet = Fleet(StandaloneConfig(hosts=("h1", "h2"), host_folder=option), "job-1")
    told = {}

    def answered(turn, timeout_s):
        told.update(turn.requests)

    monkeypatch.setattr(fleet, "_answered", answered)
    fleet.ask({"h1": {"do": "hello"}, "h2": {"do": "hello"}}, 1.0)
    assert {host: request["folder"] for host, request in told.items()} == {"h1": option, "h2": option}


def test_it_lies_below_the_option_or_the_users_state_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/users/me")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    here = os.uname().nodename
    assert state_folder("/scratch/jobs") == f"/scratch/jobs/hosts/{here}"
    assert state_folder("~/jobs") == f"/users/me/jobs/hosts/{here}"
    assert state_folder("") == f"/state/twister2/hosts/{here}"
