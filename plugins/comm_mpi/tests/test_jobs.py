"""Whole jobs over MPI: the program's own communicator beside the system's, ranks that are lost, calls that differ."""

from __future__ import annotations

import json
import os
import random
import sys
import time
import uuid

import pytest

from twister2_comm_mpi.plugin import FACTS
from twister2_testkit.comm_mpiexec import LIBRARY, MPIEXEC
from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until
from twister2_testkit.segments import left_behind, stand_in

pytestmark = [pytest.mark.needs_mpi, pytest.mark.timeout(90)]

QUICK = ("-o", "job.comm=mpi", "-o", "job.heartbeat_s=0.25")


@pytest.fixture
def jobs(tmp_path):
    with Jobs(tmp_path) as jobs:
        yield jobs


def test_the_programs_communicator_and_the_systems_collectives_do_not_meet(jobs):
    program = jobs.program("""
        import numpy as np
        from twister2.spec.collectives import Call

        def main(env):
            ours, comm, into = env.network.collectives(), env.mpi, np.empty(1000)
            assert "native" in ours.algorithms("allreduce")
            assert (comm.rank, comm.size) == (env.worker_id, env.n_workers)
            for turn in range(20):
                theirs = comm.Iallreduce(np.full(1000, turn + 0.5), other := np.empty(1000))
                ours.run(Call("allreduce", algorithm="native"), np.full(1000, float(turn)), into)
                theirs.Wait()
                assert (into == 3 * turn).all() and (other == 3 * turn + 1.5).all()
            half = env.network.split(env.worker_id % 2)
            sum_ = np.empty(1)
            env.network.collectives(half).run(Call("allreduce"), np.array([1.0]), sum_)
            print(env.worker_id, sum_[0], flush=True)
    """)
    done = jobs.submit(program, *QUICK, workers=3)
    assert done.code == 0, done.err
    assert sorted(done.out.splitlines()) == ["0 2.0", "1 1.0", "2 2.0"]


def test_a_worker_alone_has_a_communicator_too(jobs):
    """From the start, and when a job of two becomes one of one."""
    over_mpi = ("-o", "job.comm=mpi")
    program = jobs.program("""
        import time

        def main(env):
            assert env.mpi is env.mpi
            print(env.n_workers, "workers", env.mpi.size, env.mpi.allreduce(env.worker_id + 1), flush=True)
            while env.args and env.n_workers > 1:
                env.commit()
                time.sleep(0.1)
    """)
    done = jobs.submit(program, *over_mpi, workers=1)
    assert (done.code, done.out) == (0, "1 workers 1 1\n"), done
    client = jobs.start("submit", "standalone", "-n", "2", *over_mpi, program, "until alone")
    wait_until(lambda: jobs.cli("logs", "last").out.count("2 workers 2 3") >= 2, 60, lambda: jobs.cli("logs", "last"))
    scaled = jobs.cli("scale", "last", "1")
    assert scaled.code == 0, scaled
    done = client.finish()
    assert done.code == 0, done.err
    assert "1 workers 1 1" in done.out.splitlines()


