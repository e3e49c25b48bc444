"""Sub-groups of workers: who is not in a group is not missed by it."""

from __future__ import annotations

from twister2_testkit.jobs import Jobs


def test_others_may_return_while_a_group_is_in_a_step(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import time

        def main(env):
            env.network
            if env.worker_id == 2:
                return
            with env.network.step("long", group=env.group([0, 1])):
                time.sleep(2.5)
            print("done", env.worker_id)
        """
    )
    done = jobs.submit(program, workers=3)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["done 0", "done 1"]


def test_a_member_that_returns_is_missed(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_net import allreduce

        def main(env):
            env.network
            if env.worker_id < 2:
                group = env.group([0, 1])
                if env.worker_id == 0:
                    env.network.exchange_objects(1, group=group)
        """
    )
    done = jobs.submit(program, workers=3)
    assert done.code == 1, done
    assert "worker 1 has returned while worker 0 waits for it" in done.err
    assert done.seconds < 50


def test_a_worker_that_was_in_the_step_and_ran_ahead(jobs: Jobs) -> None:
    """Its notes of the group's step have left the board when it returns."""
    program = jobs.program(
        """
        import time

        def main(env):
            group = env.group([0, 1])
            for number in range(3):
                with env.network.step("short", group=group):
                    if number == 2 and env.worker_id == 0:
                        time.sleep(2.5)
            for number in range(40):
                with env.network.step("alone"):
                    pass
        """
    )
    done = jobs.submit(program, workers=2)
    assert done.code == 0, done
