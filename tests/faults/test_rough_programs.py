"""Programs that are rough with their process: what they do to themselves neither hangs nor harms the job."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.faults


def run(jobs: Jobs, body: str, workers: int = 1) -> list[str]:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    program = jobs.program(f"import os, sys, time\n\ndef main(env):\n{lines}\n")
    done = jobs.submit(program, workers=workers)
    assert done.code == 0, done
    return [line for line in (done.out + done.err).splitlines() if not line.startswith("twister2:")]


def test_half_a_surrogate_pair_in_a_log_record(jobs: Jobs) -> None:
    """As in names of files that are not UTF-8: the very byte."""
    lines = run(jobs, 'env.log.info("file %s", os.fsdecode(bytes([0xFF])) + ".txt")')
    assert any("file \ufffd.txt" in line for line in lines)


def test_bytes_that_are_not_text(jobs: Jobs) -> None:
    lines = run(jobs, 'sys.stdout.buffer.write(b"a\\xff\\x00b")\nsys.stdout.buffer.flush()\nprint("é\\ud800")')
    assert any("a\ufffd\x00bé\\ud800" in line for line in lines)


def test_a_bad_format_of_a_log_record(jobs: Jobs) -> None:
    lines = run(jobs, 'env.log.info("%d files", "x")\nprint("went on")')
    assert "went on" in lines


def test_a_forked_process_that_returns(jobs: Jobs) -> None:
    lines = run(
        jobs,
        """
if os.fork() == 0:
    print("child", flush=True)
    return
time.sleep(1)
env.barrier()
print("parent", env.worker_id, flush=True)
""",
        workers=2,
    )
    assert sorted(lines) == ["child", "child", "parent 0", "parent 1"]


def test_a_forked_process_that_raises(jobs: Jobs) -> None:
    lines = run(jobs, 'if os.fork() == 0:\n    raise ValueError("child")\ntime.sleep(0.5)\nprint("parent")')
    assert "parent" in lines
    assert "ValueError: child" in lines


def test_closed_and_replaced_standard_streams(jobs: Jobs) -> None:
    run(jobs, 'import io\nsys.stdout.close()\nsys.stderr = io.StringIO("x")')


def test_all_descriptors_closed(jobs: Jobs) -> None:
    """Nothing can be heard of it any more; that is an error of the program, seen at once."""
    program = jobs.program("import os\n\ndef main(env):\n    os.closerange(3, 4096)\n    env.barrier()\n")
    done = jobs.submit(program, workers=2)
    assert done.code == 1, done
    assert done.seconds < 50


def test_ignored_signals_another_folder_and_masks(jobs: Jobs) -> None:
    run(
        jobs,
        """
import signal
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
os.chdir("/")
os.umask(0)
env.barrier()
print("ok")
""",
        workers=2,
    )


def test_a_terminal_that_knows_few_characters(jobs: Jobs) -> None:
    program = jobs.program('def main(env):\n    print("gr\\u00f6\\u00dfe")\n    env.log.info("\\u4e16")\n')
    jobs.environment["PYTHONIOENCODING"] = "ascii"
    done = jobs.submit(program, workers=1)
    assert done.code == 0, done
    assert done.out == "gr\\xf6\\xdfe\n"
    assert "\\u4e16" in done.err


def test_threads_that_go_on_and_exit_handlers(jobs: Jobs) -> None:
    """As at the end of any Python program: threads are waited for, pools told to end, then the handlers run."""
    lines = run(
        jobs,
        """
import atexit, concurrent.futures, threading
atexit.register(lambda: print("handler", flush=True))
def work():
    time.sleep(1)
    env.log.info("thread done")
    print("thread", flush=True)
threading.Thread(target=work).start()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
pool = concurrent.futures.ThreadPoolExecutor(2)
pool.submit(time.sleep, 0.1)
""",
    )
    assert [line for line in lines if line in ("thread", "handler")] == ["thread", "handler"]
    assert any("thread done" in line for line in lines)


def test_threads_that_never_end_are_named_and_end_with_the_process(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import threading, time
        def main(env):
            threading.Thread(target=time.sleep, args=(600,), name="sleeper").start()
        """
    )
    done = jobs.submit(program, "-o", "job.threads_deadline_s=0.5", workers=1)
    assert done.code == 0, done
    assert done.seconds < 50
    assert "still ran 0.5 s after its function had returned, and end unfinished: sleeper" in done.err


def test_exit_handlers_that_never_end(jobs: Jobs) -> None:
    program = jobs.program(
        "import atexit, time\n\ndef main(env):\n    atexit.register(time.sleep, 600)\n    return 1\n"
    )
    done = jobs.submit(program, "-o", "job.threads_deadline_s=0.5", workers=1)
    assert done.code == 0, done
    assert done.seconds < 50
    assert "exit handlers of the program still ran after 0.5 s" in done.err


def test_an_abort_is_heard_while_threads_are_waited_for(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import threading, time
        def main(env):
            if env.worker_id == 0:
                time.sleep(1)
                raise ValueError("on purpose")
            threading.Thread(target=time.sleep, args=(3,)).start()
        """
    )
    done = jobs.submit(program, workers=2)
    assert done.code == 1, done
    assert "ValueError: on purpose" in done.err


def test_forked_processes_cannot_harm_the_line_to_the_supervisor(jobs: Jobs) -> None:
    """They log at the same time as the worker, are killed in the middle of it, and try what only the worker may."""
    lines = run(
        jobs,
        """
import multiprocessing, signal, threading, twister2
def child(number):
    env.log.info("child %d", number)
    env.progress(1, 2)
    try:
        env.barrier()
    except twister2.Twister2Error as error:
        print("refused", error.what.split(",")[1], flush=True)
    while True:
        env.log.debug("x" * 1000)
        os.write(2, b"")
threading.Thread(target=lambda: [env.log.info("record %d", n) for n in range(3000)]).start()
children = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        child(number)
    children.append(pid)
time.sleep(1)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2]), flush=True)
os.system("ls -l /proc/self/fd | grep -c -e memfd:twister2 -e 'socket:' ")
env.barrier()
print("went on", flush=True)
""",
    )
    assert "[1, 2]" in lines
    assert "0" in lines
    assert "went on" in lines
    assert sum("INFO child" in line for line in lines) == 4
    assert lines.count("refused  it was forked from it") == 4
    assert sum("record" in line for line in lines) == 3000
