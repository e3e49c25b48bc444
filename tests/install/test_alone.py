"""Every plugin's wheel with the core alone, in an environment that holds nothing else but what the two require."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))

CREATE = """
import json, logging, sys, tempfile, twister2
from twister2.host import PluginHost
from twister2.host.checks import hook_arguments, spec_class, spec_hooks
from twister2.spec.environment import NodeFacts
from twister2.spec.plugin import KINDS

def context(kind):
    folder = tempfile.mkdtemp()
    if kind == "rm":
        from twister2.spec.rm import RmContext
        return RmContext(state_dir=folder)
    if kind == "state":
        from twister2.spec.state import StateContext
        return StateContext(root=folder)
    if kind == "exec":
        from twister2.spec.executor import ExecutorContext
        names = ("network", "operators", "backend", "report")
        return ExecutorContext(worker_id=0, n_workers=1, attempt=1, job_id="j", threads=1, memory=None,
                               log=logging.getLogger("x"), **dict.fromkeys(names))
    from twister2.spec.comm import TransportContext
    return TransportContext(job_id="j", attempt=1, rank=0, size=1, node=NodeFacts("here"), runtime_dir=folder,
                            session="s", curve_public="", curve_secret="", peer_keys={}, aborted=lambda: False)

host, made = PluginHost(), []
for kind in KINDS.values():
    for record in host.discover(kind.name):
        loaded = host.load(kind.name, record.name)
        backend = None
        if kind.required:
            takes = hook_arguments(spec_hooks(spec_class(kind))[kind.required[0]])
            given = {"context": context(kind.name)} if "context" in takes else {}
            backend = host.create(kind.name, record.name, **given)
        made.append([kind.name, record.name, record.distribution, type(backend).__name__])
foreign = sorted({name.partition(".")[0] for name in sys.modules} - {*sys.stdlib_module_names})
print(json.dumps([made, foreign, twister2.__file__]))
"""


@pytest.mark.parametrize("folder", PLUGINS)
def test_a_plugin_alone_with_the_core_is_listed_loads_and_makes_its_backend(wheels, environment, folder):
    wheel = wheels[f"plugins/{folder}"]
    # The MPI library is an extra, because most clusters have one of their own.
    environment.install(wheels["core"], wheel, extras=("mpich",))
    package = f"twister2_{folder}"
    imported = environment.script(f"import {package}.plugin, {package}; print({package}.__file__)")
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.startswith(str(environment.site))

    listed = environment.twister2("plugins", "list", "--check", "--json")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    rows = json.loads(listed.stdout)
    assert {(row["distribution"], row["state"]) for row in rows} == {(wheel.name, "ok")}

    created = environment.script(CREATE)
    assert created.returncode == 0, created.stderr
    made, _, core = json.loads(created.stdout)
    assert core.startswith(str(environment.site))
    assert [(kind, name) for kind, name, _, _ in made] == [(row["kind"], row["name"]) for row in rows]
    without_backend = {kind for kind, _, _, backend in made if backend == "NoneType"}
    assert without_backend <= {"observe", "api"}

    for row in rows:
        shown = environment.twister2("plugins", "show", row["kind"], row["name"])
        assert shown.returncode == 0, shown.stderr
        assert wheel.name in shown.stdout


def test_mpi_without_an_mpi_library_says_what_to_install(wheels, environment):
    environment.install(wheels["core"], wheels["plugins/comm_mpi"])
    # whatever MPI library the system has is not this one
    created = environment.script('import os; os.environ["MPI4PY_LIBMPI"] = "/nowhere/libmpi.so"\n' + CREATE)
    assert created.returncode != 0
    assert "MPI" in created.stderr
    assert "pip install" in created.stderr
    assert environment.twister2("plugins", "list", "--check").returncode == 0


def test_the_test_kit_alone_with_the_core_writes_a_plugin(wheels, environment):
    environment.install(wheels["core"], wheels["testkit"])
    written = environment.twister2("plugins", "new", "--kind", "sched", "--name", "fair", environment.home)
    assert written.returncode == 0, written.stderr
    assert (environment.home / "sched_fair" / "pyproject.toml").is_file()
    suites = sorted(path.stem for path in (environment.site / "twister2_testkit").glob("*.py"))
    imported = environment.script("import " + ", ".join(f"twister2_testkit.{suite}" for suite in suites))
    assert imported.returncode == 0, imported.stderr
