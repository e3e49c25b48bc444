from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import SubmissionRefusedError
from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_slurm import plan as plans
from twister2_rm_slurm import steps
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plan import Plan
from twister2_rm_slurm.plugin import SlurmPlugin
from twister2_rm_slurm.script import TIME_LEFT, batch_script, directives

text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30)
path = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"], blacklist_characters='\\"'), max_size=20)
slow = settings(deadline=None, max_examples=25)


def allocation(**changes):
    values = {
        "job_id": "word-count-1",
        "name": "Word count",
        "groups": (ResourceGroup("workers", 3),),
        "worker_command": ("python", "-m", "twister2.worker"),
        "master_command": ("python", "-m", "twister2.master"),
        "environment": {},
        "ticket": b"join-key-of-workers",
        "master_ticket": b"secret-key-of-master",
        "folder": "/shared/jobs/1",
        "master": ResourceGroup("master", 1),
    }
    return Allocation(**{**values, **changes})


DEFAULTS = SlurmConfig()


def plan(config=DEFAULTS, **changes):
    return Plan.of(allocation(**changes), config)


@slow
@given(path, text, st.dictionaries(st.from_regex(r"[A-Z]{3,8}", fullmatch=True), text, max_size=3), st.booleans())
def test_any_name_folder_and_environment_give_a_script_that_bash_accepts(folder, name, environment, master):
    made = plan(
        folder="/f" + folder,
        name=name,
        environment=environment,
        master=ResourceGroup("master", 1) if master else None,
    )
    script = batch_script(made, SlurmConfig(prologue=("module() { :; }", "module load x")))
    checked = subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    head = script.split("\n\n", 1)[0].splitlines()
    assert head[0] == "#!/bin/bash"
    assert all(line.startswith("#SBATCH --") for line in head[1:])


@given(text)
def test_cleaned_names(name):
    assert re.fullmatch(r"[A-Za-z0-9._-]{0,60}", plans.clean_name(name))


def test_a_name_keeps_what_can_be_kept():
    assert plans.clean_name("Mein Jöb — Größe (2)") == "Mein-Job-Groe-2"
    assert plan(name="😀").name == "word-count-1"


@given(st.integers(1, 10**8))
def test_time_limit_is_exact(seconds):
    day, hour, minute, second = map(int, re.split("[-:]", plans.time_limit(seconds)))
    assert ((day * 24 + hour) * 60 + minute) * 60 + second == seconds
    assert max(hour, minute, second) < 60


def test_nothing_secret_is_in_script_or_plan():
    made = plan()
    for shown in (batch_script(made, SlurmConfig()), repr(attrs.asdict(made))):
        assert "join-key-of-workers" not in shown
        assert "secret-key-of-master" not in shown


def test_every_option_reaches_sbatch():
    config = SlurmConfig(
        partition="long",
        account="me",
        qos="high",
        constraint="fast|new",
        nodes=2,
        tasks_per_node=2,
        master_seat=True,
        sbatch=("--reservation=night",),
        export=("MODULEPATH", "no good"),
    )
    groups = (ResourceGroup("a", 2, cpus=1.5, memory_mb=3001, disk_mb=10, gpus=1), ResourceGroup("b", 1))
    lines = directives(plan(config, groups=groups, walltime_s=90_061, oversubscribe=True), config)
    for expected in (
        "--partition=long",
        "--account=me",
        "--qos=high",
        '--constraint="fast|new"',
        "--nodes=2",
        "--ntasks=4",
        "--ntasks-per-node=2",
        "--cpus-per-task=2",
        "--mem-per-cpu=1501",
        "--tmp=20",
        "--gpus-per-task=1",
        "--time=1-01:01:01",
        "--overcommit",
        "--no-requeue",
        "--no-kill",
        "--reservation=night",
        '--comment="twister2:word-count-1 /shared/jobs/1"',
        "--export=PATH,HOME,USER,LOGNAME,SHELL,LANG,TMPDIR,MODULEPATH",
    ):
        assert expected in lines, expected
    assert "the largest share" in batch_script(plan(config, groups=groups), config)


def test_what_is_unset_is_left_to_the_cluster():
    names = {line.split("=")[0] for line in directives(plan(), SlurmConfig())}
    assert not names & {"--partition", "--account", "--qos", "--time", "--mem-per-cpu", "--nodes", "--gpus-per-task"}


def test_resources_of_nodes_licences_and_options_that_are_left_out():
    config = SlurmConfig(
        gres="gpu:a100:2", licenses="matlab:2", exclusive=True, without=("mem-per-cpu", "--no-kill", "comment-none")
    )
    lines = directives(plan(config, groups=(ResourceGroup("a", 2, memory_mb=100),)), config)
    assert {"--gres=gpu:a100:2", "--licenses=matlab:2", "--exclusive", "--no-requeue"} <= {*lines}
    assert not [line for line in lines if line.startswith(("--mem-per-cpu", "--no-kill"))]


