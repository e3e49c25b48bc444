"""Workers as threads of the client: the same programs, the same answers, the same errors."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Done, Jobs

THREADS = ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")

PROGRAMS = """
    import sys
    from twister2_net import allreduce, broadcast, gather

    def works(env):
        env.barrier()
        value = env.controller.exchange("x", env.worker_id * 2)
        total = env.state("total", 0)
        total.value = allreduce(env, sum(value))
        env.commit()
        everybody = gather(env, [env.worker_id, env.args])
        env.on_close(lambda: None)
        (env.volumes.volatile / "x").write_text("x")
        env.log.info("done")
        if env.worker_id == 0:
            print(env.n_workers, env.attempt, total.value, everybody)

    def raises(env):
        env.barrier()
        if env.worker_id == 1:
            raise ValueError("on purpose")
        allreduce(env, 1)

    def early(env):
        if env.worker_id == 1:
            return
        env.barrier()

    def branch(env):
        env.barrier("a") if env.worker_id else env.barrier("b")

    def deadline(env):
        if env.worker_id == 0:
            env.barrier("meeting", deadline_s=0.5)
        else:
            import time
            time.sleep(6)

    def exits(env):
        sys.exit(3) if env.worker_id else env.barrier()

    def exits_well(env):
        sys.exit(0)

    def swallows(env):
        try:
            env.barrier()
        except Exception:
            pass
        if env.worker_id == 1:
            raise ValueError("on purpose")
        for _ in range(5):
            try:
                env.barrier()
            except Exception as error:
                print(type(error).__name__)
"""


def both(jobs: Jobs, function: str) -> tuple[Done, Done]:
    program = jobs.program(PROGRAMS)
    return (
        jobs.submit(f"{program}:{function}", "-q", args=["a"]),
        jobs.submit(f"{program}:{function}", "-q", *THREADS, args=["a"]),
    )


@pytest.mark.parametrize(
    "function", ["works", "raises", "branch", "deadline", "exits", "exits_well", "swallows", "early"]
)
def test_the_same_as_with_processes(jobs: Jobs, function: str) -> None:
    processes, threads = both(jobs, function)
    assert (threads.code, threads.out) == (processes.code, processes.out), (processes, threads)

    def error(done: Done) -> list[str]:
        return [line.replace("workers 1 and 0", "workers 0 and 1") for line in done.err.splitlines() if "[T2-" in line]

    assert error(threads) == error(processes)
    if function == "raises":
        assert "prog.py" in threads.err
        assert "Traceback" in threads.err
        assert "twister2/worker" not in threads.err


@pytest.mark.parametrize("options", [(), THREADS], ids=["processes", "threads"])
def test_what_a_program_writes_into_its_configuration_changes_nothing(jobs: Jobs, options: tuple[str, ...]) -> None:
    program = jobs.program(
        """
        def main(env):
            if env.worker_id == 0:
                env.config["job"].clear()
                env.config["job"]["workers"] = 99
            env.barrier()
            assert env.worker_id == 0 or env.config["job"]["workers"] == env.n_workers == 2
            assert env.network.world.size == 2
            assert env.memory.use().limit > 0
        """
    )
    done = jobs.submit(program, "-q", *options)
    assert done.code == 0, done


def test_run_with_threads_needs_no_import_of_the_program(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import threading, twister2
        lock = threading.Lock()
        seen = []
        def main(env):
            with lock:
                seen.append(env.worker_id)
            return lock
        if __name__ == "__main__":
            for _ in range(2):
                results = twister2.run(
                    lambda env: main(env) is lock, workers=3,
                    settings=["rm.standalone.workers_as=threads", "job.comm=inproc"],
                )
                print(results, sorted(seen))
                seen.clear()
            print(threading.active_count())
        """
    )
    done = jobs.python(program)
    assert (done.code, done.out) == (0, "[True, True, True] [0, 1, 2]\n" * 2 + "1\n"), done


def test_transports_that_need_processes_are_refused(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program(PROGRAMS), "-o", "rm.standalone.workers_as=threads", "-o", "job.comm=mpi")
    assert done.code == 2, done
    assert "mpi" in done.err
    assert "thread" in done.err
    assert not jobs.folders()
    refused = jobs.submit(f"{jobs.program(PROGRAMS)}:works", "-o", "job.comm=inproc")
    assert refused.code == 2, refused
    assert "inproc" in refused.err


def test_detaching_from_threads_is_refused(jobs: Jobs) -> None:
    done = jobs.submit(f"{jobs.program(PROGRAMS)}:works", *THREADS, "--detach")
    assert done.code == 2, done
    assert not jobs.folders()


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
@pytest.mark.parametrize("command", [("list",), ("status", "last")])
def test_what_a_program_leaves_that_ends_the_one_process_is_removed_by_the_next_command(
    jobs: Jobs, end: str, command: tuple[str, ...]
) -> None:
    program = jobs.program(
        f"""
        import os, signal

        def main(env):
            env.barrier()
            if env.worker_id == 0:
                {end}
            env.barrier()
        """
    )
    assert jobs.submit(program, *THREADS).code == (0 if "_exit" in end else -9)
    folders = list(jobs.temporary.glob("twister2-*/*"))
    assert len(folders) == 1
    told = jobs.start(*command).finish()
    assert told.code == 0, told
    assert "failed" in told.out, told
    assert not folders[0].exists()
