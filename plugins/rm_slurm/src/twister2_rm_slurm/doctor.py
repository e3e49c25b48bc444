"""What ``twister2 doctor`` looks at before it sends a job."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from twister2.spec.errors import ResourceError
from twister2.spec.rm import Check
from twister2_rm_slurm import commands
from twister2_rm_slurm.inside import surrounding
from twister2_rm_slurm.probe import probe

if TYPE_CHECKING:
    from twister2.spec.rm import RmContext
    from twister2_rm_slurm.config import SlurmConfig

PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
OLDEST = (22, 5)


def doctor(config: SlurmConfig, context: RmContext) -> list[Check]:
    """Programs, controller, partition, place: reads only."""
    checks = [_programs(config)]
    if checks[0].result == "failed":
        return checks
    checks += [_version(config, context), _controller(config, context)]
    if checks[-1].result == "failed":
        return checks
    found = probe(config)
    remedy = "" if found.ok else found.remedy or "see 'sinfo -s'"
    checks.append(Check("partition", "ok" if found.ok else "failed", found.text, remedy))
    checks += [_accounting(config, context), _folder(context)]
    if config.inside and (number := surrounding()):
        checks.append(Check("allocation", "ok", f"jobs are steps of allocation {number}, which this shell is in"))
    return checks


def _programs(config: SlurmConfig) -> Check:
    missing = []
    for name in PROGRAMS:
        try:
            commands.program(config, name)
        except ResourceError:
            missing.append(name)
    if missing:
        return Check(
            "programs of Slurm",
            "failed",
            f"{', '.join(missing)} cannot be found on {os.uname().nodename}",
            "run on a host from which jobs are submitted, load Slurm's module, or set rm.slurm.bin",
        )
    return Check("programs of Slurm", "ok", f"{', '.join(PROGRAMS)} are there")


def _version(config: SlurmConfig, context: RmContext) -> Check:
    try:
        text = commands.run(config, ["sbatch", "--version"], context.call_timeout_s).out
    except ResourceError as error:
        return Check("version", "skipped", error.what)
    number = re.search(r"(\d+)\.(\d+)", text)
    if number is None or (int(number[1]), int(number[2])) >= OLDEST:
        return Check("version", "ok", text.strip() or "unknown")
    return Check("version", "warning", f"{text.strip()} is older than 22.05", "ask for a newer one; much works with it")


def _controller(config: SlurmConfig, context: RmContext) -> Check:
    try:
        answer = commands.run(config, ["scontrol", "ping"], context.call_timeout_s)
    except ResourceError as error:
        return Check("controller", "failed", f"{error.what}: {error.why}", error.remedy)
    said = " ".join(answer.out.split()) or commands.last_line(answer)
    if answer.code or " is UP" not in answer.out:
        return Check("controller", "failed", said, "try again later, or ask an administrator")
    return Check("controller", "ok", said)


def _accounting(config: SlurmConfig, context: RmContext) -> Check:
    """Without it jobs run, but how one ended is forgotten with its record in the controller."""
    try:
        answer = commands.run(config, ["sacct", "-X", "-n", "-S", "now"], context.call_timeout_s)
    except ResourceError as error:
        return Check("accounting", "skipped", error.what)
    if answer.code:
        return Check("accounting", "skipped", f"there is none, and none is needed ({commands.last_line(answer)})")
    return Check("accounting", "ok", "sacct answers")


def _folder(context: RmContext) -> Check:
    return Check(
        "job folder",
        "skipped",
        f"that the nodes see {context.state_dir} shows when a job runs",
    )
