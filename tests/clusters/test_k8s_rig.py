"""What takes a whole cluster, which no other test may use meanwhile: a node that dies, an API server that is down."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.needs_k8s, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parent / "k8s.sh"
PROGRAM = """
import os, time

def main(env):
    print("attempt", env.attempt, "runs", flush=True)
    if env.args:
        time.sleep(float(env.args[0]))
    while not env.args and env.attempt == 1:
        time.sleep(0.1)
    env.barrier("end")
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two nodes of its own; gives a function that runs the script on it."""
    if os.getuid() != 0:
        pytest.skip("only root may make namespaces")
    home = tmp_path_factory.mktemp("k8s")
    environment = {**os.environ, "TWISTER2_K8S_HOME": str(home), "KUBECONFIG": str(home / "admin.kubeconfig")}
    images = Path(os.environ["TWISTER2_K8S_HOME"]) / "images"
    shutil.copytree(images, home / "images", copy_function=os.link)  # made of this checkout already

    def run(*arguments, seconds=150):
        # into a file: daemons that are started keep what they were given open
        with open(home / "out", "w+") as out:
            process = subprocess.Popen(
                [SCRIPT, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            code = process.wait(seconds)
            out.seek(0)
            text = out.read()
        assert code == 0, text
        return text

    run.environment, run.home = environment, home
    try:
        run("start", "2")
        subprocess.run(
            [sys.executable, "-m", "twister2_rm_k8s.rbac", "default", "--apply"],
            env=environment,
            check=True,
            timeout=60,
        )
        yield run
    finally:
        run("clean")


@pytest.fixture
def twister2(tmp_path, cluster):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "twister2.toml").write_text(
        '[job]\nworkers = 2\ncpus = 0.05\n[rm.k8s]\nimage = "twister2/worker:1"\nimage_pull_policy = "Never"\n'
    )
    environment = {**cluster.environment, "TWISTER2__JOB__STATE_DIR": str(tmp_path / "state")}
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "twister2.cli.main", *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()
        process.stderr.close()


def nothing_left(cluster):
    return "No resources found" in cluster("kubectl", "get", "all,configmaps,secrets", "-l", "twister2.org/job")


def read_until(process, words):
    while words not in (line := process.stdout.readline()):
        assert line, process.stderr.read()


def test_the_server_is_down_during_the_run_and_the_job_goes_on(cluster, twister2):
    code, job_id = (
        (client := twister2("submit", "k8s", "--detach", "program.py", "15")).wait(60),
        client.stdout.read().strip(),
    )
    assert code == 0
    end = time.monotonic() + 60
    while cluster("kubectl", "get", "pods", "--field-selector=status.phase=Running", "-o", "name").count("pod/") < 3:
        assert time.monotonic() < end
    time.sleep(4)
    cluster("stop-server")
    try:
        killed = twister2("kill", job_id)
        assert killed.wait(120) != 0
        assert "does not answer" in killed.stderr.read()
    finally:
        cluster("start-server")
    waited = twister2("wait", job_id)
    assert waited.wait(120) == 0, waited.stderr.read()
    logs = twister2("logs", job_id)
    assert logs.communicate(timeout=60)[0].count("done") == 2
    assert nothing_left(cluster)


def nodes_of(cluster, role):
    """Names of the nodes that have a job's pods of this role."""
    path = "jsonpath={.items[*].spec.nodeName}"
    return cluster("kubectl", "get", "pods", "-l", f"twister2.org/role={role}", "-o", path).split()


def test_a_node_of_workers_that_dies_takes_no_job_with_it(cluster, twister2):
    client = twister2("submit", "k8s", "program.py")
    read_until(client, "attempt 1 runs")
    (node,) = nodes_of(cluster, "master")
    other = {"k1": "k2", "k2": "k1"}[node]
    assert other in nodes_of(cluster, "worker"), "the scheduler spreads pods of a size over nodes"
    cluster("kill-node", other)
    try:
        out, err = client.communicate(timeout=180)
        assert client.returncode == 0, err
        assert out.count("done") == 2
    finally:
        cluster("start-node", other)
    assert nothing_left(cluster)


@pytest.mark.parametrize("restarts", [3, 0])
def test_the_node_of_the_job_master_dies(cluster, twister2, restarts):
    """The next life is elsewhere, and the job goes on, though no worker that had the package is left; where there is no
    other life, any shell hears why.
    """
    submitted = twister2("submit", "k8s", "--detach", "-o", f"rm.k8s.master_restarts={restarts}", "program.py")
    assert submitted.wait(60) == 0, submitted.stderr.read()
    job_id = submitted.stdout.read().strip()
    follows = twister2("logs", job_id, "-f")
    for _ in range(2):
        read_until(follows, "attempt 1 runs")
    follows.kill()
    (node,) = nodes_of(cluster, "master")
    cluster("kill-node", node)
    try:
        if restarts:
            workers = ("-l", "twister2.org/role=worker", "--grace-period=1", "--wait=false")
            cluster("kubectl", "delete", "pods", *workers)
        waited = twister2("wait", job_id)
        _, err = waited.communicate(timeout=180)
        if restarts:
            assert waited.returncode == 0, err
            assert twister2("logs", job_id).communicate(timeout=60)[0].count("done") == 2
        else:
            assert waited.returncode == 1, err
            assert "the job master ended (its node was lost)" in err
    finally:
        cluster("start-node", node)
    assert nothing_left(cluster)
