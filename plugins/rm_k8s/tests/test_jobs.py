"""Whole jobs on a real Kubernetes: client here, master and workers in pods that see nothing of this machine's files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from twister2_rm_k8s import states
from twister2_testkit.managed import MPI_PROGRAM

pytestmark = [pytest.mark.needs_k8s, pytest.mark.timeout(300)]

PROGRAM = """
import os, signal, sys, time

def main(env):
    print("hello from", env.worker_id, "of", env.n_workers, flush=True)
    env.barrier("all")

def fails(env):
    if env.worker_id == 1:
        raise ValueError("bad luck")
    env.barrier("all")

def waits_twice(env):
    print("attempt", env.attempt, "runs", flush=True)
    while env.attempt < 3:
        time.sleep(0.1)
    print("attempt", env.attempt, "done", flush=True)

def sleeps(env):
    print("asleep", flush=True)
    time.sleep(float(env.args[0]) if env.args else 600)

def groups(env):
    print("worker", env.worker_id, "is", env.controller.workers()[env.worker_id].group, flush=True)
    time.sleep(600)

def eats(env):
    print("eating", flush=True)
    held = [bytearray(1 << 24) for _ in range(100)]
    time.sleep(600)

def looks(env):
    from pathlib import Path
    print("user", os.getuid(), "group", os.getgid(), flush=True)
    try:
        Path("/etc/passwd").write_text("x")
    except OSError as error:
        print("root:", error.strerror, flush=True)
    Path("/tmp/x").write_text("x")
    print("token:", Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists(), flush=True)
"""

COUNTS = """
import os, time

def main(env):
    steps = env.state("steps", 0)
    print("attempt", env.attempt, "of", env.n_workers, "from", steps.value, flush=True)
    while not env.controller.exchange("enough", os.path.exists(env.args[0]))[0]:
        steps.value += 1
        env.commit()
        time.sleep(0.3)
    print("of", env.n_workers, "ends", flush=True)
"""

SHARED = """
# A volume that all pods see, as checkpoints need it.
spec:
  containers: [{name: "*", volumeMounts: [{name: shared, mountPath: %(folder)s}]}]
  volumes: [{name: shared, hostPath: {path: %(folder)s}}]
"""


@pytest.fixture
def twister2(tmp_path, kubernetes):
    """Runs the command in a folder with the program, with a profile for the cluster; ends what was started."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "twister2.toml").write_text(
        "[job]\nworkers = 2\ncpus = 0.05\n"
        f'[rm.k8s]\nnamespace = "{kubernetes.name}"\nimage = "twister2/worker:1"\nimage_pull_policy = "Never"\n'
    )
    environment = {**os.environ, "TWISTER2__JOB__STATE_DIR": str(tmp_path / "state")}
    started = []

    def start(*arguments, **more):
        command = [sys.executable, "-m", "twister2.cli.main", *map(str, arguments)]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for stream in (process.stdout, process.stderr):
            stream.close()


def finish(process, seconds=120):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def of_job(kubernetes, job_id, kind="pods", **labels):
    chosen = ",".join([f"twister2.org/job={job_id}", *(f"twister2.org/{key}={value}" for key, value in labels.items())])
    return kubernetes.items(kind, labelSelector=chosen)


def nothing_left(kubernetes, job_id):
    kinds = ("jobs", "pods", "secrets", "services", "configmaps")
    return not [body["metadata"]["name"] for kind in kinds for body in of_job(kubernetes, job_id, kind)]


def job_of(tmp_path):
    (folder,) = (tmp_path / "state" / "jobs").iterdir()
    return folder.name


def running(kubernetes, job_id, count, role="worker"):
    pods = [body for body in of_job(kubernetes, job_id, role=role) if body["status"].get("phase") == "Running"]
    return pods if len(pods) == count else None


def detached(twister2, *arguments):
    code, out, err = finish(twister2("submit", "k8s", "--detach", *arguments))
    assert code == 0, err
    return out.strip()


@pytest.mark.parametrize("master", ["allocation", "client"])
def test_hello_and_nothing_is_left(twister2, tmp_path, kubernetes, master):
    code, out, err = finish(twister2("submit", "k8s", "-n", 3, "-o", f"job.master={master}", "program.py"))
    assert code == 0, err
    assert sorted(out.splitlines()) == [f"hello from {worker} of 3" for worker in range(3)]
    assert nothing_left(kubernetes, job_of(tmp_path)), kubernetes.left()


