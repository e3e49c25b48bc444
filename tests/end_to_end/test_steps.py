"""Workers that do not do the same: named with their lines; an abort that reaches everybody, again and again."""

from __future__ import annotations

from twister2_testkit.jobs import Jobs


def line_of(program: object, text: str) -> str:
    lines = program.read_text().splitlines()  # type: ignore[attr-defined]
    (number,) = [index for index, line in enumerate(lines, 1) if line.strip().startswith(text)]
    return f"{program}:{number}"


def test_a_worker_that_returns_early_while_others_wait_in_a_barrier(jobs: Jobs) -> None:
    program = jobs.program(
        """
        def main(env):
            env.barrier()
            if env.worker_id == 2:
                return
            env.barrier("second")
        """
    )
    done = jobs.submit(program, workers=3)
    assert done.code == 1, done
    assert "[T2-J406] worker 2 has returned while worker" in done.err
    assert line_of(program, 'env.barrier("second")') in done.err
    assert done.err.count("[T2-") == 1
    assert done.seconds < 50


def test_a_worker_that_returns_early_while_others_wait_in_an_operator(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_net import allreduce
        def main(env):
            allreduce(env, 1)
            if env.worker_id == 0:
                return
            allreduce(env, 2)
            allreduce(env, 3)
        """
    )
    done = jobs.submit(program, workers=3)
    assert done.code == 1, done
    assert "worker 0 has returned while worker" in done.err
    assert line_of(program, "allreduce(env, 2)") in done.err
    assert "allreduce" in done.err


def test_another_branch_names_both_lines(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_net import allreduce, broadcast
        def main(env):
            if env.worker_id == 1:
                broadcast(env, "x")
            else:
                allreduce(env, 1)
        """
    )
    done = jobs.submit(program, workers=2)
    assert done.code == 1, done
    assert "[T2-J406]" in done.err
    assert line_of(program, 'broadcast(env, "x")') in done.err
    assert line_of(program, "allreduce(env, 1)") in done.err


def test_barriers_of_other_names_and_a_barrier_against_an_operator(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_net import allreduce
        def names(env):
            env.barrier("left" if env.worker_id else "right")
        def mixed(env):
            env.barrier() if env.worker_id else allreduce(env, 1)
        def commit_against_barrier(env):
            env.state("x", 0)
            env.commit() if env.worker_id else env.barrier()
        def exchange_against_barrier(env):
            env.controller.exchange("e", 1) if env.worker_id else env.barrier("e")
        """
    )
    for function, named in (
        ("names", ("left", "right")),
        ("mixed", ("barrier", "network first use")),
        ("commit_against_barrier", ("commit", "barrier")),
        ("exchange_against_barrier", ("exchange", "barrier")),
    ):
        done = jobs.submit(f"{program}:{function}")
        assert done.code == 1, (function, done)
        assert "[T2-J406] workers 0 and 1 are in different collective steps" in done.err, (function, done)
        assert all(text in done.err for text in named), (function, done)
        assert done.err.count(f"{program}:") == 2, (function, done)


def test_the_first_use_of_the_network_waits_for_slow_workers(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import time
        from twister2_net import allreduce
        def main(env):
            time.sleep(5 * env.worker_id)
            print(allreduce(env, 1))
        """
    )
    done = jobs.submit(program, "-o", "job.network.form_deadline_s=3")
    assert (done.code, done.out) == (0, "2\n2\n"), done


def test_barriers_commits_exchanges_and_operators_mix(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_net import allreduce
        def main(env):
            count = env.state("count", 0)
            for turn in range(20):
                env.barrier()
                env.barrier("named")
                count.value += sum(env.controller.exchange("x", env.worker_id))
                if turn % 5 == 0:
                    env.commit()
                count.value += allreduce(env, 1)
            print(count.value)
        """
    )
    done = jobs.submit(program, workers=3)
    assert (done.code, done.out) == (0, "120\n" * 3), done
    assert [event["checkpoint"] for event in jobs.events("checkpoint_committed")] == [1, 2, 3, 4]


SWALLOW = """
    import time
    from twister2.spec.errors import StepAbortedError
    from twister2_net import allreduce

    def main(env):
        try:
            env.barrier()
        except StepAbortedError:
            pass  # worker 1 was quicker
        if env.worker_id == 1:
            raise ValueError("the first cause")
        for number in range({turns}):
            try:
                env.barrier() if number % 2 else allreduce(env, 1)
            except Exception as error:
                print(number, type(error).__name__, flush=True)
                {sleep}
"""


def test_a_swallowed_abort_is_raised_again_from_every_call(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program(SWALLOW.format(turns=6, sleep="")), "-o", "job.kill_grace_s=60")
    assert done.code == 1, done
    assert "ValueError: the first cause" in done.err
    assert done.out.splitlines() == [f"{number} StepAbortedError" for number in range(6)]


def test_a_worker_that_goes_on_after_the_abort_is_ended(jobs: Jobs) -> None:
    program = jobs.program(SWALLOW.format(turns=1_000_000, sleep="time.sleep(0.01)"))
    done = jobs.submit(program, "-o", "job.kill_grace_s=0.5")
    assert done.code == 1, done
    assert "ValueError: the first cause" in done.err
    assert done.err.count("[T2-") == 1
    assert done.seconds < 50


def test_a_worker_that_never_calls_anything_is_ended(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import time
        def main(env):
            if env.worker_id == 1:
                raise ValueError("the first cause")
            while True:
                time.sleep(0.1)
        """
    )
    done = jobs.submit(program, "-o", "job.kill_grace_s=0.5")
    assert done.code == 1, done
    assert "the first cause" in done.err
    assert done.seconds < 50


def test_an_action_of_on_close_runs_after_an_abort(jobs: Jobs) -> None:
    program = jobs.program(
        """
        def main(env):
            env.on_close(lambda: print("closed", env.worker_id, flush=True))
            env.barrier()
            if env.worker_id == 1:
                raise ValueError("first")
            env.barrier()
        """
    )
    done = jobs.submit(program, "-o", "job.kill_grace_s=60")
    assert done.code == 1, done
    assert sorted(done.out.splitlines()) == ["closed 0", "closed 1"]


def test_a_barrier_with_a_deadline_names_who_is_missing(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import time
        def main(env):
            if env.worker_id in (1, 3):
                time.sleep(60)
            env.barrier("meeting", deadline_s=5.0)
        """
    )
    done = jobs.submit(program, "-o", "job.kill_grace_s=0.2", workers=4)
    assert done.code == 1, done
    assert "[T2-J408] barrier 'meeting' was not complete within 5 s" in done.err
    assert "did not come: 1, 3" in done.err


def test_an_exchange_takes_small_json_only(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2.spec.errors import UsageError
        def main(env):
            for bad in (object(), b"x", "x" * 70_000, {1, 2}):
                try:
                    env.controller.exchange("x", bad)
                except UsageError:
                    print("refused")
            assert env.controller.exchange("x", {"a": [1, None, "ü"]}) == [{"a": [1, None, "ü"]}]
        """
    )
    done = jobs.submit(program, workers=1)
    assert (done.code, done.out) == (0, "refused\n" * 4), done
