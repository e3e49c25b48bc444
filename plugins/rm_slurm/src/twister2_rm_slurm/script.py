"""The text of batch scripts: that of a job, and those of the jobs by which it grows."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING

from twister2_rm_slurm.lives import RESTARTS
from twister2_rm_slurm.plan import Plan, Shape, time_limit
from twister2_rm_slurm.states import AGAIN, comment, compress, more_comment
from twister2_rm_slurm.steps import JOB, NAME, Part, exports, logged, parts_of, read_clock, worker_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.rm import Allocation
    from twister2_rm_slurm.config import SlurmConfig

CALLERS_OWN = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR")
"""Variables that always come along: without them hardly a program starts."""

KILL_WAIT_S = 10
UNMARK = f"export -n {JOB}  # what follows is the script's own and outlives a kill of the job's processes"

TIME_LEFT = """# When Slurm will end the job, so that it ends in order before: a partition may have a limit of its own.
end=${SLURM_JOB_END_TIME:-$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null | head -n 1)}
case $end in
  [0-9]*-*) end=$(date -d "$end" +%s 2>/dev/null) ;;
esac
case $end in
  ''|*[!0-9]*) ;;
  *) export TWISTER2_DEADLINE=$end ;;
esac"""


def batch_script(plan: Plan, config: SlurmConfig) -> str:
    """The script given to sbatch. Holds nothing secret: tickets are files beside it, told by their paths."""
    lines = ["#!/bin/bash"]
    for number in range(len(plan.shapes)):
        lines += ["#SBATCH hetjob"] if number else []
        lines += [f"#SBATCH {text}" for text in directives(plan, config, number)]
    lines.append("")
    if plan.unequal:
        lines.append("# The groups of workers differ: every worker gets the largest share of each resource.")
    lines += [*config.prologue, *exports(plan)]
    lines += ["unset SLURM_EXPORT_ENV", f"export {RESTARTS}=${{SLURM_RESTART_COUNT:-0}}", TIME_LEFT]
    lines += [_readable(plan), _clock(plan), _at_end(plan)]
    if plan.requeue:
        lines.append(_run_again(plan))
    lines.append(f"hostname >{_q(plan.files.master_host)}")
    lines.append(_workers(plan, config))
    lines += _with_master(plan, config) if plan.master_command else _without_master(config, plan)
    return "\n".join(lines) + "\n"


def head(allocation: Allocation, plan: Plan, command: str) -> list[str]:
    """What a dry run says before the options: what is asked for, how, with which files.

    :param command: that submits it.
    """
    files = plan.files
    beside = [files.plan, files.ticket, *([files.master_ticket] if plan.master_command else [])]
    lines = [
        f"# {allocation.summary}",
        f"# submitted as this user on {os.uname().nodename} by: {command}",
        f"# beside that file, which is what follows: {', '.join(path.name for path in beside)} (0600)",
    ]
    if plan.overcommit:
        lines.append(
            "# job.oversubscribe is --overcommit: on each node Slurm sets aside what one worker asks for, CPUs and"
            " memory, for all that run there"
        )
    return lines


def more_script(plan: Plan, config: SlurmConfig, shape: Shape, slots: Sequence[int], number: int, end: float) -> str:
    """The script of an additional job, which holds these slots beside those that the job has.

    :param number: of the additional job, and of its step's log. :param end: when Slurm ends the job itself, in seconds
        since 1970; 0 when that is not known.
    """
    lines = ["#!/bin/bash", *(f"#SBATCH {text}" for text in _more_directives(plan, config, shape, number, end)), ""]
    lines.append(f"# More workers for job {plan.job_id}: slots {compress(slots)}.")
    lines += [*config.prologue, *exports(plan), "unset SLURM_EXPORT_ENV", read_clock(plan)]
    lines += [f"export TWISTER2_DEADLINE={round(end)}"] if end else []
    lines.append(f"""[ -r {_q(plan.files.ticket)} ] || {{
  echo "the job that these workers are for is over, or its folder is not visible on $(hostname)" >&2
  exit 0
}}""")
    log = plan.files.step_log(0, number)
    step = worker_step(plan, config, [Part(shape, slots)], None)
    lines.append(f"( {logged(step, str(log))} ) &\nworkers=$!")
    lines += _hold(config, plan.files.released_more(number), _q(plan.files.ticket))
    return "\n".join([*lines, "exit $code"]) + "\n"


def directives(plan: Plan, config: SlurmConfig, number: int = 0) -> list[str]:
    """The ``#SBATCH`` options, of a component of a heterogeneous job where there are several."""
    first: list[tuple[str, str | int]] = [
        ("job-name", plan.name),
        ("comment", comment(plan.job_id, plan.folder)),
        ("output", _pattern(str(plan.files.log))),
        ("open-mode", "append"),
        ("export", _exported(config)),
        ("licenses", config.licenses),
    ]
    shape = plan.shapes[number]
    tasks = shape.count + (plan.seats if number == 0 else 0)
    limit = time_limit(plan.walltime_s) if plan.walltime_s else ""
    options = [*([] if number else first), *_shares(config, shape, tasks, limit), ("nodes", config.nodes)]
    return _texts(plan, config, options, plan.requeue)