KILLED = """
    import os, signal
    import numpy as np
    from twister2.spec.collectives import Call
    from twister2_net import allreduce, gather

    def main(env):
        ours, into, total = env.network.collectives(), np.empty(200_000), env.state("total", 0.0)
        turn = env.state("turn", 0)
        while turn.value < 40:
            if env.attempt == 1 and env.worker_id == 1 and turn.value == 25:
                MOMENT
            if "native" in env.args:
                ours.run(Call("allreduce"), np.full(200_000, float(turn.value)), into)
                total.value += into[-1]
            else:
                parts = gather(env, np.full(200_000, float(turn.value)))
                total.value += allreduce(env, float(turn.value))
            turn.value += 1
            if turn.value % 10 == 0:
                env.commit()
        print(env.attempt, env.worker_id, total.value, flush=True)
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
IN_A_CALL = "under_way = ours.start(Call('allreduce'), np.ones(200_000), into); " + DIE


@pytest.mark.faults
@pytest.mark.parametrize(("road", "moment"), [("native", DIE), ("native", IN_A_CALL), ("messages", DIE)])
def test_a_killed_rank_is_replaced_with_a_world_that_is_formed_anew(jobs, road, moment):
    program = jobs.program(KILLED.replace("MOMENT", moment))
    done = jobs.submit(program, *QUICK, "-o", "job.attempts=2", workers=3, args=[road])
    assert done.code == 0, done.err
    right = 3.0 * sum(range(40))
    assert sorted(line for line in done.out.splitlines() if line[0] == "2") == [
        f"2 {rank} {right}" for rank in range(3)
    ]


def test_the_status_names_the_workers_that_have_not_come_to_a_native_call(jobs):
    program = jobs.program("""
        import os, time
        import numpy as np
        from twister2.spec.collectives import Call

        def main(env):
            ours, into, call = env.network.collectives(), np.empty(1), Call("allreduce")
            for turn in range(10):
                while turn == 9 and env.worker_id in (1, 3) and not os.path.exists(env.args[0]):
                    time.sleep(0.01)
                ours.run(call, np.ones(1), into)
            print(into[0], flush=True)
    """)
    go = jobs.folder / "go"
    client = jobs.start("submit", "standalone", "-n", "4", *QUICK, program, go)

    def waits():
        asked = jobs.cli("status", "last", "--json")
        workers = json.loads(asked.out).get("workers", ()) if asked.code == 0 else ()
        return [worker["waits_for"] for worker in workers]

    def come():
        """Of the last turn; each worker says so in its own time."""
        told = waits()
        wanted = "for workers 1, 3" in str(told) and told[0].startswith("allreduce, step ")
        return wanted and told == [told[0], "", told[0], ""]

    wait_until(come, 60, lambda: f"status: {waits()}")
    shown = jobs.cli("status", "last").out
    assert "for workers 1, 3" in shown, shown
    go.touch()
    done = client.finish()
    assert done.code == 0, done.err
    assert done.out.split() == ["4.0"] * 4


ODD = {
    "another_call": 'Call("broadcast"), None, data',
    "another_size": 'Call("allreduce"), None, data[:7]',
    "another_op": 'Call("allreduce", op="max"), None, data',
}


@pytest.mark.faults
@pytest.mark.parametrize("odd", [*ODD, "returned", "raised", "killed"])
def test_all_ranks_learn_of_a_rank_that_is_not_in_their_call(jobs, odd):
    program = jobs.program(f"""
        import os, signal, time
        import numpy as np
        from twister2.spec.collectives import Call
        from twister2.spec.errors import Twister2Error

        def odd(env, ours, data):
            if {odd!r} == "raised":
                raise ValueError("bad luck")
            if {odd!r} == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if {odd!r} == "returned":
                return
            ours.run({ODD.get(odd, "None")})  # the odd line

        def main(env):
            ours, data = env.network.collectives(), np.ones(100)
            ours.run(Call("allreduce"), None, data)
            begun = time.monotonic()
            try:
                if env.worker_id == 2:
                    return odd(env, ours, data)
                ours.run(Call("allreduce"), None, data)  # the even line
            except Twister2Error as error:
                took = time.monotonic() - begun
                print(f"{{env.worker_id}} after {{took:.1f}}: {{error}}".replace(chr(10), " "), flush=True)
                raise
            else:
                print(env.worker_id, "got a result", flush=True)
    """)
    slow = ("-o", "job.kill_grace_s=60")  # a worker that a busy machine holds up is not killed before it has told
    done = jobs.submit(program, *QUICK, *slow, "-o", "job.attempts=1", workers=3)
    lines = done.out.splitlines()
    assert done.code != 0
    assert not [line for line in lines if "got a result" in line], lines
    told = {line.split()[0]: line for line in lines}
    assert {"0", "1"} <= set(told), (done.out, done.err)
    assert all(float(line.split()[2].rstrip(":")) < 30 for line in told.values()), lines
    everything = done.out + done.err
    if odd in ODD:
        assert "allreduce" in everything
        even = next(i for i, line in enumerate(program.read_text().splitlines(), 1) if "the even line" in line)
        strange = next(i for i, line in enumerate(program.read_text().splitlines(), 1) if "the odd line" in line)
        assert f"prog.py:{even}" in everything, everything
        assert f"prog.py:{strange}" in everything, everything
    elif odd == "raised":
        assert "bad luck" in done.err
    else:
        assert "worker 2" in everything, everything


@pytest.mark.needs_slurm
@pytest.mark.parametrize(
    ("library", "plugin"),
    [
        pytest.param({}, "pmi2", id="mpich"),
        pytest.param(LIBRARY, "pmix", id="openmpi", marks=pytest.mark.needs_openmpi),
    ],
)
def test_a_world_from_srun(jobs, library, plugin):
    jobs.environment.update(library)
    jobs.kept = (*jobs.kept, "slurm/")
    program = jobs.program("""
        import numpy as np
        from mpi4py import MPI
        from twister2.spec.collectives import Call
        from twister2_net import allreduce

        def main(env):
            into = np.empty(1000)
            env.network.collectives().run(Call("allreduce", algorithm="native"), np.full(1000, 1.0), into)
            print(MPI.get_vendor()[0], env.mpi.rank == env.worker_id, into[-1], allreduce(env, 2), flush=True)
    """)
    done = jobs.submit(program, "-o", "job.comm=mpi", "-o", f"rm.slurm.mpi={plugin}", workers=3, profile="slurm")
    assert done.code == 0, done.err
    vendor = "Open MPI" if library else "MPICH"
    assert done.out.splitlines() == [f"{vendor} True 3.0 6"] * 3


@pytest.mark.needs_openmpi
def test_a_library_that_does_not_speak_the_supervisors_pmi_is_an_error(jobs):
    jobs.environment.update(LIBRARY)
    done = jobs.submit(jobs.program("def main(env):\n    env.barrier()\n    env.network\n"), *QUICK)
    assert done.code != 0
    assert "the MPI world has 1 process, the job has 2 workers" in done.err
    assert "--mpi" in done.err
    assert "rm.standalone.mpiexec" in done.err


BY_MPIEXEC = ("-o", f"rm.standalone.mpiexec={MPIEXEC}")


@pytest.mark.needs_openmpi
def test_a_library_that_does_not_speak_the_supervisors_pmi_has_a_world_from_its_mpiexec(jobs):
    jobs.environment.update(LIBRARY)
    program = jobs.program("""
        import numpy as np
        from mpi4py import MPI
        from twister2.spec.collectives import Call
        from twister2_net import allreduce

        def main(env):
            into = np.empty(1000)
            env.network.collectives().run(Call("allreduce", algorithm="native"), np.full(1000, 1.0), into)
            print(MPI.get_vendor()[0], env.mpi.rank == env.worker_id, into[-1], allreduce(env, 2), flush=True)
    """)
    before = left_behind(FACTS.segments)
    done = jobs.submit(program, *QUICK, *BY_MPIEXEC, workers=3)
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["Open MPI True 3.0 6"] * 3
    wait_until(lambda: left_behind(FACTS.segments) <= before, 30, lambda: f"left: {left_behind(FACTS.segments)}")


@pytest.mark.needs_openmpi
@pytest.mark.faults
@pytest.mark.parametrize("road", ["native", "messages"])
def test_every_attempt_has_a_world_of_its_own_from_mpiexec(jobs, road):
    jobs.environment.update(LIBRARY)
    program = jobs.program(KILLED.replace("MOMENT", DIE))
    before = left_behind(FACTS.segments)
    done = jobs.submit(program, *QUICK, *BY_MPIEXEC, "-o", "job.attempts=2", workers=3, args=[road])
    assert done.code == 0, done.err
    right = 3.0 * sum(range(40))
    assert sorted(line for line in done.out.splitlines() if line[0] == "2") == [
        f"2 {rank} {right}" for rank in range(3)
    ]
    wait_until(lambda: not left_behind(FACTS.segments) - before, 30, lambda: f"left: {left_behind(FACTS.segments)}")


@pytest.mark.needs_openmpi
@pytest.mark.parametrize("mpiexec", ["mpiexec.nowhere", f"{MPIEXEC} --no-such-option"])
def test_an_mpiexec_that_starts_no_world_is_an_error_that_says_why(jobs, mpiexec):
    jobs.environment.update(LIBRARY)
    begun = time.monotonic()
    done = jobs.submit(
        jobs.program("def main(env):\n    env.barrier()\n"), *QUICK, "-o", f"rm.standalone.mpiexec={mpiexec}"
    )
    assert done.code != 0
    assert mpiexec.split()[0] in done.err, done.err
    assert ("PATH" if "nowhere" in mpiexec else "no-such-option") in done.err, done.err
    assert time.monotonic() - begun < 50


@pytest.mark.needs_mount
@pytest.mark.faults
@pytest.mark.parametrize("full", [False, True], ids=["tiny", "full"])
def test_too_little_shared_memory_is_an_error_that_names_the_place(jobs, full, tmp_path):
    """In a mount namespace of its own, with a /dev/shm of 1 MiB, or one of 8 MiB that somebody has filled."""
    program = jobs.program("def main(env):\n    env.network\n    env.barrier()\n")
    fill = "head -c 7M /dev/zero >/dev/shm/other && " if full else ""
    script = tmp_path / "in_small_memory.sh"
    script.write_text(
        f"mount -t tmpfs -o size={8 if full else 1}m tmpfs /dev/shm && {fill}"
        f'"$@"; code=$?; ls /dev/shm >{tmp_path}/left; exit $code\n'
    )
    began = time.monotonic()
    unshare = "import os, sys; os.execvp('unshare', ['unshare', '-m', 'sh', *sys.argv[1:]])"
    submit = [sys.executable, "-m", "twister2.cli.main", "submit", "standalone", "-n", "3", *QUICK]
    done = jobs.python("-c", unshare, script, *submit, "-o", "job.attempts=1", program)
    assert done.code != 0
    assert "/dev/shm" in done.err, done.err
    assert "SIGBUS" not in done.err, done.err
    assert time.monotonic() - began < 50
    assert (tmp_path / "left").read_text().split() == ["other"] * full


DIES_AT_RANDOM = """
    import subprocess, sys

    def main(env):
        if env.worker_id == int(env.args[0]):
            # another process, as the call holds the interpreter's lock
            subprocess.Popen(["sh", "-c", f"sleep {env.args[1]}; kill -9 $PPID"])
        env.network
        env.barrier()
        if env.worker_id == int(env.args[0]):
            subprocess.run(["sleep", "60"])
        env.barrier()
