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

SOURCE = """
    from twister2.spec.observe import ObserveSpec
    from twister2.spec.plugin import hookimpl

    calls = []

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
    monkeypatch.setattr("twister2.host.observers.SLOW_S", 0.2)
    slow = "__import__('time').sleep(0.5)"
    selected = observers(slow=("client", slow), quick=("client", "pass"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), selected, "client", reports.append)
    begun = time.monotonic()
    set_.job_state("j1", "starting", "")
    assert time.monotonic() - begun < 0.2
    time.sleep(0.3)
    set_.job_state("j1", "running", "")
    assert set_.names == ["quick"]
    set_.close()
    assert [text.partition(" (")[0] for text in reports] == ["observe plugin 'slow'"]
    assert "job_state took longer than 0.2 s" in reports[0]
    assert calls("quick") == [("job_state", "starting"), ("job_state", "running")]
    time.sleep(0.4)
    assert calls("slow") == [("job_state", "starting")], "it is called no more"


def test_one_that_never_returns_holds_up_the_end_for_the_deadline_only(observers):
    selected = observers(stuck=("client", "__import__('threading').Event().wait(3)"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), selected, "client", reports.append)
    set_.job_state("j1", "running", "")
    set_.job_ended("j1", "completed", "", 1.0)
    begun = time.monotonic()
    set_.close(0.2)
    set_.close(0.2)
    assert time.monotonic() - begun < 1.0
    assert len(reports) == 1
    assert "'stuck'" in reports[0]
    assert "job_state had not returned" in reports[0]


def test_one_that_is_too_far_behind_is_disabled(observers, monkeypatch):
    monkeypatch.setattr("twister2.host.observers.BACKLOG", 3)
    selected = observers(behind=("client", "__import__('time').sleep(0.5)"))
    reports = []
    set_ = ObserverSet.load(PluginHost(), selected, "client", reports.append)
    for number in range(6):
        set_.job_state("j1", f"s{number}", "")
    assert set_.names == []
    assert len(reports) == 1
    assert "3 calls behind" in reports[0]
    set_.close()


def test_a_call_is_waited_for_where_that_is_asked_but_not_while_one_is_late(observers, monkeypatch):
    monkeypatch.setattr("twister2.host.observers.SLOW_S", 30.0)
    selected = observers(display=("client", "__import__('time').sleep(0.05 if state == 'quick' else 2.0)"))
    set_ = ObserverSet.load(PluginHost(), selected, "client")
    set_.call("job_state", 5.0, job_id="j1", state="quick", reason="")
    assert calls("display") == [("job_state", "quick")]
    set_.call("job_state", 0.1, job_id="j1", state="slow", reason="")
    begun = time.monotonic()
    set_.call("job_state", 5.0, job_id="j1", state="slow", reason="again")
    assert time.monotonic() - begun < 1.5, "who is still busy with an earlier call is not waited for"
    while len(calls("display")) < 3:
        time.sleep(0.01)
    set_.call("job_state", 5.0, job_id="j1", state="quick", reason="it has caught up")
    assert len(calls("display")) == 4
    monkeypatch.setattr("twister2.host.observers.IN_VAIN_S", 0.2)
    set_.call("job_state", 0.1, job_id="j1", state="slow", reason="once more")
    while len(calls("display")) < 5:
        time.sleep(0.01)
    begun = time.monotonic()
    set_.call("job_state", 5.0, job_id="j1", state="slow", reason="and again")
    assert time.monotonic() - begun < 1.5, "who was late too often is not waited for any more"
    set_.close()


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
