from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

HOOK = '''
import json, os, sys

LOG = os.environ["IMPORTS_LOG"]

class Recorder:
    """Notes each module that any process is about to import, and finds none."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        line = json.dumps([os.getpid(), name]) + "\\n"
        descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)

sys.meta_path.insert(0, Recorder)
'''


class Imports:
    """What the processes of a test's jobs import, by process."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "imports.log"
        hook = folder / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        self.environment = {"PYTHONPATH": str(hook), "IMPORTS_LOG": str(self._log)}

    def by_process(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for line in self._log.read_text(encoding="utf-8").splitlines():
            pid, name = json.loads(line)
            found.setdefault(pid, set()).add(name)
        return found

    def everywhere(self) -> set[str]:
        return set().union(*self.by_process().values())


@pytest.fixture
def imports(tmp_path: Path) -> Imports:
    return Imports(tmp_path)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path) as jobs:
        yield jobs
