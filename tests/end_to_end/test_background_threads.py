"""Threads that a program starts, and what they raise: never lost, never a hang."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

THREADS = ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")

PROGRAMS = """
    import threading
    from concurrent.futures import ThreadPoolExecutor
    from twister2_net import allreduce

    def work(values):
        return 1 // len(values)

    def alone(env):
        thread = threading.Thread(target=work, args=([],), name="worker's helper")
        if env.worker_id == 1:
            thread.start()
            thread.join()
        print("sum", allreduce(env, 1))

    def pool(env):
        with ThreadPoolExecutor(1) as threads:
            futures = [threads.submit(work, [1] * (1 - env.worker_id)) for _ in range(2)]
            for future in futures:
                allreduce(env, future.result())

    def calls(env):
        def step():
            work([0] * (1 - env.worker_id))
            print("sum", allreduce(env, 1))

        thread = threading.Thread(target=step, name="the caller")
        thread.start()
        thread.join()

    def left(env):
        thread = threading.Thread(target=lambda: (env.barrier("never"), work([])), name="left")
        if env.worker_id == 1:
            thread = threading.Thread(target=lambda: work([]), name="left")
        thread.start()
"""


@pytest.mark.parametrize("options", [(), THREADS], ids=["processes", "threads"])
def test_what_a_thread_raises_is_shown_and_ends_no_job(jobs: Jobs, options: tuple[str, ...]) -> None:
    done = jobs.submit(f"{jobs.program(PROGRAMS)}:alone", "-q", *options)
    assert done.code == 0, done
    assert done.out.count("sum 2") == 2, done
    assert "Exception in thread worker's helper" in done.err, done
    assert "ZeroDivisionError" in done.err, done
    assert "return 1 // len(values)" in done.err, done


@pytest.mark.parametrize("options", [(), THREADS], ids=["processes", "threads"])
def test_what_a_function_in_a_pool_raises_is_the_error_of_who_asks_for_its_result(
    jobs: Jobs, options: tuple[str, ...]
) -> None:
    done = jobs.submit(f"{jobs.program(PROGRAMS)}:pool", "-q", *options)
    assert done.code == 1, done
    assert "ZeroDivisionError" in done.err, done
    assert "in work" in done.err, done


@pytest.mark.parametrize("function", ["calls", "left"])
def test_others_do_not_wait_for_ever_for_a_thread_that_has_failed(jobs: Jobs, function: str) -> None:
    """Its worker returns while the others are in a call."""
    done = jobs.submit(f"{jobs.program(PROGRAMS)}:{function}", "-q")
    assert done.code == 1, done
    assert "ZeroDivisionError" in done.err, done
    assert "worker 1" in done.err, done
    assert "Exception in thread" in done.err, done
