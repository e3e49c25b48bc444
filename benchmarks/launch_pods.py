"""What Twister2 adds to the start of many pods on Kubernetes.

In turns: a bare Indexed Job of N pods, and an allocation of N workers by the backend of ``rm.k8s``, both until all pods
are said to run, and their removal. On nodes that KWOK pretends (``tests/clusters/kwok.sh``), so that no pod runs
anything: this is the way of the launch, not that of a job.

    tests/clusters/k8s.sh start 1 && tests/clusters/kwok.sh start 20
    eval "$(tests/clusters/k8s.sh env)"; python benchmarks/launch_pods.py --pods 500 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
import uuid

from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_k8s.config import KubernetesConfig
from twister2_rm_k8s.plugin import KubernetesPlugin

MARK = "kwok.x-k8s.io/node"
IMAGE = "docker.io/twister2/worker:1"
LIMIT_S = 600.0
POLL_S = 0.5


def kubectl(*arguments: str, text: str = "") -> str:
    """What kubectl answers."""
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def bare(pods: int) -> float:
    """Seconds until a bare Job's pods run."""
    name = f"bare-{uuid.uuid4().hex[:8]}"
    container = {
        "name": "c",
        "image": IMAGE,
        "command": ["sleep", "600"],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    spec = {"restartPolicy": "Never", "nodeSelector": {MARK: "fake"}, "containers": [container]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "parallelism": pods,
            "completions": pods,
            "template": {"spec": spec},
        },
    }
    begin = time.monotonic()
    kubectl("create", "-f", "-", text=json.dumps(job))
    chosen = ("-l", f"batch.kubernetes.io/job-name={name}", "--field-selector=status.phase=Running")
    while len(kubectl("get", "pods", *chosen, "-o", "name").split()) < pods:
        if time.monotonic() - begin > LIMIT_S:
            raise SystemExit(f"not all of {pods} pods run after {LIMIT_S:g} s")
        time.sleep(POLL_S)
    took = time.monotonic() - begin
    kubectl("delete", "job", name, "--cascade=foreground", "--wait=true", "--timeout=300s")
    return took


def ours(pods: int) -> dict[str, float]:
    """Seconds of each part of a launch by the backend."""
    config = KubernetesConfig(image=IMAGE, node_selector={MARK: "fake"})
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        rm = KubernetesPlugin().rm_create(config=config, context=RmContext(folder))
        job_id = f"pods-{uuid.uuid4().hex[:12]}"
        allocation = Allocation(
            job_id=job_id,
            name="many pods",
            groups=(ResourceGroup("worker", pods, cpus=0.1, memory_mb=64),),
            worker_command=("sleep", "600"),
            master_command=(),
            environment={},
            ticket=b"{}",
            master_ticket=b"",
            folder=f"{folder}/{job_id}",
        )
        begin = time.monotonic()
        handle = rm.submit(allocation)
        took["submit"] = time.monotonic() - begin
        looks = []
        try:
            while True:
                look = time.monotonic()
                status = rm.state(handle)
                looks.append(time.monotonic() - look)
                if list(status.slots.values()).count("running") == pods:
                    break
                if time.monotonic() - begin > LIMIT_S or status.state.final:
                    raise SystemExit(f"not all of {pods} pods run: {status}")
                time.sleep(POLL_S)
            took["running"] = time.monotonic() - begin
            took["one look"] = statistics.median(looks)
            at = time.monotonic()
            rm.publish(handle, b'{"addresses": []}')
            took["publish"] = time.monotonic() - at
        finally:
            at = time.monotonic()
            rm.kill(handle, 0.0)
            rm.clean(handle)
            took["kill and clean"] = time.monotonic() - at
            rm.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for number in range(options.rounds):
        without = bare(options.pods)
        parts = ours(options.pods)
        told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
        print(
            f"round {number + 1}: bare Job {without:.1f} s; ours {told} s; added {parts['running'] - without:+.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
