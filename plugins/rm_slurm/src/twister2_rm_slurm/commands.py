"""Calls of Slurm's programs, and what their error messages mean."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import MissingToolError, ResourceError, ResourcesExceededError, SubmissionRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2_rm_slurm.config import SlurmConfig

# Variables by which a user sets defaults of sbatch; an option of ours that is set goes before them.
SBATCH_DEFAULTS = {
    "SBATCH_PARTITION": "partition",
    "SBATCH_ACCOUNT": "account",
    "SBATCH_QOS": "qos",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_RESERVATION": "",
    "SBATCH_TIMELIMIT": "",
}
FILTERS = ("SQUEUE_", "SCANCEL_", "SACCT_", "SINFO_", "SCONTROL_", "SLURM_", "SBATCH_", "SALLOC_", "SRUN_")
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")

DOWN = ("unable to contact slurm controller", "connection refused", "socket timed out", "zero bytes were transmitted")
NO_CONFIGURATION = ("unable to process configuration file", "could not establish a configuration source")
UNKNOWN_JOB = ("invalid job id specified",)
TOO_LATE = ("already completing or completed", "has expired", "expired or invalid job")
EXCEEDS = (
    "requested node configuration is not available",
    "memory specification can not be satisfied",
    "node count specification invalid",
    "requested time limit is invalid",
    "more processors requested than permitted",
    "invalid generic resource (gres) specification",
)
REMEDIES = {
    # Slurm's words for a limit name sizes and times, too: before those.
    "job violates": "wait for jobs of yours to end, ask for less, or charge another account or quality of service "
    "(rm.slurm.account, rm.slurm.qos); 'sacctmgr show associations user=$USER' shows their limits",
    "invalid partition": "choose one of those that 'sinfo -s' lists: rm.slurm.partition",
    "invalid account": "choose an account you may charge: rm.slurm.account ('sacctmgr show associations user=$USER')",
    "invalid qos": "choose a quality of service you may use: rm.slurm.qos",
    "invalid feature": "choose features that nodes have ('sinfo -o %f'): rm.slurm.constraint",
    "time limit": "ask for less time (job.walltime_s), or for another partition (rm.slurm.partition)",
    "memory specification": "ask for less memory per worker (job.memory_mb); 'sinfo -o %m' shows what nodes have",
    "gres": "ask for GPUs only where nodes have some (job.gpus, rm.slurm.partition)",
    "node configuration": "ask for less per worker (job.cpus, job.memory_mb, rm.slurm.tasks_per_node), "
    "or for another partition; 'sinfo -o \"%P %c %m\"' shows what nodes have",
}


@attrs.frozen
class Answer:
    """How a program ended."""

    code: int
    out: str
    err: str

    def says(self, phrases: Sequence[str]) -> bool:
        """Whether its messages hold one of these phrases (lower case)."""
        text = (self.err + self.out).lower()
        return any(phrase in text for phrase in phrases)


def environment(config: SlurmConfig, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for Slurm's programs.

    What an allocation around the caller, or the user's settings for listings, would change is left out: the answers
    are read by a program, and a new job must not look like a step of the old one.
    """
    source = os.environ if base is None else base
    clean = {key: value for key, value in source.items() if key in KEPT or not key.startswith(FILTERS)}
    for variable, option in SBATCH_DEFAULTS.items():
        if variable in source and not (option and getattr(config, option)):
            clean[variable] = source[variable]
    return clean


def program(config: SlurmConfig, name: str) -> str:
    """Where a program of Slurm lies.

    :raises MissingToolError: it is not there.
    """
    found = shutil.which(name, path=config.bin or None)
    if found is None:
        raise MissingToolError(
            f"Slurm's program '{name}' is not here",
            why=f"it is not in {config.bin}" if config.bin else "it is not on PATH",
            remedy="run on a host from which jobs are submitted, load Slurm's module, or set rm.slurm.bin",
            where=os.uname().nodename,
        )
    return found


def run(
    config: SlurmConfig,
    arguments: Sequence[str],
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
) -> Answer:
    """Run one of Slurm's programs to its end.

    :raises MissingToolError: it is absent.
    :raises ResourceError: no answer in time, the controller is down, or Slurm is not configured here.
    """
    path = program(config, arguments[0])
    try:
        done = subprocess.run(
            [path, *arguments[1:]],
            env=environment(config) if env is None else dict(env),
            input=text if text is not None else "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ResourceError(
            f"{arguments[0]} gave no answer within {timeout_s:g} s",
            why="Slurm's controller is down, cannot be reached or is overloaded",
            remedy="try again; 'scontrol ping' shows whether the controller answers",
        ) from error
    except OSError as error:
        raise ResourceError(
            f"{arguments[0]} could not be started", why=str(error), remedy="check the installation of Slurm", where=path
        ) from error
    answer = Answer(done.returncode, done.stdout, done.stderr)
    if answer.code and answer.says(DOWN):
        raise ResourceError(
            "Slurm's controller does not answer",
            why=last_line(answer),
            remedy="try again later; 'scontrol ping' shows whether it is back. Running jobs go on without it",
        )
    if answer.code and answer.says(NO_CONFIGURATION):
        raise ResourceError(
            "Slurm is not configured on this host",
            why=last_line(answer),
            remedy="run on a host from which jobs are submitted, or set SLURM_CONF",
            where=os.environ.get("SLURM_CONF", ""),
        )
    return answer


def last_line(answer: Answer) -> str:
    """The program's own message in one line, without the name of the program."""
    lines = [line.strip() for line in (answer.err or answer.out).splitlines() if line.strip()]
    messages = [line.split(": ", 2)[2] if line.count(": error: ") else line for line in lines]
    return "; ".join(dict.fromkeys(messages)) or f"it ended with exit code {answer.code} and no message"


def refusal(answer: Answer) -> ResourceError:
    """The error for an answer of sbatch that is no."""
    text = (answer.err + answer.out).lower()
    remedy = next((words for phrase, words in REMEDIES.items() if phrase in text), "")
    error = ResourcesExceededError if answer.says(EXCEEDS) else SubmissionRefusedError
    return error(
        "Slurm did not accept the job",
        why=last_line(answer),
        remedy=remedy or "change what Slurm objects to; 'twister2 submit --dry-run' shows the script",
    )