@pytest.mark.parametrize(
    ("variable", "answer", "end"),
    [
        ("", "2026-11-22T02:24:58", "1795314298"),
        ("1795314298", "not asked", "1795314298"),
        ("", "N/A", "unset"),
        ("", "Unknown", "unset"),
        ("", "", "unset"),
    ],
)
def test_the_end_that_slurm_has_set_is_told(tmp_path, variable, answer, end):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{answer}'\n")
    (tmp_path / "squeue").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "TZ": "UTC"}
    if variable:
        environment["SLURM_JOB_END_TIME"] = variable
    script = TIME_LEFT + '\necho "${TWISTER2_DEADLINE-unset}"'
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=20)
    assert done.stdout.strip() == end
    assert done.stderr == ""


def test_options_of_the_step():
    config = SlurmConfig(srun=("--cpu-bind=cores",), mpi="pmix_v4")
    made = plan(config)
    part = steps.Part(made.shapes[0], [4, 5, 9])
    step = steps.worker_step(made, config, [part], "pmix", "77")
    assert {"--jobid=77", "--ntasks=3", "--mpi=pmix_v4", "--cpu-bind=cores", "--overlap", "4-5,9"} <= set(step)
    assert "--mpi=none" in steps.worker_step(made, SlurmConfig(), [part], None)


@pytest.mark.parametrize("bad", ['/a"b', "/a\\b", "/a\nb"])
def test_a_folder_that_cannot_be_told_is_refused(bad):
    with pytest.raises(SubmissionRefusedError, match="cannot be told"):
        plan(folder=bad)


@slow
@given(st.dictionaries(st.from_regex(r"T_[A-Z]{1,8}", fullmatch=True), text, max_size=4))
def test_environment_arrives_unchanged(environment):
    lines = "\n".join([*steps.exports(plan(environment=environment)), "exec env -0"])
    out = subprocess.run(["bash", "-c", lines], capture_output=True, check=True).stdout
    values = dict(entry.split(b"=", 1) for entry in out.split(b"\0") if entry)
    assert {key: values[key.encode()].decode() for key in environment} == environment
    assert values[b"TWISTER2_JOB"] == b"word-count-1"


@slow
@given(st.sets(st.integers(0, 60), min_size=1, max_size=20), st.data())
def test_every_task_finds_its_slot(tmp_path_factory, numbers, data):
    slots = sorted(numbers)
    task = data.draw(st.integers(0, len(slots) - 1))
    logs = tmp_path_factory.mktemp("logs")
    copy = [
        "/bin/sh",
        "-c",
        steps.COPY,
        "copy",
        str(logs),
        steps.compress(slots),
        "sh",
        "-c",
        'echo "$@" $IFS; pwd >&2',
    ]
    environment = {"SLURM_PROCID": str(task), "PATH": os.environ["PATH"]}
    subprocess.run([*copy, "x", "a  b"], env=environment, check=True)
    assert (logs / f"slot-{slots[task]}.out").read_text() == "a  b\n"
    assert (logs / f"slot-{slots[task]}.err").read_text()
    assert len(list(logs.iterdir())) == 2


def sweep(job, slots, grace_s):
    command = steps.sweep_step("1", job, slots, grace_s)
    done = subprocess.run(command[command.index("/bin/sh") :], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_sweep_ends_marked_processes_and_no_others(tmp_path):
    job = f"sweep-{os.getpid()}"
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); open({!r}, 'w'); time.sleep(60)"

    def start(slot, name, code="import time; open({!r}, 'w'); time.sleep(60)", owner=job):
        environment = {**os.environ, "TWISTER2_JOB": owner, "TWISTER2_SLOT": str(slot)}
        command = [sys.executable, "-c", code.format(str(tmp_path / name))]
        return subprocess.Popen(command, env=environment, start_new_session=True)

    processes = [start(1, "a"), start(12, "b", deaf), start(2, "c"), start(1, "d", owner=job + "x")]
    try:
        end = time.monotonic() + 20
        while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < end:
            time.sleep(0.02)
        assert sweep(job, [1, 12], 0.3) == 0
        assert [process.wait(5) for process in processes[:2]] == [-15, -9]
        assert [process.poll() for process in processes[2:]] == [None, None]
        assert sweep(job, None, 1.0) == 0
        assert processes[2].wait(5) == -15
        assert processes[3].poll() is None
        assert sweep(job, None, 1.0) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_dry_run_says_first_what_is_submitted_how_and_with_what(tmp_path):
    """In remarks, which sbatch passes over; what follows is the script as it is."""
    backend = SlurmPlugin().rm_create(SlurmConfig(bin="/opt/slurm/bin"), RmContext(str(tmp_path)))
    wanted = allocation(name="two\nlines", oversubscribe=True)
    first, *head = backend.render(wanted).splitlines()[:5]
    assert first == "#!/bin/bash"
    assert head[0] == "# job word-count-1 (two lines): 3 x workers (1 CPU); job master in the allocation"
    assert head[1].endswith("by: /opt/slurm/bin/sbatch --parsable /shared/jobs/1/slurm/job.sh")
    assert "plan.json, ticket, master-ticket" in head[2]
    assert "--overcommit" in head[3]
    script = batch_script(Plan.of(wanted, SlurmConfig(bin="/opt/slurm/bin")), SlurmConfig(bin="/opt/slurm/bin"))
    assert backend.render(wanted).splitlines()[5:] == script.splitlines()[1:]
