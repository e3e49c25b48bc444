"""The generated import rules cover every folder and bite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINTER = Path(sys.executable).with_name("lint-imports")


def lint(repository) -> subprocess.CompletedProcess[str]:
    rules = repository.tool("import-rules")
    assert rules.returncode == 0, rules.stderr
    repository.write("rules.ini", rules.stdout)
    sources = [str(path) for path in repository.root.glob("**/src")]
    return subprocess.run(
        [str(LINTER), "--config", "rules.ini", "--no-cache"],
        cwd=repository.root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_allowed_imports_pass(repository):
    repository.write("core/src/twister2/graph/model.py", "import twister2.spec\n")
    repository.write("core/src/twister2/client/run.py", "import twister2.host, twister2.graph\n")
    repository.write("plugins/rm_alpha/src/twister2_rm_alpha/plugin.py", "import twister2.spec\n")
    repository.write("plugins/words/src/twister2_words/plugin.py", "import twister2.spec, twister2.graph.model\n")
    done = lint(repository)
    assert done.returncode == 0, done.stdout + done.stderr


FORBIDDEN = {
    "layer below imports one above": ("core/src/twister2/spec/x.py", "twister2.graph"),
    "host imports client": ("core/src/twister2/host/x.py", "twister2.client"),
    "core imports a plugin": ("core/src/twister2/client/x.py", "twister2_rm_alpha.plugin"),
    "core imports the test kit": ("core/src/twister2/client/x.py", "twister2_testkit.plugin"),
    "plugin imports a plugin": ("plugins/rm_alpha/src/twister2_rm_alpha/x.py", "twister2_words.plugin"),
    "plugin imports the host": ("plugins/rm_alpha/src/twister2_rm_alpha/x.py", "twister2.host"),
    "plugin imports the graph": ("plugins/rm_alpha/src/twister2_rm_alpha/x.py", "twister2.graph"),
    "API plugin imports the client": ("plugins/words/src/twister2_words/x.py", "twister2.client"),
    "test kit imports a plugin": ("testkit/src/twister2_testkit/x.py", "twister2_rm_alpha.plugin"),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_a_forbidden_import_is_reported(repository, case):
    file, module = FORBIDDEN[case]
    repository.write(file, f"def later():\n    import {module}\n")
    done = lint(repository)
    assert done.returncode == 1, done.stdout + done.stderr
    assert module.removesuffix(".plugin") in done.stdout