def _more_directives(plan: Plan, config: SlurmConfig, shape: Shape, number: int, end: float) -> list[str]:
    options: list[tuple[str, str | int]] = [
        ("job-name", f"{plan.name}-more"),
        ("comment", more_comment(plan.job_id, plan.folder)),
        ("output", _pattern(str(plan.files.more_log(number)))),
        ("open-mode", "append"),
        ("export", _exported(config)),
    ]
    limit = plan.walltime_s
    if end:  # it is of no use for longer than the job itself lives
        limit = max(60, round(end - time.time()))
    options += _shares(config, shape, shape.count, time_limit(limit) if limit else "")
    return _texts(plan, config, options, False)


def _shares(config: SlurmConfig, shape: Shape, tasks: int, limit: str) -> list[tuple[str, str | int]]:
    """What one allocation, or one component of it, asks for."""
    return [
        ("ntasks", tasks),
        ("cpus-per-task", shape.cpus),
        ("mem-per-cpu", shape.mem_per_cpu),
        ("tmp", shape.tmp_mb),
        ("gpus-per-task", shape.gpus),
        ("ntasks-per-node", config.tasks_per_node),
        ("time", limit),
        ("partition", config.partition),
        ("account", config.account),
        ("qos", config.qos),
        ("constraint", config.constraint),
        ("gres", config.gres),
    ]


def _texts(plan: Plan, config: SlurmConfig, options: Sequence[tuple[str, str | int]], requeue: bool) -> list[str]:
    texts = [f"--{name}={_directive(value)}" for name, value in options if value]
    # A lost node is the job master's business: it starts the next attempt from the last checkpoint.
    texts += ["--requeue" if requeue else "--no-requeue", "--no-kill"]
    if plan.overcommit:
        texts.append("--overcommit")
    if config.exclusive:
        texts.append("--exclusive")
    without = {name.lstrip("-") for name in config.without}
    texts = [text for text in texts if text.lstrip("-").partition("=")[0] not in without]
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
    return f"""[ -r {_q(plan.files.plan)} ] || {{
  echo "the job's folder is not visible on $(hostname): put job.state_dir on a file system that all nodes share" >&2
  exit 1
}}"""


def _clock(plan: Plan) -> str:
    said = f"{RESTARTS}=${RESTARTS} ${{TWISTER2_DEADLINE:+TWISTER2_DEADLINE=$TWISTER2_DEADLINE}}"
    return f'echo "export {said}" >{_q(plan.files.clock)}'


def _at_end(plan: Plan) -> str:
    """What ends with the script: the jobs by which this one has grown, and its keys, unless it may run again."""
    root, keys = _q(plan.files.root), f"rm -f {_q(plan.files.ticket)} {_q(plan.files.master_ticket)}"
    ended = f'[ -z "$over" ] || {keys}' if plan.requeue else keys
    return f"""over=
more() {{ # numbers of the jobs by which this one has grown
  for file in {root}/more-*.json; do [ ! -e "$file" ] || {{ file=${{file%.json}}; echo "${{file##*-}}"; }}; done
}}
at_end() {{
  [ -z "$(more)" ] || scancel $(more) 2>/dev/null
  {ended}
}}
trap at_end EXIT"""


def _run_again(plan: Plan) -> str:
    """A run that is not the first: what is left of those before goes, or is kept in the log of the job."""
    root = _q(plan.files.root)
    gone = " ".join(f"{root}/{name}" for name in ("step-*.log", "more-*.json", "size", "ticket", "released*", "ended"))
    return f"""if [ "$TWISTER2_RESTARTS" -gt 0 ]; then
  echo "run $((TWISTER2_RESTARTS + 1)) {AGAIN}"
  cat {root}/step-*.log 2>/dev/null
  [ -z "$(more)" ] || scancel $(more) 2>/dev/null
  rm -f {gone}
fi"""


