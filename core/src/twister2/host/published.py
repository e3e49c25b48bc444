"""The plugins that this project publishes: whose installation an error may recommend.

A name that is not here is mistyped, or a plugin of somebody else. A distribution's name made up from it could be
anybody's on a package index, so nothing is recommended then. A test compares this list with the repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.host.installed import install_command
from twister2.host.records import distribution_name

if TYPE_CHECKING:
    from collections.abc import Mapping

PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "rm": ("k8s", "mesos", "nomad", "slurm", "standalone"),
    "comm": ("inproc", "mpi", "shm", "tcp"),
    "ops": ("net",),
    "sched": ("datalocality", "firstfit", "roundrobin"),
    "exec": ("inline", "threads"),
    "data": ("file",),
    "state": ("file",),
    "observe": ("progress",),
    "api": ("harp", "tset"),
    "command": ("bench",),
}
"""Names by kind."""


def install_published(kind: str, name: str) -> str:
    """The command that installs a plugin of this project, empty when it has none of that name."""
    return install_command(distribution_name(kind, name)) if name in PUBLISHED.get(kind, ()) else ""


def install_imported(module: str) -> str:
    """The command that installs the distribution of a module, ``twister2_harp``, empty when this project has none."""
    top = module.partition(".")[0]
    known = {distribution_name(kind, name) for kind, names in PUBLISHED.items() for name in names}
    wanted = top.replace("_", "-")
    return install_command(wanted) if wanted in known else ""
