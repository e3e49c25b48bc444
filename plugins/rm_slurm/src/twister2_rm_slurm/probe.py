"""Whether Slurm can be used from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import ResourceError
from twister2.spec.plugin import Probe
from twister2_rm_slurm import commands

if TYPE_CHECKING:
    from twister2_rm_slurm.config import SlurmConfig

TIMEOUT_S = 1.8


def probe(config: SlurmConfig) -> Probe:
    """Ask for the partitions; reads only."""
    try:
        answer = commands.run(config, ["sinfo", "-h", "-o", "%P|%a|%D"], TIMEOUT_S)
    except ResourceError as error:
        return Probe(False, f"{error.what}: {error.why}", error.remedy)
    if answer.code:
        return Probe(False, f"sinfo failed: {commands.last_line(answer)}", "check that Slurm works here: 'sinfo'")
    rows = [line.split("|") for line in answer.out.splitlines() if line.count("|") == 2]
    names = [name.rstrip("*") for name, _, _ in rows]
    default = next((name.rstrip("*") for name, _, _ in rows if name.endswith("*")), "")
    facts = {"partitions": names, "default": default}
    if config.partition and config.partition not in names:
        return Probe(
            False,
            f"Slurm answers, but has no partition '{config.partition}'; it has {', '.join(names) or 'none'}",
            commands.REMEDIES["invalid partition"],
            facts,
        )
    wanted = config.partition or default
    for name, available, nodes in rows:
        if name.rstrip("*") == wanted and available != "up":
            return Probe(False, f"partition '{wanted}' is {available}", "choose another: rm.slurm.partition", facts)
        if name.rstrip("*") == wanted:
            text = f"partition '{wanted}' with {nodes} nodes; the job's folder must be shared with them"
            return Probe(True, text, facts=facts)
    return Probe(False, "there is no default partition", "set rm.slurm.partition to one of: " + ", ".join(names), facts)
