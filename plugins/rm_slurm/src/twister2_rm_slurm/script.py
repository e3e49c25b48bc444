"""The text of the batch script."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from twister2_rm_slurm.plan import Plan, time_limit
from twister2_rm_slurm.states import comment, compress
from twister2_rm_slurm.steps import JOB, NAME, exports, logged, worker_step

if TYPE_CHECKING:
    from twister2_rm_slurm.config import SlurmConfig

CALLERS_OWN = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR")
"""Variables that always come along: without them hardly a program starts."""

KILL_WAIT_S = 10
UNMARK = f"export -n {JOB}  # what follows is the script's own and outlives a kill of the job's processes"


def batch_script(plan: Plan, config: SlurmConfig) -> str:
    """The script given to sbatch. Holds nothing secret: tickets are files beside it, told by their paths."""
    lines = ["#!/bin/bash", *(f"#SBATCH {text}" for text in directives(plan, config)), ""]
    if plan.unequal:
        lines.append("# The groups of workers differ: every worker gets the largest share of each resource.")
    lines += [*config.prologue, *exports(plan)]
    lines.append("unset SLURM_EXPORT_ENV")
    lines.append(f"hostname >{_q(plan.files.master_host)}")
    lines.append(f"trap {_q(f'rm -f {_q(plan.files.ticket)} {_q(plan.files.master_ticket)}')} EXIT")
    lines.append(_readable(plan))
    lines.append(_workers(plan, config))
    lines += _with_master(plan) if plan.master_command else _without_master(config, plan)
    return "\n".join(lines) + "\n"


def directives(plan: Plan, config: SlurmConfig) -> list[str]:
    """The ``#SBATCH`` options."""
    log = _pattern(str(plan.files.log))
    options: list[tuple[str, str | int]] = [
        ("job-name", plan.name),
        ("comment", comment(plan.job_id, plan.folder)),
        ("output", log),
        ("open-mode", "append"),
        ("export", _exported(config)),
        ("ntasks", plan.seats),
        ("cpus-per-task", plan.cpus),
        ("mem-per-cpu", plan.mem_per_cpu),
        ("tmp", plan.tmp_mb),
        ("gpus-per-task", plan.gpus),
        ("nodes", config.nodes),
        ("ntasks-per-node", config.tasks_per_node),
        ("time", time_limit(plan.walltime_s) if plan.walltime_s else ""),
        ("partition", config.partition),
        ("account", config.account),
        ("qos", config.qos),
        ("constraint", config.constraint),
    ]
    texts = [f"--{name}={_directive(value)}" for name, value in options if value]
    # A lost node or a requeue is the job master's business: it starts the next attempt from the last checkpoint.
    texts += ["--no-requeue", "--no-kill"]
    if plan.overcommit:
        texts.append("--overcommit")
    return [*texts, *config.sbatch]


def _directive(value: str | int) -> str:
    text = str(value)
    plain = all(char.isalnum() or char in "-._/:,%=+@" for char in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pattern(path: str) -> str:
    return path.replace("%", "%%")


def _exported(config: SlurmConfig) -> str:
    if "ALL" in config.export:
        return "ALL"
    return ",".join(dict.fromkeys((*CALLERS_OWN, *(name for name in config.export if NAME.fullmatch(name)))))


def _q(text: object) -> str:
    return shlex.quote(str(text))


def _readable(plan: Plan) -> str:
    ticket = _q(plan.files.ticket)
    return f"""[ -r {ticket} ] || {{
  echo "the job's folder is not visible on $(hostname): put job.state_dir on a file system that all nodes share" >&2
  exit 1
}}"""


def _workers(plan: Plan, config: SlurmConfig) -> str:
    slots = range(plan.n_workers)
    log = plan.files.step_log(1, 0)
    step = logged(worker_step(plan, config, slots, plan.world), str(log))
    return f"""
# The workers of the first attempt: one task each, task number = slot.
echo {_q(f"slots {compress(slots)}")} >{_q(log)}
( {step} ) &
workers=$!"""


def _with_master(plan: Plan) -> list[str]:
    return [
        f"""
# The job master, beside the workers of the first node. When it ends, the job ends.
env TWISTER2_MASTER_TICKET={_q(plan.files.master_ticket)} {shlex.join(plan.master_command)} \\
  </dev/null >>{_q(plan.files.master_log)} 2>&1 &
master=$!
{UNMARK}
wait $master
code=$?
{_ended(plan)}
for i in {{1..50}}; do kill -0 $workers 2>/dev/null || break; sleep 0.1; done
{_killed(plan)}
exit $code"""
    ]


def _without_master(config: SlurmConfig, plan: Plan) -> list[str]:
    return [
        f"""
# The job master is in the client. When workers fail it may start others in this allocation, which is held for them.
{UNMARK}
wait $workers
code=$?
[ $code -ne 0 ] || {_ended(plan)}
held=0
while [ $code -ne 0 ] && [ ! -e {_q(plan.files.released)} ] && [ $held -lt {round(config.hold_s)} ]; do
  sleep 1
  held=$((held + 1))
  ! scontrol show step "$SLURM_JOB_ID" 2>/dev/null | grep -q 'Name=workers' || held=0
done
{_killed(plan)}
exit $code"""
    ]


def _ended(plan: Plan) -> str:
    """The job has come to its own end: whoever ends it now need not cancel it."""
    return f"{{ [ -e {_q(plan.files.killed)} ] || echo $code >{_q(plan.files.ended)}; }}"


def _killed(plan: Plan) -> str:
    """Somebody kills the job: wait for its cancellation, so that Slurm calls it cancelled and not failed."""
    return f"[ ! -e {_q(plan.files.killed)} ] || sleep {KILL_WAIT_S}"
