"""A worker's calls have one order: two threads in calls at the same time are an error that names both."""

from __future__ import annotations

import inspect
import threading
import time

import numpy
import pytest

from twister2.spec.collectives import Call
from twister2.spec.errors import Twister2Error, UsageError
from twister2_testkit.fakes import LocalCluster

BARRIER, ALLREDUCE = Call("barrier"), Call("allreduce")
CALLS = {
    "arrays": lambda env, mine: mine.run(ALLREDUCE, numpy.ones(1), numpy.empty(1)),
    "objects": lambda env, mine: mine.run_objects(ALLREDUCE, 1),
    "started": lambda env, mine: mine.start(ALLREDUCE, numpy.ones(1), numpy.empty(1)),
    "progress": lambda env, mine: env.network.progress(),
    "wait": lambda env, mine: env.network.wait_until(lambda: True, "nothing"),
}


@pytest.mark.parametrize("transport", ["loopback", "tcp"])
@pytest.mark.parametrize("call", CALLS)
def test_a_second_thread_is_told_of_the_first_and_the_attempt_is_over(transport, call):
    over, told, seen = threading.Event(), [], []

    def main(env):
        mine = env.network.collectives()
        for each in (CALLS["arrays"], CALLS["objects"]):  # in any thread, one at a time
            thread = threading.Thread(target=each, args=(env, mine), daemon=True)
            thread.start()
            thread.join(20)
        mine.run(ALLREDUCE, numpy.ones(1), numpy.empty(1))
        if env.worker_id:
            assert over.wait(20)
            return

        def second():
            while not env.network.waiter:
                time.sleep(0.001)
            time.sleep(0.02)
            try:
                CALLS[call](env, mine)
            except UsageError as error:
                told.append(error)
            over.set()

        thread = threading.Thread(target=second, name="the second", daemon=True)
        thread.start()
        try:
            mine.run(BARRIER)  # here the first one waits
        except Twister2Error as error:
            seen.append(error)
            raise
        finally:
            thread.join(20)

    with pytest.raises(Twister2Error, match="two threads of worker 0 communicate at the same time"):
        LocalCluster(2, transport, deadline_s=40).run(main)
    assert told
    assert seen
    for error in told:
        assert "'the second' and '" in error.what
        lines, start = inspect.getsourcelines(main)
        line = start + next(index for index, text in enumerate(lines) if "here the first" in text)
        assert f"test_one_thread.py:{line};" in error.why
        assert "test_one_thread.py:" in error.where
