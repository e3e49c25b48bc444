"""Commands that run inside an allocation: the step that starts workers, and the sweep that ends them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from twister2_rm_slurm.plan import Plan, Shape
from twister2_rm_slurm.states import STEP_ENDED, compress

if TYPE_CHECKING:
    from twister2_rm_slurm.config import SlurmConfig

JOB = "TWISTER2_JOB"
SLOT = "TWISTER2_SLOT"

# Wrapper of every copy: finds its slot, which is the SLURM_PROCID-th of a list such as 0-3,7, and sends what it writes
# to files of that slot. Slots of a later attempt may be any, so that the task number alone does not tell. One whose
# srun waited when the job was killed does not begin.
COPY = f"""logs=$1 slots=$2; shift 2
[ ! -e "$logs/killed" ] || exit 143
left=$SLURM_PROCID; IFS=,
for range in $slots; do
  first=${{range%-*}}; size=$((${{range#*-}} - first + 1))
  if [ "$left" -lt "$size" ]; then {SLOT}=$((first + left)); break; fi
  left=$((left - size))
done
unset IFS; export {SLOT}
exec "$@" </dev/null >>"$logs/slot-${SLOT}.out" 2>>"$logs/slot-${SLOT}.err\""""

# Ends all processes of a job on one node that carry its mark (and one of these slots' marks) in their environment:
# TERM, after a grace KILL. Reaches sub-processes that left the step's process group. What is spared is not told: an
# srun kills its tasks at once, those on other nodes too, and ends by itself with the last. Prints how many are left.
SWEEP = f"""job=$1 slots=$2 tenths=$3 spared=$4 seen=
marked() {{
  files=$(grep -lszxF "{JOB}=$job" /proc/[0-9]*/environ)
  if [ -n "$files" ] && [ -n "$slots" ]; then files=$(grep -lszxE "{SLOT}=($slots)" $files); fi
  for file in $files; do file=${{file#/proc/}}; echo "${{file%/environ}}"; done
}}
told() {{
  for pid in $pids; do [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$spared" ] || echo "$pid"; done
}}
dying() {{ # a process that is being torn down has no environment any more
  for pid in $seen; do grep -s '^State:' "/proc/$pid/status"; done | grep -v '[ZX] ('
}}
pids=$(marked) first=$(told)
[ -z "$first" ] || kill -TERM $first 2>/dev/null
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

# Counts the copies of a job on one node, children of theirs included; srun and job master are none.
COUNT = f"""files=$(grep -lszxF "{JOB}=$1" /proc/[0-9]*/environ)
[ -z "$files" ] || files=$(grep -lszxE "{SLOT}=[0-9]+" $files)
echo $files | wc -w"""


@attrs.frozen
class Part:
    """Copies that are started together.

    :ivar component: number of the component of a heterogeneous job; None in other jobs.
    """

    shape: Shape
    slots: Sequence[int]
    component: int | None = None


def parts_of(plan: Plan) -> list[Part]:
    """All copies that a job has at its start."""
    many = len(plan.shapes) > 1
    return [
        Part(shape, slots, number if many else None)
        for number, (shape, slots) in enumerate(zip(plan.shapes, plan.slots(), strict=True))
    ]


def worker_step(
    plan: Plan, config: SlurmConfig, parts: Sequence[Part], world: str | None, native_id: str = ""
) -> list[str]:
    """The srun that starts supervisors, one task each. Several parts are one process world.

    :param native_id: the allocation, when srun is called outside the batch script.
    """
    slots = [slot for part in parts for slot in part.slots]
    copy = ["/bin/sh", "-c", COPY, "twister2-copy", plan.files.root, compress(slots), *plan.worker_command]
    command = ["srun", *([f"--jobid={native_id}"] if native_id else [])]
    for number, part in enumerate(parts):
        command += [":"] if number else []
        command += _options(plan, config, part, world)
        command += copy
    return command


def _options(plan: Plan, config: SlurmConfig, part: Part, world: str | None) -> list[str]:
    options = [
        "--overlap",
        "--no-kill",
        "--kill-on-bad-exit=0",
        "--wait=0",
        "--input=none",
        "--export=ALL",
        "--job-name=workers",
        f"--mpi={(config.mpi or world) if world else 'none'}",
        f"--ntasks={len(part.slots)}",
        f"--cpus-per-task={part.shape.cpus}",
    ]
    if part.component is not None:
        options.append(f"--het-group={part.component}")
    if part.shape.mem_per_cpu:
        options.append(f"--mem-per-cpu={part.shape.mem_per_cpu}")
    if part.shape.gpus:
        options.append(f"--gpus-per-task={part.shape.gpus}")
    if plan.overcommit:
        options.append("--overcommit")
    return [*options, *config.srun]


def sweep_step(
    native_id: str, job_id: str, slots: Sequence[int] | None, grace_s: float, components: int = 1
) -> list[str]:
    """The srun that sweeps all nodes of an allocation, one task per node. ``slots`` None: the whole job."""
    return [*_on_all_nodes(native_id, "sweep", components), *local_sweep(job_id, slots, grace_s, spared="srun")[2:]]


def local_sweep(job_id: str, slots: Sequence[int] | None, grace_s: float, spared: str = "") -> list[str]:
    """The same on this host.

    :param spared: name of programs that are given the grace to end by themselves.
    """
    pattern = "" if slots is None else "|".join(map(str, slots))
    return ["/bin/sh", "-c", SWEEP, "twister2-sweep", job_id, pattern, str(int(grace_s * 10)), spared]


def count_step(native_id: str, job_id: str, components: int = 1) -> list[str]:
    """The srun that counts the copies of a job on all nodes of an allocation, one task per node."""
    return [*_on_all_nodes(native_id, "count", components), COUNT, "twister2-count", job_id]


def _on_all_nodes(native_id: str, name: str, components: int) -> list[str]:
    """An srun without the text of the shell that it runs on each node."""
    return [
        "srun",
        f"--jobid={native_id}",
        *([f"--het-group=0-{components - 1}"] if components > 1 else []),
        "--overlap",
        "--no-kill",
        "--mpi=none",
        "--input=none",
        "--export=ALL",
        f"--job-name={name}",
        *("/bin/sh", "-c"),
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


def attempt_script(plan: Plan, config: SlurmConfig, begun: Sequence[tuple[Sequence[str], str]]) -> str:
    """Bash that starts steps in the background, each with its log, and returns at once."""
    starts = [f"setsid bash -c {shlex.quote(logged(step, log))} </dev/null >/dev/null 2>&1 &" for step, log in begun]
    return "\n".join([*config.prologue, *exports(plan), read_clock(plan), *starts, ""])


def read_clock(plan: Plan) -> str:
    """Bash that sets what the job's script has found out of the job's time."""
    path = shlex.quote(str(plan.files.clock))
    return f"[ ! -r {path} ] || . {path}"