def _workers(plan: Plan, config: SlurmConfig) -> str:
    parts = parts_of(plan)
    lines = ["", "# The workers of the first attempt: one task each, task number = slot.", "workers="]
    for number, together in enumerate([parts] if plan.world else [[part] for part in parts]):
        log = plan.files.step_log(1, number)
        slots = compress(slot for part in together for slot in part.slots)
        step = logged(worker_step(plan, config, together, plan.world), str(log))
        if plan.world and plan.requeue:
            lines.append('if [ "$TWISTER2_RESTARTS" -eq 0 ]; then  # else the job master begins with a fresh world')
        lines += [f"echo {_q(f'slots {slots}')} >{_q(log)}", f"( {step} ) &", 'workers="$workers $!"']
        lines += ["fi"] if plan.world and plan.requeue else []
    return "\n".join(lines)


def _with_master(plan: Plan, config: SlurmConfig) -> list[str]:
    marks = f"{JOB}={plan.job_id} TWISTER2_MASTER_TICKET={_q(plan.files.master_ticket)}"
    return [
        f"""
# The job master, beside the workers of the first node. When it ends, the job ends; one that died is started again.
{UNMARK}
left={config.master_restarts}
while :; do
  echo $left >{_q(plan.files.restarts_left)}
  env {marks} {shlex.join(plan.master_command)} \\
    </dev/null >>{_q(plan.files.master_log)} 2>&1 &
  wait $!
  code=$?
  [ $code -ne 0 ] && [ ! -e {_q(plan.files.outcome)} ] && [ ! -e {_q(plan.files.killed)} ] || break
  case $(squeue -h -j "$SLURM_JOB_ID" -o %T 2>/dev/null | head -n 1) in
    COMPLETING) sleep 600 ;;  # Slurm ends all of it, and may run it again
  esac
  [ $left -gt 0 ] || break
  left=$((left - 1))
  echo "the job master ended with exit code $code, and is started again"
  sleep 0.5
done
over=1
case $(cat {_q(plan.files.outcome)} 2>/dev/null) in
  completed) code=0 ;;
  failed|killed) code=1 ;;
esac
{_ended(plan)}
for i in {{1..50}}; do kill -0 $workers 2>/dev/null || break; sleep 0.1; done
for i in {{1..10}}; do
  [ -n "$(more)" ] && [ -n "$(squeue -h -t running -j "$(more | paste -sd,)" 2>/dev/null)" ] || break
  sleep 0.3
done
{_killed(plan)}
exit $code"""
    ]


def _without_master(config: SlurmConfig, plan: Plan) -> list[str]:
    return [
        f"""
# The job master is in the client. When workers fail it may start others in this allocation, which is held for them.
{UNMARK}""",
        *_hold(config, plan.files.released, _q(plan.files.plan), f"[ $code -ne 0 ] || {_ended(plan)}\n"),
        f"""{_killed(plan)}
over=1
exit $code""",
    ]


def _hold(config: SlurmConfig, released: object, alive: str, ended: str = "") -> list[str]:
    """Wait for the copies; where they failed, hold the allocation a while for others.

    :param alive: a file, quoted, without which nobody wants it any more. :param ended: what is done once they have
        ended.
    """
    return [
        f"""code=0
for pid in $workers; do wait $pid || code=$?; done
{ended}held=0
while [ $code -ne 0 ] && [ -e {alive} ] && [ ! -e {_q(released)} ] && [ $held -lt {round(config.hold_s * 5)} ]; do
  sleep 0.2
  held=$((held + 1))
  [ $((held % 5)) -ne 0 ] || ! scontrol show step "$SLURM_JOB_ID" 2>/dev/null | grep -q 'Name=workers' || held=0
done"""
    ]


def _ended(plan: Plan) -> str:
    """The job has come to its own end: whoever ends it now need not cancel it."""
    return f"{{ [ -e {_q(plan.files.killed)} ] || echo $code >{_q(plan.files.ended)}; }}"


def _killed(plan: Plan) -> str:
    """Somebody kills the job: wait for its cancellation, so that Slurm calls it cancelled and not failed."""
    return f"[ ! -e {_q(plan.files.killed)} ] || sleep {KILL_WAIT_S}"
