"""Hosts by ssh, beside `ssh HOST true`: those of tests/clusters/hosts.sh, which $TWISTER2_HOSTS_HOME names."""

# benchmark: venv=twister2 packages=twister2-rm-standalone
from __future__ import annotations

import os

from harness.managers import main, output, why_down

HOME = os.environ.get("TWISTER2_HOSTS_HOME", "")
SSH = ["ssh", "-F", os.path.join(HOME, "ssh_config")]


def options() -> list[str]:
    words = ",".join(f'"{word}"' for word in SSH)
    return ['rm.standalone.hosts=["h1","h2"]', f"rm.standalone.ssh=[{words}]"]


if __name__ == "__main__":
    main(
        "standalone",
        bare=lambda workers: output([*SSH, "h1", "true"]),
        down=lambda: why_down([*SSH, "h1", "true"]) if HOME else "TWISTER2_HOSTS_HOME is not set",
        options=options,
        masters=("client",),
    )
