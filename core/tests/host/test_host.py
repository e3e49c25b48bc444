"""Discovery, pins, tracing, versions."""

from __future__ import annotations

import json
import subprocess
import sys

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twister2
from twister2.host import Catalog, Pins, PluginHost, PluginRecord
from twister2.host.installed import installed_version, missing_requirements, satisfies, split_requirement
from twister2.spec import errors
from twister2.spec.plugin import KINDS


def test_discovery_reads_metadata_and_imports_nothing(site):
    site.install(
        "acme-x",
        "rm",
        "x",
        "raise RuntimeError('imported')",
        version="3.1",
        requires=["attrs", "twister2-core>=0.1,<0.2"],
    )
    record = PluginHost().find("rm", "x")
    assert record == PluginRecord("rm", "x", "acme_x:Plugin", "acme-x", "3.1", ">=0.1,<0.2")
    assert "acme_x" not in sys.modules


def test_a_plugin_installed_meanwhile_is_seen_after_refresh(site, good_sched):
    host = PluginHost()
    with pytest.raises(errors.PluginNotFoundError):
        host.load("sched", "late")
    site.install("acme-late", "sched", "late", good_sched)
    host.refresh()
    assert host.load("sched", "late") is host.load("sched", "late")


def test_a_kind_without_hooks_loads(site):
    source = (
        "from twister2.spec.api import ApiSpec\nclass Plugin(ApiSpec):\n    api = (1, 0)\n    module = 'acme_api'\n"
    )
    site.install("acme-api", "api", "acme", source)
    assert PluginHost().load("api", "acme").plugin.module == "acme_api"


def test_two_hosts_do_not_share_plugin_objects(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched)
    assert PluginHost().load("sched", "good").plugin is not PluginHost().load("sched", "good").plugin


def test_an_unknown_kind_names_the_kinds():
    with pytest.raises(KeyError, match="rm, comm"):
        PluginHost().discover("nokind")


names = st.text("abcdefgh-_.0123456789", max_size=12)


@given(records=st.lists(st.builds(PluginRecord, st.sampled_from(list(KINDS)), names, names, names, names, names)))
def test_pins_survive_json(records):
    pins = Pins(tuple(records))
    assert Pins.from_dict(json.loads(json.dumps(pins.to_dict()))) == pins


def test_pins_load_by_target_without_a_scan(site, good_sched, monkeypatch):
    site.install("acme-good", "sched", "good", good_sched)
    pins = PluginHost().pin([("sched", "good"), ("sched", "good")])
    assert [record.name for record in pins.records] == ["good"]
    monkeypatch.setattr(Catalog, "records", lambda *_: pytest.fail("a worker must not scan"))
    host = PluginHost.from_pins(Pins.from_dict(pins.to_dict()))
    assert host.create("sched", "good").schedule(None) == "scheduled"


def test_a_worker_without_the_plugin_says_where_and_what_to_install(site, good_sched):
    info = site.install("acme-good", "sched", "good", good_sched)
    pins = PluginHost().pin([("sched", "good")])
    info.rename(info.with_name("elsewhere"))
    with pytest.raises(errors.PluginNotFoundError) as caught:
        PluginHost.from_pins(pins).load("sched", "good")
    assert "pip install acme-good==1.0" in caught.value.remedy
    assert sys.executable in caught.value.where


def test_another_version_on_a_worker_names_both_host_and_interpreter(site, good_sched):
    info = site.install("acme-good", "sched", "good", good_sched)
    pins = PluginHost().pin([("sched", "good")])
    info.rename(info.with_name("acme_good-1.1.dist-info"))
    with pytest.raises(errors.PluginMismatchError) as caught:
        PluginHost.from_pins(pins).load("sched", "good")
    text = str(caught.value)
    assert "1.1" in text
    assert "1.0" in text
    assert sys.executable in text
    assert "host " in text


def test_another_core_or_python_is_a_mismatch():
    with pytest.raises(errors.PluginMismatchError, match="twister2-core"):
        PluginHost.from_pins(Pins((), core="0.0.1"))
    other = Pins((), python="2.7")
    assert PluginHost.from_pins(other)
    with pytest.raises(errors.PluginMismatchError, match=r"2\.7"):
        PluginHost.from_pins(other, check_python=True)


