"""Real distributions for tests: a module and a ``.dist-info`` folder in a temporary folder on ``sys.path``."""

from __future__ import annotations

import sys
import textwrap

import pytest


class Site:
    """A folder on ``sys.path`` into which distributions are installed by writing their files."""

    def __init__(self, folder):
        self.folder = folder
        self.modules = set()

    def install(self, distribution, kind, name, source, *, version="1.0", module=None, attribute="Plugin", requires=()):
        """Install a distribution of one module with one entry point; ``source`` None writes no module."""
        module = module or distribution.replace("-", "_")
        self.modules.add(module)
        if source is not None:
            (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(f"[twister2.{kind}]\n{name} = {module}:{attribute}\n")
        return info

    def forget(self):
        for module in self.modules:
            sys.modules.pop(module, None)


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    made = Site(folder)
    yield made
    made.forget()


GOOD_SCHED = """
    from twister2.spec.plugin import hookimpl
    from twister2.spec.sched import SchedSpec, TaskScheduler

    class Backend(TaskScheduler):
        def schedule(self, request):
            return "scheduled"

    class Plugin(SchedSpec):
        api = (1, 0)

        @hookimpl
        def sched_create(self, config):
            return Backend()
"""


@pytest.fixture
def good_sched():
    """Source of a scheduler plugin that is right in every respect."""
    return GOOD_SCHED
