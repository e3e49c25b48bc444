"""The two generated lists of packages: ``requirements-dev.txt`` and ``constraints.txt``."""

from __future__ import annotations

import subprocess
import sys

from distributions import Workspace, requirement_name

_REQUIREMENTS_HEAD = """\
# Everything for developing: pip install --no-build-isolation -r requirements-dev.txt -c constraints.txt
# Written by `python tools/workspace.py requirements`; do not edit.
"""

_CONSTRAINTS_HEAD = """\
# Versions used in development and in CI. Names and versions only.
# Written by `make constraints` from what is installed in .venv.
"""


def requirements_text(workspace: Workspace) -> str:
    """Return the text of ``requirements-dev.txt``: every folder, editable, then the tools."""
    editable = ["-e .", *(f"-e ./{member.path.relative_to(workspace.root).as_posix()}" for member in workspace.members)]
    tools = [str(tool) for tool in workspace.umbrella.data.get("dependency-groups", {}).get("dev", [])]
    return _REQUIREMENTS_HEAD + "\n".join([*editable, *sorted(tools)]) + "\n"


def constraints_text() -> str:
    """Return the text of ``constraints.txt`` from what the running interpreter has installed.

    :raises subprocess.CalledProcessError: pip does not run here.
    """
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--disable-pip-version-check"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    pins = [line for line in frozen.splitlines() if "==" in line and not line.startswith(("#", "-"))]
    kept = [pin for pin in pins if not requirement_name(pin).startswith("twister2")]
    return _CONSTRAINTS_HEAD + "\n".join(sorted(kept, key=str.lower)) + "\n"
