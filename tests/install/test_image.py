"""What the Containerfile of rm_k8s installs, from wheels of this repository in place of those of a registry."""

from __future__ import annotations

import re
from pathlib import Path

CONTAINERFILE = Path(__file__).resolve().parents[2] / "plugins" / "rm_k8s" / "Containerfile"
PARTS = """
import twister2.master.entry, twister2.worker.supervisor, twister2_rm_k8s.manager
from twister2.host import PluginHost
host = PluginHost()
host.load("rm", "k8s")
print(*(record.name for kind in ("rm", "comm", "sched", "exec") for record in host.discover(kind)))
"""


def test_it_has_all_that_pods_begin_with(wheels, environment):
    (extra,) = re.findall(r'pip install [^\n]*"twister2\[(\w+)\]==', CONTAINERFILE.read_text())
    ours = {wheel.name: wheel for wheel in wheels.values()}
    chosen, left = set(), {("twister2", (extra,))}
    while left:
        name, extras = left.pop()
        chosen.add(name)
        left |= {(each, ()) for each in ours[name].needs(*extras) if each in ours and each not in chosen}
    environment.install(*(ours[name] for name in sorted(chosen)))
    environment.pip("check")
    done = environment.run("python3", "-c", PARTS)  # as pods call it: offers.python
    assert done.returncode == 0, done.stderr
    assert {"k8s", "tcp", "shm", "roundrobin", "threads"} <= set(done.stdout.split()), done.stdout
    rights = environment.run("python3", "-m", "twister2_rm_k8s.rbac", "team-a")
    assert "kind: ServiceAccount" in rights.stdout, rights.stderr