"""
GOES_ON = """
    import numpy as np
    from twister2.spec.collectives import Call

    def main(env):
        if env.worker_id == 0:
            open(env.args[0], "w").close()
        into = np.empty(1)
        for _ in range(200):
            env.network.collectives().run(Call("allreduce"), np.ones(1), into)
        print(into[0], flush=True)
"""
MORE_SEGMENTS = """
    import attrs
    from twister2_comm_mpi.plugin import FACTS, MpiPlugin

    MpiPlugin.facts = attrs.evolve(FACTS, segments=(*FACTS.segments, "{pattern}"))
"""


@pytest.mark.faults
@pytest.mark.timeout(180)  # twelve jobs
def test_a_rank_killed_while_the_world_forms_leaves_no_segment_and_takes_nobody_elses(jobs, tmp_path):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    dies, goes_on = jobs.program(DIES_AT_RANDOM, "dies.py"), jobs.program(GOES_ON, "goes_on.py")
    # Names that only the jobs of this test remove: another test's job that began before this file may take it, rightly.
    mark = uuid.uuid4().hex
    jobs.program(MORE_SEGMENTS.format(pattern=f"{mark}*"), "more/sitecustomize.py")
    jobs.environment["PYTHONPATH"] = f"{jobs.folder / 'more'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    path = stand_in(f"{mark}_old", os.getpid())  # made before, by nobody's job: stays
    young = stand_in(f"{mark}_young", os.getpid())  # made by a job: goes
    before = left_behind(FACTS.segments)
    submit = ("submit", "standalone", "-n", "2", *QUICK)
    path.write_bytes(b"kept")
    time.sleep(1.1)
    try:
        for _ in range(6):
            args = [str(chance.randrange(2)), f"{chance.uniform(0.0, 0.3):.3f}"]
            dying = jobs.start(*submit, "-o", "job.attempts=1", dies, *args)
            other = jobs.start(*submit, goes_on, young)
            assert dying.finish().code != 0, args
            done = other.finish()
            assert (done.code, done.out.split()) == (0, ["2.0", "2.0"]), done
            assert not young.exists()
        assert path.exists()
    finally:
        for made in (path, young):
            made.unlink(missing_ok=True)
    wait_until(lambda: left_behind(FACTS.segments) <= before, 30, lambda: f"left: {left_behind(FACTS.segments)}")
