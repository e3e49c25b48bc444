"""Observers: one by one, the failing one disabled and reported once."""

from __future__ import annotations

import inspect
import sys
import threading
import time

import pytest

from twister2.host import ObserverSet, PluginHost
from twister2.host.checks import hook_arguments, spec_hooks
from twister2.spec.observe import JobFacts, ObserveSpec
from twister2_testkit.processes import wait_until

SOURCE = """
    import threading
    from twister2.spec.observe import ObserveSpec
    from twister2.spec.plugin import hookimpl

    calls, gate = [], threading.Event()

    class Plugin(ObserveSpec):
        api = (1, 0)
        where = {where!r}

        @hookimpl
        def observe_start(self, config, job):
            calls.append(("observe_start", job.job_id))

        @hookimpl
        def job_state(self, state):
            {body}
            calls.append(("job_state", state))

        @hookimpl
        def job_ended(self, job_id, state):
            calls.append(("job_ended", state))
"""


@pytest.fixture
def observers(site):
    def make(**bodies):
        for name, (where, body) in bodies.items():
            site.install(f"acme-{name}", "observe", name, SOURCE.format(where=where, body=body))
        return [(name, None) for name in bodies]

    return make


def calls(name):
    return sys.modules[f"acme_{name}"].calls


def let_go(name):
    """What waits at the gate of an observer goes on."""
    sys.modules[f"acme_{name}"].gate.set()


def test_one_that_fails_is_disabled_and_reported_once_and_the_others_go_on(observers):
    selected = observers(first=("client", "pass"), bad=("client", "1 / 0"), last=("client", "pass"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), selected, "client", reports.append)
    set_.start(JobFacts("j1", "name", 2, "standalone", "x.py"))
    for state in ("starting", "running"):
        set_.job_state("j1", state, "")
    set_.job_ended("j1", "completed", "", 1.0)
    set_.close()
    expected = [
        ("observe_start", "j1"),
        ("job_state", "starting"),
        ("job_state", "running"),
        ("job_ended", "completed"),
    ]
    assert calls("first") == expected
    assert calls("last") == expected
    assert calls("bad") == [("observe_start", "j1")]
    assert len(reports) == 1
    assert "'bad'" in reports[0]
    assert "job_state raised ZeroDivisionError" in reports[0]
    assert set_.names == [], "nothing is called after the end"


def test_a_slow_one_holds_up_nobody_and_is_disabled_by_name(observers, monkeypatch):
    monkeypatch.setattr("twister2.host.observers.SLOW_S", 2.0)  # a quick one may take a while on a busy machine
    selected = observers(slow=("client", "gate.wait(60)"), quick=("client", "pass"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), selected, "client", reports.append)
    begun = time.monotonic()
    set_.job_state("j1", "starting", "")
    assert time.monotonic() - begun < 30
    told = ["starting"]

    def is_disabled():
        told.append(f"running {len(told)}")
        set_.job_state("j1", told[-1], "")
        return set_.names == ["quick"]

    wait_until(is_disabled, 30, lambda: f"called are {set_.names}")
    set_.close(30.0)
    assert [text.partition(" (")[0] for text in reports] == ["observe plugin 'slow'"]
    assert "job_state took longer than 2 s" in reports[0]
    assert calls("quick") == [("job_state", state) for state in told]
    let_go("slow")
    wait_until(lambda: calls("slow") != [], 30, lambda: "it does not return")
    time.sleep(0.1)
    assert calls("slow") == [("job_state", "starting")], "it is called no more"


def test_one_that_never_returns_holds_up_the_end_for_the_deadline_only(observers):
    selected = observers(stuck=("client", "gate.wait(60)"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), selected, "client", reports.append)
    set_.job_state("j1", "running", "")
    set_.job_ended("j1", "completed", "", 1.0)
    begun = time.monotonic()
    set_.close(0.2)
    set_.close(0.2)
    assert time.monotonic() - begun < 30
    let_go("stuck")
    assert len(reports) == 1
    assert "'stuck'" in reports[0]
    assert "job_state had not returned" in reports[0]


