"""Observers: one by one, the failing one disabled and reported once."""

from __future__ import annotations

import inspect
import sys

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
    assert set_.names == ["first", "last"]


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
