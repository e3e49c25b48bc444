"""What start-up may cost: the modules that commands, and all processes of a job, import before the user's program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.startup

DATA = {"numpy", "pyarrow", "mpi4py", "asyncio", "fsspec", "pandas", "polars"}
"""What no process of a job without data imports."""

SILENT = {*DATA, "zmq", "cloudpickle", "attrs", "stevedore", "importlib.metadata", "tomllib"}
"""What a command that touches no job and no plugin imports neither."""

LISTING = SILENT - {"attrs", "importlib.metadata", "stevedore"}
"""Looking into metadata of distributions is what listing plugins is for."""

CLIENT = {"twister2.spec." + name for name in ("channel", "memory", "network", "patterns", "plan", "stored", "tasks")}
CLIENT |= {"twister2.client.lines", "twister2.worker.environment", "twister2_rm_standalone.logs", "subprocess"}
CLIENT |= {"logging", "traceback"}
"""What a client does not import, nor the job master that is forked from it, for a job whose workers are processes."""

WORKER = {"pluggy", "stevedore", "importlib.metadata", "twister2.config", "twister2.host"}
"""What the processes of workers do not import for a program that uses their environment alone."""

HELLO = """
    def main(env):
        print("hello from", env.worker_id)
"""


def loaded_by(*words: str, code: str = "from twister2.cli.main import main; main(sys.argv[1:])") -> set[str]:
    """Names in ``sys.modules`` of a fresh interpreter after ``code``."""
    script = f"import sys\ntry:\n    {code}\nfinally:\n    print('\\n' + ' '.join(sys.modules))"
    environment = {**os.environ, "TWISTER2_SITE_CONFIG": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    return set(done.stdout.splitlines()[-1].split())


def loaded_by_nothing() -> set[str]:
    """What this interpreter's ``.pth`` files load already."""
    return loaded_by(code="pass")


def test_importing_the_package_imports_nothing_but_itself():
    ours = loaded_by(code="import twister2") - loaded_by_nothing()
    assert not ours & SILENT
    assert {name for name in ours if name.startswith("twister2")} == {"twister2"}
    assert len(ours) < 60, sorted(ours)


@pytest.mark.parametrize("words", [("--help",), ("version",), ("help",)])
def test_help_and_version_touch_no_plugin(words):
    ours = loaded_by(*words) - loaded_by_nothing()
    assert not ours & SILENT
    assert not {name for name in ours if name.startswith(("twister2.host", "twister2.spec", "twister2_"))}


@pytest.mark.parametrize("words", [("plugins", "list"), ("plugins", "list", "rm", "--json"), ("version", "--json")])
def test_listing_plugins_imports_none_of_them(words):
    ours = loaded_by(*words) - loaded_by_nothing()
    assert not ours & LISTING
    assert not {name for name in ours if name.startswith("twister2_")}


def test_showing_the_configuration_imports_no_backend():
    ours = loaded_by("config", "show") - loaded_by_nothing()
    assert not ours & (SILENT - {"attrs", "importlib.metadata", "stevedore", "tomllib"})


@pytest.mark.parametrize("way", ["submit", "run"])
def test_no_process_of_a_hello_world_imports_data_libraries(jobs, imports, way):
    jobs.environment.update(imports.environment)
    program = jobs.program(HELLO)
    if way == "submit":
        done = jobs.submit(program)
    else:
        text = program.read_text(encoding="utf-8")
        program.write_text(f"{text}\nimport twister2\nif __name__ == '__main__':\n    twister2.run(main, workers=2)\n")
        done = jobs.python(program)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["hello from 0", "hello from 1"]
    found = imports.everywhere()
    # The recorder was there: in the client, in the master, in the launcher and in supervisors (whose imports user
    # processes inherit).
    assert {"twister2.client.session", "twister2.master.process", "twister2.worker.supervisor"} <= found
    assert {"twister2.worker.user", "twister2_rm_standalone.launcher"} <= found
    heavy = {pid: names & DATA for pid, names in imports.by_process().items() if names & DATA}
    assert not heavy


def test_no_process_of_a_hello_world_imports_what_others_need(jobs, imports):
    jobs.environment.update(imports.environment)
    done = jobs.submit(jobs.program(HELLO), "-q")
    assert done.code == 0, done
    by_process = imports.by_process()
    client = next(pid for pid, names in by_process.items() if "twister2.client.session" in names)
    master = next(pid for pid, names in by_process.items() if "twister2.master.process" in names)
    launcher = next(pid for pid, names in by_process.items() if "twister2_rm_standalone.launcher" in names)
    assert not (by_process[client] | by_process[master]) & CLIENT
    workers = set(by_process) - {client, master}
    assert launcher in workers
    assert not {pid: names & WORKER for pid, names in by_process.items() if pid in workers and names & WORKER}


def test_what_the_program_itself_imports_is_seen_and_stays_in_its_process(jobs, imports):
    """The measurement measures: a program's own import shows up, in its user processes only."""
    jobs.environment.update(imports.environment)
    source = "import os\ndef main(env):\n    import asyncio\n    print('pid', os.getpid())\n"
    done = jobs.submit(jobs.program(source))
    assert done.code == 0, done
    users = {int(line.split()[1]) for line in done.out.splitlines()}
    assert len(users) == 2
    assert {pid for pid, names in imports.by_process().items() if "asyncio" in names} == users


def test_user_processes_inherit_what_the_launcher_imported_once(jobs, imports):
    """N workers cost one import of the worker's modules, not N."""
    jobs.environment.update(imports.environment)
    done = jobs.submit(jobs.program(HELLO), workers=4)
    assert done.code == 0, done
    for module in ("twister2.worker.supervisor", "twister2.worker.environment", "zmq"):
        importers = [pid for pid, names in imports.by_process().items() if module in names]
        # zmq is also imported by the client, which the master inherits when it is forked
        assert len(importers) <= 2, (module, importers)


def test_plugins_import_their_backends_when_these_are_made():
    code = "import {0}.plugin"
    folders = sorted(path.parent.name for path in (Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml"))
    assert len(folders) >= 10
    for folder in folders:
        package = f"twister2_{folder}"
        ours = loaded_by(code=code.format(package)) - loaded_by_nothing()
        assert not ours & (DATA | {"zmq", "cloudpickle"}), package
