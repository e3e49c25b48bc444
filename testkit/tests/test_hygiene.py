"""The hygiene checks notice what they are for: a clean plugin passes, each way to be unclean is named."""

from __future__ import annotations

import sys
import textwrap

import pytest

from twister2.spec.plugin import KINDS
from twister2_testkit import hygiene

PLUGIN = """
import attrs
from twister2.spec.options import option
from twister2.spec.plugin import hookimpl
from twister2.spec.sched import SchedSpec, TaskScheduler

@attrs.frozen
class Config:
    "Options."
    count: int = option(1, "Count.", unit="1")

class Plugin(SchedSpec):
    "A scheduler."
    api = (1, 0)
    config_class = Config

    @hookimpl
    def sched_create(self, config: Config): ...
"""
METADATA = """Metadata-Version: 2.4
Name: {name}
Version: 1.0
License-Expression: Apache-2.0
Requires-Python: >=3.11
Requires-Dist: twister2-core>=0.1,<0.2

A README that says in some words what this plugin is for, and how it is used.
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Install a plugin, changed by one replacement in its source or metadata, and check it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(old="", new="", *, name="acme-sched", entry="acme", typed=True):
        package = tmp_path / name.replace("-", "_")
        package.mkdir()
        source, metadata = PLUGIN, METADATA.format(name=name)
        assert not old or old in source + metadata
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(textwrap.dedent(source.replace(old, new) if old else source))
        if typed:
            (package / "py.typed").write_text("")
        info = tmp_path / f"{package.name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(metadata.replace(old, new) if old else metadata)
        (info / "entry_points.txt").write_text(f"[twister2.sched]\n{entry} = {package.name}.plugin:Plugin\n")
        return hygiene.check_distribution(name)

    yield install
    for module in [module for module in sys.modules if module.startswith(("acme_", "twister2_acme"))]:
        del sys.modules[module]


def test_a_clean_plugin_has_no_problems(check):
    assert check() == []


@pytest.mark.parametrize(
    ("old", "new", "clue"),
    [
        ("import attrs\n", "import attrs, asyncio\n", "loads asyncio"),
        ("import attrs\n", "import attrs, numpy\n", "loads numpy"),
        ("import attrs\n", "import attrs, subprocess\nsubprocess.run(['true'])\n", "a process was started"),
        (
            "import attrs\n",
            "import attrs, threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n",
            "starts a thread",
        ),
        ("import attrs\n", "import attrs, no_such_module_xyz\n", "failed to import"),
        (', unit="1"', "", "without a unit"),
        ('"Count."', '""', "has no help"),
        ('option(1, "Count.", unit="1")', "1", "has no help"),
        ("@attrs.frozen", "@attrs.define", "is not frozen"),
        ('    "Options."\n', "", "has no docstring"),
        ('    "A scheduler."\n', "", "has no docstring"),
        ("count: int", "Count: int", "lower-case"),
        ("    api = (1, 0)", "    api = (1, 0)\n    def __init__(self): self.calls = []", "keeps state: calls"),
        ("    api = (1, 0)", "    api = (3, 0)", "needs plugin interface"),
        ("class Plugin", "def make():\n  class Hidden: pass\n  return Hidden\nclass Plugin", None),
        (">=0.1,<0.2", "", "lower and an upper bound"),
        ("License-Expression: Apache-2.0\n", "", "no licence"),
        ("Requires-Python: >=3.11\n", "", "which Python"),
        ("A README that says in some words what this plugin is for, and how it is used.", "", "no README"),
    ],
)
def test_each_uncleanness_is_named(check, old, new, clue):
    problems = check(old, new)
    if clue is None:
        assert problems == []
    else:
        assert any(clue in problem for problem in problems), problems


def test_options_that_do_not_travel_are_named(check):
    problems = check('option(1, "Count.", unit="1")', 'option("x", "A number that is text.", unit="1")')
    assert any("must be a whole number" in problem for problem in problems)


def test_names(check):
    assert any("lower-case words" in problem for problem in check(entry="Acme-X"))
    assert any("must be called" in problem for problem in check(name="twister2-sched-other", entry="acme"))
    assert check(name="twister2-sched-acme-fair", entry="acme_fair") == []


def test_an_untyped_package_and_a_missing_distribution(check):
    assert any("py.typed" in problem for problem in check(typed=False))
    assert any("is not installed" in problem for problem in hygiene.check_distribution("no-such-distribution-xyz"))


@pytest.mark.parametrize(
    ("kind", "spec", "body", "clue"),
    [
        ("api", "ApiSpec", "module = 'no_such_module_xyz'; summary = 'x'", "cannot import"),
        ("api", "ApiSpec", "module = 'json'; summary = 'x'", None),
        ("observe", "ObserveSpec", "where = 'moon'", "moon"),
        ("comm", "CommSpec", "pass", "facts"),
        ("data", "DataSpec", "formats = ('x',)", "schemes"),
    ],
)
def test_what_others_decide_by_is_declared(tmp_path, monkeypatch, kind, spec, body, clue):
    required = KINDS[kind].required
    hook = f"    @hookimpl\n    def {required[0]}(self, config): ...\n" if required else ""
    module, _, _ = KINDS[kind].spec.partition(":")
    package = f"acme_{kind}_{spec.lower()}_{len(body)}"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{package}.py").write_text(
        f"from twister2.spec.plugin import hookimpl\nfrom {module} import {spec}\n"
        f"class Plugin({spec}):\n    'A plugin.'\n    api = (1, 0)\n    {body}\n{hook}"
    )
    info = tmp_path / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(name=package))
    (info / "entry_points.txt").write_text(f"[twister2.{kind}]\n{package} = {package}:Plugin\n")
    problems = [*hygiene.check_entry_points(package), *hygiene.check_declarations(package)]
    assert problems == [] if clue is None else any(clue in problem for problem in problems), problems
    sys.modules.pop(package, None)