def test_pods_may_little_unless_told_otherwise(twister2):
    code, out, err = finish(twister2("submit", "k8s", "-n", 1, "program.py:looks"))
    assert code == 0, err
    assert out.splitlines() == ["user 1000 group 1000", "root: Read-only file system", "token: False"]


def test_a_workers_error_is_the_jobs(twister2, tmp_path, kubernetes):
    code, _, err = finish(twister2("submit", "k8s", "program.py:fails"))
    assert code != 0
    assert "bad luck" in err
    assert nothing_left(kubernetes, job_of(tmp_path)), kubernetes.left()


def test_workers_that_differ(twister2, kubernetes):
    groups = ("-o", "job.groups.big={count=1,memory_mb=300}", "-o", "job.groups.thin={count=1,memory_mb=200}")
    job_id = detached(twister2, *groups, "program.py:groups")
    kubernetes.until(lambda: finish(twister2("logs", job_id))[1].count(" is ") == 2)
    logs = finish(twister2("logs", job_id))[1]
    assert "worker 0 is big" in logs
    assert "worker 1 is thin" in logs
    limits = {
        body["metadata"]["labels"]["twister2.org/group"]: body["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for body in of_job(kubernetes, job_id, role="worker")
    }
    assert limits == {"big": "300Mi", "thin": "200Mi"}
    assert finish(twister2("kill", job_id))[0] == 0
    assert nothing_left(kubernetes, job_id), kubernetes.left()


def test_the_word_count(twister2, tmp_path, kubernetes):
    """The example as it is, over files that the image has."""
    example = Path(__file__).parents[3] / "examples" / "wordcount.py"
    library = Path(os.__file__).parent
    code, out, err = finish(twister2("submit", "k8s", example, f"{library}/a*.py", "--top", 3))
    assert code == 0, err
    lines = sum(path.read_bytes().count(b"\n") for path in library.glob("a*.py"))
    assert f"{lines:,} lines read" in out, out
    assert nothing_left(kubernetes, job_of(tmp_path)), kubernetes.left()


def test_two_jobs_at_once_and_odd_names(twister2):
    names = ["two words; and $(more) 'quotes'", "größe 数据 " + "n" * 300]
    clients = [twister2("submit", "k8s", "-n", 1, "--name", name, "program.py") for name in names]
    for client in clients:
        code, out, err = finish(client)
        assert code == 0, err
        assert out == "hello from 0 of 1\n"


def test_pods_that_are_deleted_or_evicted_are_replaced_and_the_job_goes_on(twister2, tmp_path, kubernetes):
    client = twister2("submit", "k8s", "program.py:waits_twice")

    def victim(attempt):
        """The pod of worker 0 in this attempt."""
        while f"attempt {attempt} runs" not in (line := client.stdout.readline()):
            assert line, client.stderr.read()
        pods = kubernetes.until(lambda: running(kubernetes, job_of(tmp_path), 2))
        return min(body["metadata"]["name"] for body in pods)

    kubernetes.api.delete(kubernetes.path("pods", victim(1)), grace_s=1)
    name = victim(2)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": kubernetes.name}}
    kubernetes.api.create(kubernetes.path("pods", name) + "/eviction", eviction)
    code, out, err = finish(client)
    assert code == 0, err
    assert out.count("attempt 3 done") == 2
    job_id = job_of(tmp_path)
    events = (tmp_path / "state" / "jobs" / job_id / "events.jsonl").read_text().splitlines()
    lost = [event["why"] for event in map(json.loads, events) if event["event"] == "worker_lost"]
    assert "evict" in lost[-1].lower(), lost
    assert nothing_left(kubernetes, job_id), kubernetes.left()


def test_killed_from_another_shell_when_the_client_is_gone(twister2, kubernetes):
    job_id = detached(twister2, "program.py:sleeps")
    kubernetes.until(lambda: finish(twister2("logs", job_id))[1].count("asleep") == 2)
    code, out, err = finish(twister2("status", job_id))
    assert code == 0, err
    assert "running" in out.lower()
    code, _, err = finish(twister2("kill", job_id))
    assert code == 0, err
    assert nothing_left(kubernetes, job_id), kubernetes.left()
    assert "killed" in finish(twister2("status", job_id))[1].lower()
    assert finish(twister2("kill", job_id))[0] == 0, "a job that has ended is no error"


def test_a_detached_job_ends_and_says_so_later(twister2, kubernetes):
    job_id = detached(twister2, "program.py:sleeps", "1")
    kubernetes.until(lambda: not of_job(kubernetes, job_id, "secrets"))
    assert of_job(kubernetes, job_id, "configmaps")
    code, out, err = finish(twister2("wait", job_id))
    assert code == 0, (out, err)
    assert finish(twister2("logs", job_id))[1].count("asleep") == 2
    assert nothing_left(kubernetes, job_id), kubernetes.left()


def test_an_ended_job_that_nobody_asks_for_goes_when_it_is_told_to(twister2, kubernetes):
    job_id = detached(twister2, "-o", "rm.k8s.keep_s=2", "program.py")
    assert of_job(kubernetes, job_id, "configmaps")
    kubernetes.until(lambda: nothing_left(kubernetes, job_id), 180)
    code, out, err = finish(twister2("status", job_id))
    assert code == 0, err
    assert "failed" in out.lower(), out
    assert "the cluster has nothing of it" in " ".join(out.split()), out


def kill_master(job_id):
    """kill -9 of the job master's process, in its container; False when none runs."""
    killed = False
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words, environment = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
            if b"twister2.master" in words.split(b"\0") and job_id.encode() in environment:
                os.kill(int(path.name), signal.SIGKILL)
                killed = True
    return killed


@pytest.mark.parametrize("gone", ["process", "pod"])
def test_a_job_master_that_dies_is_started_again_and_takes_its_workers_back(twister2, tmp_path, kubernetes, gone):
    """The workers' pods are the same all the time. When it dies in its pod they wait as long as it is promised
    (job.master_return_s as it is); for another pod Kubernetes may need longer: it waits for the end of the old one.
    """
    (tmp_path / "counts.py").write_text(COUNTS)
    (tmp_path / "pod.yaml").write_text(SHARED % {"folder": kubernetes.shared})
    enough = kubernetes.shared / f"returned-{gone}"
    options = ["-o", f"state.file.path={kubernetes.shared}/returns-{gone}", "-o", "rm.k8s.pod_template=pod.yaml"]
    if gone == "pod":
        options += ["-o", "job.master_return_s=90"]
    client = twister2("submit", "k8s", "-n", 2, *options, "counts.py", enough)

    def until_line(text):
        while text not in (line := client.stdout.readline()):
            assert line, client.stderr.read()
        return line

    until_line("attempt 1")
    job_id = job_of(tmp_path)
    kubernetes.until(lambda: "commit" in finish(twister2("status", job_id))[1])
    workers = {body["metadata"]["uid"] for body in of_job(kubernetes, job_id, role="worker")}
    (master,) = of_job(kubernetes, job_id, role="master")
    if gone == "process":
        assert kill_master(job_id)
    else:
        kubernetes.api.delete(kubernetes.path("pods", master["metadata"]["name"]))
    assert "from 0" not in until_line("attempt 2")
    assert {body["metadata"]["uid"] for body in of_job(kubernetes, job_id, role="worker")} == workers
    (returned,) = (body for body in of_job(kubernetes, job_id, role="master") if states.runs(body))
    assert (returned["metadata"]["uid"] == master["metadata"]["uid"]) is (gone == "process")
    code, out, err = finish(twister2("status", job_id))
    assert "running" in out.lower(), (out, err)
    enough.touch()
    code, out, err = finish(client)
    assert code == 0, err
    assert out.count("of 2 ends") == 2
    assert nothing_left(kubernetes, job_id), kubernetes.left()


def test_a_job_master_that_dies_too_often_is_the_end_and_says_so(twister2, tmp_path, kubernetes):
    client = twister2("submit", "k8s", "-o", "rm.k8s.master_restarts=1", "program.py:sleeps")
    for _ in range(2):
        while "asleep" not in (line := client.stdout.readline()):
            assert line, client.stderr.read()
        kubernetes.until(lambda: kill_master(job_of(tmp_path)))
    code, _, err = finish(client)
    assert code != 0
    assert "the job master" in err, err
    assert "BackoffLimitExceeded" in err, err
    assert nothing_left(kubernetes, job_of(tmp_path)), kubernetes.left()
    code, out, _ = finish(twister2("status", job_of(tmp_path)))
    assert "failed" in out.lower(), out


def test_scaled_up_and_down_from_another_shell(twister2, tmp_path, kubernetes):
    (tmp_path / "counts.py").write_text(COUNTS)
    (tmp_path / "pod.yaml").write_text(SHARED % {"folder": kubernetes.shared})
    options = ("-o", f"state.file.path={kubernetes.shared}/state", "-o", "rm.k8s.pod_template=pod.yaml")
    client = twister2("submit", "k8s", "-n", 2, *options, "counts.py", kubernetes.shared / "enough")
    while "attempt 1" not in (line := client.stdout.readline()):
        assert line, client.stderr.read()
    job_id = job_of(tmp_path)
    for size in (3, 1):
        code, out, err = finish(twister2("scale", job_id, size))
        assert code == 0, (out, err)
        kubernetes.until(lambda size=size: running(kubernetes, job_id, size))
    code, out, err = finish(twister2("restart", job_id))
    assert code == 0, (out, err)
    assert "begins again from commit" in out
    (kubernetes.shared / "enough").touch()
    code, out, err = finish(client)
    assert code == 0, err
    assert "of 3" in out
    assert "attempt 4 of 1 from" in out
    assert "of 1 ends" in out
    assert nothing_left(kubernetes, job_id), kubernetes.left()


SPREAD = """
# As many workers of a job on each node, or one more.
spec:
  topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: DoNotSchedule
    labelSelector: {matchLabels: {twister2.org/role: worker}}
    matchLabelKeys: [twister2.org/job]
"""


@pytest.mark.needs_mpi
@pytest.mark.timeout(300)  # two jobs, four worlds
def test_mpi_between_pods_of_one_node_and_of_two_without_mpirun(twister2, tmp_path, kubernetes):
    """Of three pods two share a node, but no memory. A program is killed, a pod deleted, a job killed."""
    (tmp_path / "mpi.py").write_text(MPI_PROGRAM)
    (tmp_path / "pod.yaml").write_text(SPREAD)
    options = ("-n", 3, "-o", "job.comm=mpi", "-o", "rm.k8s.pod_template=pod.yaml")
    code, out, err = finish(twister2("submit", "k8s", *options, "mpi.py"))
    assert code == 0, err
    assert out.splitlines() == ["True 6.0 3 with 3 memories"] * 3
    assert nothing_left(kubernetes, job_of(tmp_path)), kubernetes.left()
    job_id = detached(twister2, *options, "mpi.py:goes_on")
    kubernetes.until(lambda: finish(twister2("logs", job_id))[1].count("goes on") >= 3)
    found = kubernetes.until(lambda: running(kubernetes, job_id, 3))
    pods = {body["metadata"]["name"]: body["spec"]["nodeName"] for body in found}
    assert sorted(Counter(pods.values()).values()) == [1, 2], pods
    kubernetes.api.delete(kubernetes.path("pods", min(pods)), grace_s=1)
    kubernetes.until(lambda: finish(twister2("logs", job_id))[1].count("goes on") >= 6)
    code, _, err = finish(twister2("kill", job_id))
    assert code == 0, err
    assert nothing_left(kubernetes, job_id), kubernetes.left()


def test_deleting_the_root_deletes_all(twister2, kubernetes):
    job_id = detached(twister2, "program.py:sleeps")
    kubernetes.until(lambda: running(kubernetes, job_id, 2))
    kubernetes.api.delete(kubernetes.path("configmaps", f"t2-{job_id}"))
    kubernetes.until(lambda: nothing_left(kubernetes, job_id))


def test_out_of_memory_is_told(twister2):
    code, out, err = finish(twister2("submit", "k8s", "-n", 1, "-o", "job.memory_mb=200", "program.py:eats"))
    assert code != 0
    assert "out of memory" in err, (out, err)


def test_the_walltime(twister2, tmp_path, kubernetes):
    code, _, err = finish(twister2("submit", "k8s", "-n", 1, "-o", "job.walltime_s=8", "program.py:sleeps"))
    assert code == 5, err
    assert "reached its time limit of 8 s" in err
    assert nothing_left(kubernetes, job_of(tmp_path)), kubernetes.left()


def test_the_ticket_is_in_no_object_but_its_secret(twister2, kubernetes):
    job_id = detached(twister2, "program.py:sleeps")
    kubernetes.until(lambda: running(kubernetes, job_id, 2))
    (folder,) = [
        secret for secret in of_job(kubernetes, job_id, "secrets") if secret["metadata"]["name"] == f"t2-{job_id}"
    ]
    import base64

    key = json.loads(base64.b64decode(folder["data"]["ticket"]))["join_key"]
    for kind in ("jobs", "pods", "services", "configmaps", "events"):
        assert key not in json.dumps(kubernetes.items(kind)), kind
    assert finish(twister2("kill", job_id))[0] == 0


def test_the_cluster_accepts_what_a_dry_run_prints(twister2, kubernetes):
    code, out, err = finish(twister2("submit", "k8s", "--dry-run", "-o", "job.walltime_s=60", "program.py"))
    assert code == 0, err
    shown = list(yaml.safe_load_all(out))
    assert len(shown) == 6
    for body in shown:
        path = kubernetes.path(f"{body['kind'].lower()}s")
        kubernetes.api.call("POST", path, body, query={"dryRun": "All"})
    assert nothing_left(kubernetes, shown[0]["metadata"]["labels"]["twister2.org/job"])


# -- what cannot start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("rm.k8s.image=twister2/nothing:1",), ("is not on the node", "ErrImageNeverPull", "twister2/nothing:1")),
        (("rm.k8s.image=Not A Name",), ("image", "InvalidImageName")),
        (("rm.k8s.unschedulable_s=2", "job.cpus=1000"), ("no node has room", "Insufficient cpu")),
    ],
)
def test_what_cannot_start_fails_with_the_clusters_words(twister2, tmp_path, kubernetes, options, words):
    """By itself: no deadline of the job is near."""
    patient = ("job.start_deadline_s=3600", "job.queue_deadline_s=3600")
    settings = [text for option in (*patient, *options) for text in ("-o", option)]
    code, _, err = finish(twister2("submit", "k8s", "-n", 1, *settings, "program.py"))
    assert code != 0
    assert all(word in err for word in words), err
    assert nothing_left(kubernetes, job_of(tmp_path)), kubernetes.left()