def test_one_that_is_too_far_behind_is_disabled(observers, monkeypatch):
    monkeypatch.setattr("twister2.host.observers.BACKLOG", 3)
    selected = observers(behind=("client", "gate.wait(60)"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), selected, "client", reports.append)
    for number in range(6):
        set_.job_state("j1", f"s{number}", "")
    assert set_.names == []
    assert len(reports) == 1
    assert "3 calls behind" in reports[0]
    let_go("behind")
    set_.close()


def test_a_call_is_waited_for_where_that_is_asked_but_not_while_one_is_late(observers, monkeypatch):
    monkeypatch.setattr("twister2.host.observers.SLOW_S", 30.0)
    selected = observers(display=("client", "state == 'quick' or gate.wait(80)"))
    set_ = ObserverSet.load(PluginHost(), selected, "client")
    set_.call("job_state", 60.0, job_id="j1", state="quick", reason="")
    assert calls("display") == [("job_state", "quick")]
    set_.call("job_state", 0.1, job_id="j1", state="slow", reason="")
    begun = time.monotonic()
    set_.call("job_state", 60.0, job_id="j1", state="slow", reason="again")
    assert time.monotonic() - begun < 30, "who is still busy with an earlier call is not waited for"
    let_go("display")
    wait_until(lambda: len(calls("display")) == 3, 20, lambda: f"{calls('display')}")
    set_.call("job_state", 60.0, job_id="j1", state="quick", reason="it has caught up")
    assert len(calls("display")) == 4
    monkeypatch.setattr("twister2.host.observers.IN_VAIN_S", 0.2)
    sys.modules["acme_display"].gate.clear()
    set_.call("job_state", 0.1, job_id="j1", state="slow", reason="once more")
    begun = time.monotonic()
    set_.call("job_state", 60.0, job_id="j1", state="slow", reason="and again")
    assert time.monotonic() - begun < 30, "who was late too often is not waited for any more"
    let_go("display")
    set_.close(20.0)


def test_no_thread_starts_before_the_first_call_and_none_is_left(observers):
    def threads():
        return [each.name for each in threading.enumerate() if each.name == "observer-one"]

    set_ = ObserverSet.load(PluginHost(), observers(one=("client", "pass")), "client")
    set_.attempt_started("j1", 1, 2)
    assert threads() == [], "it has no such hook"
    set_.job_state("j1", "running", "")
    assert threads() == ["observer-one"]
    set_.close()
    assert threads() == []


def test_the_same_state_twice_is_told_once(observers):
    set_ = ObserverSet.load(PluginHost(), observers(one=("client", "pass")), "client")
    for state, reason in (("queued", ""), ("queued", ""), ("queued", "Priority"), ("running", "")):
        set_.job_state("j1", state, reason)
    set_.close()
    assert calls("one") == [("job_state", "queued"), ("job_state", "queued"), ("job_state", "running")]


def test_only_observers_of_that_place_are_called_and_missing_ones_are_reported(observers):
    selected = observers(here=("client", "pass"), there=("master", "pass"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), [*selected, ("nosuch", None)], "client", reports.append)
    assert set_.names == ["here"]
    assert "nosuch" in reports[0]


def test_a_call_with_wrong_arguments_is_the_callers_mistake_not_the_observers():
    with pytest.raises(TypeError, match="no observer hook"):
        ObserverSet(()).call("job_sate")
    with pytest.raises(TypeError, match="job_id"):
        ObserverSet(()).call("job_state", state="x")


def test_the_typed_methods_have_the_arguments_of_the_hooks():
    for hook, function in spec_hooks(ObserveSpec).items():
        if hook == "observe_start":
            continue
        method = inspect.signature(getattr(ObserverSet, hook))
        assert tuple(name for name in method.parameters if name != "self") == hook_arguments(function)
