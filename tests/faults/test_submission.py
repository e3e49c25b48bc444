"""A client that is killed in the middle of a submission leaves nothing, whatever it had done by then."""

from __future__ import annotations

import json
import os
import signal

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until

pytestmark = pytest.mark.faults

CLIENT = """
    import os, signal, sys, threading, time
    from twister2.cli.main import main
    from twister2.client.child import MasterChild
    from twister2.client.session import Session
    from twister2_rm_standalone.processes import ProcessManager

    where, threads, *words = sys.argv[1:]
    if threads == "threads":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

    def gone(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def after(function):
        def call(*args, **kwargs):
            function(*args, **kwargs)
            gone()
        return call

    if where == "before the ticket":
        MasterChild.send = gone
    elif where == "before the allocation":
        ProcessManager.submit = gone
    elif where == "in the allocation":
        ProcessManager._launch = gone
    elif where == "after the allocation":
        ProcessManager.submit = after(ProcessManager.submit)
    elif where == "after the record":
        Session._write_record = after(Session._write_record)
    sys.exit(main(words))
"""

WAITS = """
    import time

    def main(env):
        time.sleep(600)
"""


@pytest.mark.parametrize("threads", ["forked", "threads"])
@pytest.mark.parametrize(
    "where",
    ["before the ticket", "before the allocation", "in the allocation", "after the allocation", "after the record"],
)
def test_a_client_that_dies_while_it_submits(jobs: Jobs, where: str, threads: str) -> None:
    client, program = jobs.program(CLIENT, "client.py"), jobs.program(WAITS)
    done = jobs.python(client, where, threads, "submit", "standalone", "-q", "-n", "2", program)
    assert done.code == -signal.SIGKILL, done
    wait_until(lambda: not jobs.processes(), 40.0, lambda: f"left: {jobs.processes()}")
    if where == "after the record":
        assert json.loads(jobs.cli("status", "last", "--json").out)["state"] == "killed"
        assert jobs.events("job_ended")[0]["error"]["why"] == "the client that the job belongs to has gone"
    else:
        assert not jobs.folders()
    assert not list((jobs.state / "rm-standalone").glob("*"))
    # that nothing else is left is looked at when the test ends


def test_a_client_that_ignores_its_children_sees_the_end_of_its_master(jobs: Jobs) -> None:
    """``SIGCHLD`` ignored, as it may be inherited: then the kernel tells nobody how a child ended."""
    source = """
        import signal, sys
        from twister2.cli.main import main
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        sys.exit(main(sys.argv[1:]))
    """
    client = jobs.start_python(
        jobs.program(source, "client.py"), "submit", "standalone", "-q", "-n", "1", jobs.program(WAITS)
    )
    jobs.until_event("attempt_started")
    (master,) = jobs.pids("master")
    os.kill(master, signal.SIGKILL)
    done = client.finish()
    assert done.code == 1, done
    assert "[T2-J404] the job master ended before the job did" in done.err
    assert "SIGCHLD is ignored" in done.err