def test_more_than_the_quota_is_refused_at_once(twister2, kubernetes, tmp_path):
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "500"}}}
    kubernetes.api.create(kubernetes.path("resourcequotas"), quota)
    try:
        code, _, err = finish(twister2("submit", "k8s", "-n", 600, "program.py"))
        assert code != 0
        assert "T2-R304" in err
        assert "pods 601 of 500 (quota small)" in err
        assert not list((tmp_path / "state" / "jobs").glob("*"))
    finally:
        kubernetes.api.delete(kubernetes.path("resourcequotas", "small"))


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_namespace_that_is_not_there(twister2):
    code, _, err = finish(twister2("submit", "k8s", "-o", "rm.k8s.namespace=nowhere", "program.py"))
    assert code != 0
    assert 'namespaces "nowhere" not found' in err
    assert "rm.k8s.namespace" in err


def kubeconfig(tmp_path, **changes):
    import yaml

    document = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for key, value in changes.items():
        if key == "token":
            document["users"][0]["user"] = {"token": value}
        else:
            document["clusters"][0]["cluster"][key.replace("_", "-")] = value
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_an_expired_token(twister2, tmp_path):
    code, _, err = finish(twister2("submit", "k8s", "program.py", KUBECONFIG=kubeconfig(tmp_path, token="old")))
    assert code != 0
    assert "does not accept the credentials" in err
    assert "log in again" in err


def test_somebody_without_rights(twister2):
    nobody = os.path.join(os.environ["TWISTER2_K8S_HOME"], "cp", "nobody.kubeconfig")
    code, _, err = finish(twister2("submit", "k8s", "program.py", KUBECONFIG=nobody))
    assert code != 0
    assert "cannot create resource" in err
    assert "twister2_rm_k8s.rbac" in err


def test_another_certificate_authority(twister2, tmp_path):
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=other -keyout {os.devnull} -out ca.crt"
    subprocess.run(make, shell=True, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    wrong = kubeconfig(tmp_path, certificate_authority=str(tmp_path / "ca.crt"))
    code, _, err = finish(twister2("submit", "k8s", "program.py", KUBECONFIG=wrong))
    assert code != 0
    assert "certificate is not trusted" in err


def test_a_server_that_is_down(twister2, tmp_path):
    down = kubeconfig(tmp_path, server="https://127.0.0.1:1")
    code, _, err = finish(twister2("submit", "k8s", "program.py", KUBECONFIG=down))
    assert code != 0
    assert "does not answer" in err
    assert "Connection refused" in err
    assert not list((tmp_path / "state" / "jobs").glob("*"))