def test_a_plugin_that_was_not_selected_at_submit_is_refused_on_a_worker():
    with pytest.raises(errors.PluginNotFoundError, match="not among the plugins of this job"):
        PluginHost.from_pins(Pins(())).load("ops", "net")


def test_loading_from_pins_needs_neither_stevedore_nor_importlib_metadata(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched)
    pins = PluginHost().pin([("sched", "good")])
    code = (
        "import sys, json; from twister2.host import PluginHost, Pins\n"
        "host = PluginHost.from_pins(Pins.from_dict(json.loads(sys.argv[1])))\n"
        "host.create('sched', 'good')\n"
        "print(sorted({'stevedore', 'importlib.metadata', 'zmq', 'numpy', 'asyncio'} & set(sys.modules)))"
    )
    # isolated from .pth files of editable installs, which import what they like
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}", json.dumps(pins.to_dict())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_hook_calls_are_traced_on_demand_without_values(site, good_sched, monkeypatch, capfd):
    site.install("acme-good", "sched", "good", good_sched)
    PluginHost().create("sched", "good")
    assert "[hook]" not in capfd.readouterr().err
    monkeypatch.setenv("TWISTER2_TRACE_HOOKS", "1")
    PluginHost().create("sched", "good")
    assert "[hook] sched.good sched_create(config=<NoOptions>) gave <Backend> in" in capfd.readouterr().err


def test_probe_is_none_where_the_kind_or_plugin_has_none_and_never_raises(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched)
    assert PluginHost().probe("sched", "good") is None
    site.install(
        "acme-rm",
        "rm",
        "probed",
        """
        from twister2.spec.rm import ResourceManagerSpec
        from twister2.spec.plugin import hookimpl

        class Plugin(ResourceManagerSpec):
            api = (1, 0)

            @hookimpl
            def rm_create(self, config, context): ...

            @hookimpl
            def rm_probe(self, config):
                raise RuntimeError("no daemon")
        """,
    )
    answer = PluginHost().probe("rm", "probed")
    assert not answer.ok
    assert "no daemon" in answer.text


# -- versions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "clauses", "fits"),
    [
        ("0.1.0", ">=0.1,<0.2", True),
        ("0.2.0", ">=0.1,<0.2", False),
        ("0.10.0", ">=0.9", True),
        ("1.0", "==1.0.0", True),
        ("1.0rc1", ">=1.0", False),
        ("1.4.2", "~=1.4", True),
        ("2.0", "~=1.4", False),
        ("1.4.2", "==1.4.*", True),
        ("1.5.2", "!=1.4.*", True),
        ("1.0", "", True),
    ],
)
def test_version_clauses(version, clauses, fits):
    assert satisfies(version, clauses) is fits


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_version_order_is_that_of_their_numbers(left, right):
    a, b = (".".join(map(str, parts)) for parts in (left, right))
    padded = [parts + [0] * (4 - len(parts)) for parts in (left, right)]
    assert satisfies(a, f">={b}") is (padded[0] >= padded[1])
    assert satisfies(a, f"<{b}") is (padded[0] < padded[1])


def test_requirements_that_are_not_met_are_sentences(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched, version="1.3")
    assert missing_requirements(("acme-good>=1.2,<2", "Acme_Good")) == []
    problems = missing_requirements(("acme-good>=2", "acme-none", "???", "acme-good>=x"))
    assert [("is required, 1.3 is installed" in problems[0]), "acme-none is not installed" in problems[1]] == [
        True,
        True,
    ]
    assert "not a requirement" in problems[2]
    assert "not a version clause" in problems[3]


def test_installed_version_agrees_with_importlib_metadata():
    import importlib.metadata

    for name in ("pluggy", "attrs", "PyZMQ", "twister2_core"):
        assert installed_version(name) == importlib.metadata.version(name)
    assert installed_version("no-such-distribution-xyz") is None
    assert installed_version("twister2-core") == twister2.__version__


def test_requirement_is_split_from_extras_and_markers():
    assert split_requirement("foo[bar] >=1, <2 ; python_version > '3'") == ("foo", ">=1,<2")


def test_records_are_frozen():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        PluginRecord("rm", "x", "y").name = "z"
