"""The core without a single plugin, plugins that come and go, and a name that is provided twice."""

from __future__ import annotations

import json
import shutil

import pytest

PROGRAM = "def main(env):\n    print('hello from', env.worker_id)\n"

DEFAULTS = (
    *("comm_inproc", "comm_shm", "comm_tcp", "data_file", "exec_inline", "exec_threads", "net"),
    *("observe_progress", "rm_standalone", "sched_roundrobin", "state_file", "tset"),
)


@pytest.fixture
def core(wheels, environment):
    """An environment with the core and no plugin."""
    environment.install(wheels["core"])
    (environment.home / "hello.py").write_text(PROGRAM, encoding="utf-8")
    return environment


def test_the_core_alone_has_a_working_command_line(core):
    for words in (("--help",), ("version",), ("plugins", "list"), ("config", "show"), ("list",)):
        done = core.twister2(*words)
        assert done.returncode == 0, (words, done.stderr)
        assert done.stdout
        assert "Traceback" not in done.stderr
    assert core.twister2("plugins", "list").stdout == "none\n"
    assert json.loads(core.twister2("version", "--json").stdout)["plugins"] == {}
    shown = core.twister2("config", "show")
    assert "job.workers = 2" in shown.stdout
    assert "warning: job.rm: no rm plugin (resource manager) is called 'standalone'" in shown.stderr
    assert "[job]" in core.twister2("config", "example").stdout


def test_the_core_alone_names_the_command_that_installs_what_is_missing(core):
    done = core.twister2("submit", "standalone", "hello.py")
    assert done.returncode == 2
    assert done.stderr.startswith("[T2-P101] ")
    assert "no rm plugin (resource manager) is called 'standalone'; no rm plugin is installed here" in done.stderr
    assert (
        f"try:     {core.python} -m pip install twister2-rm-standalone twister2-comm-shm twister2-comm-tcp "
        in done.stderr
    )
    assert "Traceback" not in done.stderr

    imported = core.script("import twister2; twister2.run(lambda env: 1)")
    assert "twister2.spec.errors.PluginNotFoundError" in imported.stderr
    assert f"{core.python} -m pip install twister2-rm-standalone" in imported.stderr

    made = core.twister2("plugins", "new", "--kind", "rm", "--name", "mine", core.home)
    assert made.returncode == 2
    assert f"{core.python} -m pip install twister2-testkit" in made.stderr


def test_what_the_remedy_installs_is_enough_to_run_a_job(wheels, core):
    remedy = core.twister2("submit", "standalone", "hello.py").stderr.rpartition(" -m pip install ")[2].split()
    names = [name.removeprefix("twister2-").replace("-", "_") for name in remedy]
    assert set(names) < set(DEFAULTS)
    core.install(*(wheels[f"plugins/{name}"] for name in names))
    done = core.twister2("submit", "standalone", "hello.py")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["hello from 0", "hello from 1"]


def test_a_profile_without_its_plugin_names_the_plugin(wheels, core):
    core.install(*(wheels[f"plugins/{name}"] for name in DEFAULTS))
    done = core.twister2("submit", "slurm", "hello.py")
    assert done.returncode == 2
    assert "[T2-P101] no rm plugin (resource manager) is called 'slurm'" in done.stderr
    assert "job.rm [profile slurm]" in done.stderr
    assert "installed here are: standalone; profiles: none" in done.stderr
    assert f"try:     {core.python} -m pip install twister2-rm-slurm\n" in done.stderr


def test_the_default_wheels_run_a_job_and_another_one_after_a_plugin_was_removed(wheels, core):
    core.install(*(wheels[f"plugins/{name}"] for name in DEFAULTS))
    done = core.twister2("submit", "standalone", "-n", "3", "hello.py")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"hello from {worker}" for worker in range(3)]

    core.pip("uninstall", "--yes", "twister2-comm-tcp")
    assert core.twister2("plugins", "list", "--check").returncode == 0
    missing = core.twister2("submit", "standalone", "hello.py")
    assert missing.returncode == 2
    assert "no comm plugin (transport between workers) is called 'tcp'" in missing.stderr
    assert "installed here are: inproc, shm" in missing.stderr
    assert f"{core.python} -m pip install twister2-comm-tcp" in missing.stderr

    core.pip("uninstall", "--yes", "twister2-observe-progress", "twister2-tset", "twister2-exec-inline")
    threads = ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")
    done = core.twister2("submit", "standalone", *threads, "hello.py")
    assert done.returncode == 0, done.stderr


def test_a_name_that_two_distributions_provide_is_an_error_that_names_both(wheels, core):
    core.install(*(wheels[f"plugins/{name}"] for name in DEFAULTS))
    double = core.site / "acme_standalone-2.0.dist-info"
    double.mkdir()
    (double / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-standalone\nVersion: 2.0\n", encoding="utf-8")
    (double / "entry_points.txt").write_text(
        "[twister2.rm]\nstandalone = acme.plugin:Plugin\n[twister2.sched]\nother = acme.sched:Plugin\n",
        encoding="utf-8",
    )
    refused = core.twister2("submit", "standalone", "hello.py")
    assert refused.returncode == 2
    assert "[T2-P105] rm plugin 'standalone' is provided twice" in refused.stderr
    assert "acme-standalone 2.0" in refused.stderr
    assert "twister2-rm-standalone 0.1.0" in refused.stderr
    listed = core.twister2("plugins", "list", "rm", "--json")
    assert [row["state"] for row in json.loads(listed.stdout)] == ["provided twice"] * 2

    # Broken and not selected: it disturbs nothing once the name is free again.
    (double / "entry_points.txt").write_text("[twister2.sched]\nother = acme.sched:Plugin\n", encoding="utf-8")
    done = core.twister2("submit", "standalone", "hello.py")
    assert done.returncode == 0, done.stderr
    assert core.twister2("plugins", "list", "--check").returncode == 1
    shutil.rmtree(double)
    assert core.twister2("plugins", "list", "--check").returncode == 0
