"""Commands that run inside an allocation: the step that starts workers, and the sweep that ends them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from twister2_rm_slurm.states import STEP_ENDED, compress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_rm_slurm.config import SlurmConfig
    from twister2_rm_slurm.plan import Plan

JOB = "TWISTER2_JOB"
SLOT = "TWISTER2_SLOT"

# Wrapper of every copy: finds its slot, which is the SLURM_PROCID-th of a list such as 0-3,7, and sends what it writes
# to files of that slot. Slots of a later attempt may be any, so that the task number alone does not tell.
COPY = f"""logs=$1 slots=$2; shift 2
left=$SLURM_PROCID; IFS=,
for range in $slots; do
  first=${{range%-*}}; size=$((${{range#*-}} - first + 1))
  if [ "$left" -lt "$size" ]; then {SLOT}=$((first + left)); break; fi
  left=$((left - size))
done
unset IFS; export {SLOT}
exec "$@" </dev/null >>"$logs/slot-${SLOT}.out" 2>>"$logs/slot-${SLOT}.err\""""

# Ends all processes of a job on one node that carry its mark (and one of these slots' marks) in their environment:
# TERM, after a grace KILL. Reaches sub-processes that left the step's process group. Prints how many are left.
SWEEP = f"""job=$1 slots=$2 tenths=$3 seen=
marked() {{
  files=$(grep -lszxF "{JOB}=$job" /proc/[0-9]*/environ)
  if [ -n "$files" ] && [ -n "$slots" ]; then files=$(grep -lszxE "{SLOT}=($slots)" $files); fi
  for file in $files; do file=${{file#/proc/}}; echo "${{file%/environ}}"; done
}}
dying() {{ # a process that is being torn down has no environment any more
  for pid in $seen; do grep -s '^State:' "/proc/$pid/status"; done | grep -v '[ZX] ('
}}
pids=$(marked)
[ -z "$pids" ] || kill -TERM $pids 2>/dev/null
while [ -n "$pids" ] && [ "$tenths" -gt 0 ]; do
  seen="$seen $pids"; sleep 0.1; tenths=$((tenths - 1)); pids=$(marked)
done
for again in 1 2 3 4 5 6 7 8 9 10; do
  [ -z "$pids" ] && break
  kill -KILL $pids 2>/dev/null
  seen="$seen $pids"; sleep 0.05; pids=$(marked)
done
for again in 1 2 3 4 5 6 7 8 9 10; do [ -z "$(dying)" ] && break; sleep 0.05; done
echo $pids | wc -w"""


def worker_step(
    plan: Plan, config: SlurmConfig, slots: Sequence[int], world: str | None, native_id: str = ""
) -> list[str]:
    """The srun that starts the supervisors of these slots, one task each.

    :param native_id: the allocation, when srun is called outside the batch script.
    """
    command = [
        "srun",
        *([f"--jobid={native_id}"] if native_id else []),
        "--overlap",
        "--no-kill",
        "--kill-on-bad-exit=0",
        "--wait=0",
        "--input=none",
        "--export=ALL",
        "--job-name=workers",
        f"--mpi={(config.mpi or world) if world else 'none'}",
        f"--ntasks={len(slots)}",
        f"--cpus-per-task={plan.cpus}",
    ]
    if plan.mem_per_cpu:
        command.append(f"--mem-per-cpu={plan.mem_per_cpu}")
    if plan.gpus:
        command.append(f"--gpus-per-task={plan.gpus}")
    if plan.overcommit:
        command.append("--overcommit")
    command += config.srun
    return [*command, "/bin/sh", "-c", COPY, "twister2-copy", plan.files.root, compress(slots), *plan.worker_command]


def sweep_step(native_id: str, job_id: str, slots: Sequence[int] | None, grace_s: float) -> list[str]:
    """The srun that sweeps all nodes of an allocation, one task per node. ``slots`` None: the whole job."""
    pattern = "" if slots is None else "|".join(map(str, slots))
    tenths = str(int(grace_s * 10))
    return [
        "srun",
        f"--jobid={native_id}",
        "--overlap",
        "--no-kill",
        "--mpi=none",
        "--input=none",
        "--export=ALL",
        "--job-name=sweep",
        *("/bin/sh", "-c", SWEEP, "twister2-sweep", job_id, pattern, tenths),
    ]


def exports(plan: Plan) -> list[str]:
    """Lines of bash that set the environment of all copies. Names no shell accepts are left out of it by Slurm too."""
    values = {**plan.environment, JOB: plan.job_id, "TWISTER2_TICKET": str(plan.files.ticket)}
    return [f"export {key}={shlex.quote(value)}" for key, value in values.items() if NAME.fullmatch(key)]


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def logged(step: Sequence[str], log: str) -> str:
    """Bash that runs a step to its end and notes how it ended in the step's log; its exit code is the step's."""
    return f"""{{
  {shlex.join(step)}
  code=$?
  echo "{STEP_ENDED}$code"
  exit $code
}} </dev/null >>{shlex.quote(log)} 2>&1"""


def attempt_script(plan: Plan, config: SlurmConfig, step: Sequence[str], log: str) -> str:
    """Bash that starts a step in the background and returns at once."""
    return "\n".join(
        [
            *config.prologue,
            *exports(plan),
            f"setsid bash -c {shlex.quote(logged(step, log))} </dev/null >/dev/null 2>&1 &",
            "",
        ]
    )
