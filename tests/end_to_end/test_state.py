"""Declared variables over attempts, scopes, and what the controller tells of an attempt's end."""

from __future__ import annotations

from twister2_testkit.jobs import Jobs

QUICK = ("-o", "job.heartbeat_s=0.25")

DIES = """
    import os, signal

    def main(env):
        turn = env.state("turn", 0)
        mine = env.state("mine", [], scope="worker")
        start = turn.value
        while turn.value < 10:
            turn.value += 1
            mine.value.append((env.worker_id, env.attempt, turn.value))
            if turn.value in (3, 6):
                number = env.commit()
            env.barrier()
            if turn.value == 5 * env.attempt and env.worker_id == 1 and env.attempt < 3:
                os.kill(os.getpid(), signal.SIGKILL)
        print(env.worker_id, env.attempt, start, mine.value)
"""


def test_a_killed_worker_goes_on_from_the_last_commit(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program(DIES), *QUICK)
    assert done.code == 0, done
    assert [event["checkpoint"] for event in jobs.events("attempt_started")] == [0, 1, 2]
    for worker in (0, 1):
        turns = [(worker, 1, turn) for turn in (1, 2, 3)] + [(worker, 2, turn) for turn in (4, 5, 6)]
        turns += [(worker, 3, turn) for turn in (7, 8, 9, 10)]
        assert f"{worker} 3 6 {turns}" in done.out.splitlines(), done


def test_committed_values_are_read_only_by_their_own_job(jobs: Jobs) -> None:
    program = jobs.program(
        """
        def main(env):
            count = env.state("count", 0)
            print(count.value)
            count.value += 1
            env.commit()
        """
    )
    for _ in range(2):
        done = jobs.submit(program, workers=1)
        assert (done.code, done.out) == (0, "0\n"), done


def test_what_is_wrong_with_a_declaration(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, signal, threading
        from twister2.spec.errors import Twister2Error
        def keyed(env):
            env.state("k", {}, scope="keyed")
        def twice(env):
            env.state("x", 0)
            env.state("x", 1)
        def changed(env):
            env.state("x", 0, scope="replicated" if env.attempt == 1 else "worker")
            env.commit()
            if env.attempt == 1 and env.worker_id == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            env.barrier()
        def locked(env):
            env.state("a", 1)
            env.state("b", threading.Lock(), scope="worker")
            env.commit()  # the line to name
        def unpicklable(env):
            env.state("gen", (x for x in [])).value
            env.commit()
        """
    )
    for function, texts in (
        ("keyed", ("[T2-P108]", "keyed", "'k'")),
        ("twice", ("'x' is declared twice",)),
        ("changed", ("'x' was committed with scope 'replicated', now it has 'worker'",)),
        ("unpicklable", ("variable 'gen' (generator) cannot be saved",)),
        ("locked", ("[T2-S700]", "variable 'b' (lock) cannot be saved", "prog.py:18", "cannot pickle '_thread.lock'")),
    ):
        done = jobs.submit(f"{program}:{function}", *QUICK)
        assert done.code in (1, 2), (function, done)
        assert all(text in done.err for text in texts), (function, done)


def test_another_number_of_declared_variables_is_seen(jobs: Jobs) -> None:
    program = jobs.program(
        """
        def main(env):
            env.state("both", 0)
            if env.worker_id == 1:
                env.state("only one", 0)
            env.commit()
        """
    )
    done = jobs.submit(program)
    assert done.code == 1, done
    assert "[T2-J406]" in done.err
    assert "only one" in done.err


def test_only_the_last_checkpoints_are_kept_while_the_job_runs(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import time
        def main(env):
            value = env.state("v", 0)
            for _ in range(6):
                value.value += 1
                number = env.commit()
            env.barrier()
            for _ in range(1000):  # the master removes old ones in its own time
                keys = env.backend("state").list(f"checkpoints/{env.job_id}/")
                found = sorted({key.split("/")[2] for key in keys})
                if len(found) == 2:
                    break
                time.sleep(0.05)
            print(number, found)
        """
    )
    done = jobs.submit(program, workers=1)
    assert (done.code, done.out) == (0, "6 ['00000005', '00000006']\n"), done


def test_stores_and_sources_are_told_the_attempt(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, signal
        from twister2.spec.plugin import hookimpl
        from twister2_data_file.backend import FileBackend
        from twister2_state_file.plugin import FileStatePlugin
        from twister2_tset import TSetContext

        told = []
        plan, create = FileBackend.plan, FileStatePlugin.state_create
        def noted_plan(self, request, n_tasks):
            told.append(("read", request.attempt))
            return plan(self, request, n_tasks)
        @hookimpl
        def noted_create(self, config, context):
            told.append(("store", context.attempt))
            return create(self, config, context)

        def main(env):
            FileBackend.plan, FileStatePlugin.state_create = noted_plan, noted_create
            env.backend("state")
            assert TSetContext(env).read_text(__file__).count() > 0
            if env.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            print(env.attempt, sorted(told))
        """
    )
    done = jobs.submit(program, *QUICK, workers=1)
    assert (done.code, done.out) == (0, "2 [('read', 2), ('store', 2)]\n"), done


def test_events_of_the_controller(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, signal, time
        from twister2.spec.errors import StepAbortedError
        def main(env):
            env.barrier()
            if env.worker_id == 1 and env.attempt == 1:
                os.kill(os.getppid(), signal.SIGKILL)  # the fork server: this worker is lost
                time.sleep(60)
            seen = []
            for _ in range(1000):
                events = env.controller.events()
                seen += [(event.kind, event.worker_id) for event in events if event.kind != "joined"]
                if seen:
                    break
                time.sleep(0.05)
            if env.worker_id == 0:
                print(env.attempt, sorted(set(seen)), flush=True)
        """
    )
    done = jobs.submit(program, *QUICK, "-o", "job.kill_grace_s=60")  # what is seen is said before the end
    assert done.code == 0, done
    first, second = done.out.splitlines()
    assert first == "1 [('lost', 1)]"
    assert second.startswith("2 [")
    assert "('restarted', 1)" in second
