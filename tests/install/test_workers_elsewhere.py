"""Workers that run in another environment than the submitting side: without a plugin, with another version of it, or
with another Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.install.conftest import BUILD, Wheel

from twister2_testkit.jobs import Done, Jobs

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]
OTHER_PYTHON = "TWISTER2_OTHER_PYTHON"
NEEDED = (
    "core",
    *(f"plugins/{name}" for name in ("exec_threads", "net", "sched_roundrobin", "state_file", "data_file")),
)

CLIENT = """
    import sys
    import twister2.client.prepare as prepare
    from twister2.cli.main import main

    prepare.WORKER_COMMAND = ({python!r}, "-m", "twister2.worker")
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path) as jobs:
        jobs.environment.pop("PYTHONPATH", None)
        yield jobs


def submit(jobs: Jobs, python: Path) -> Done:
    """A job whose workers run in this interpreter."""
    source = (
        "import sys\nfrom twister2_net import allreduce\ndef main(env):\n    print(sys.prefix, allreduce(env, 1))\n"
    )
    program = jobs.program(source)
    client = jobs.program(CLIENT.format(python=str(python)), "client.py")
    return jobs.python(client, "submit", "standalone", "-q", "-n", "2", "-o", "job.comm=tcp", program)


def rebuilt(folder: str, version: str, target: Path) -> Wheel:
    """The wheel of a distribution with another version."""
    copy = target / "sources" / folder
    shutil.copytree(ROOT / folder, copy, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    project = copy / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    assert text.count('version = "0.1.0"') == 1
    project.write_text(text.replace('version = "0.1.0"', f'version = "{version}"'), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(target / "sources"), folder],
        env={**os.environ, "WHEELS": str(target)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Wheel(folder, target / done.stdout.split()[-1])


def test_workers_without_a_plugin_then_with_it_then_with_another_version(wheels, environment, jobs, tmp_path):
    environment.install(*(wheels[folder] for folder in NEEDED))
    says(submit(jobs, environment.python), environment.python, "twister2-comm-tcp", "0.1.0", "not installed")

    environment.install(wheels["plugins/comm_tcp"])
    done = submit(jobs, environment.python)
    assert (done.code, done.out) == (0, f"{environment.folder} 2\n" * 2), done

    environment.install(rebuilt("plugins/comm_tcp", "9.9.9", tmp_path))
    says(submit(jobs, environment.python), environment.python, "twister2-comm-tcp", "0.1.0", "9.9.9")


def test_workers_with_another_python(jobs):
    other = os.environ.get(OTHER_PYTHON)
    if not other:
        pytest.skip(f"{OTHER_PYTHON} names no interpreter (of another Python, with everything installed)")
    ask = [other, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    there = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert here != there
    says(submit(jobs, Path(other)), Path(other), f"runs Python {there}", f"submitted with Python {here}")


def says(done: Done, python: Path, *texts: str) -> None:
    """One error that names the host, the interpreter and all of ``texts``."""
    assert done.code == 2, done
    assert done.err.count("[T2-") == 1, done
    for text in (os.uname().nodename, str(python), *texts):
        assert text in done.err, (text, done)
