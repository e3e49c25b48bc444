"""What workers print: every byte, whole lines, and no more of it on the disk than is allowed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from twister2_testkit.jobs import Jobs

BYTES = """
    import os, sys

    def main(env):
        os.write(1, bytes(range(256)) * 300 + b"\\n")
        os.write(2, b"\\xff\\xfe caf\\xe9\\n")
        sys.stdout.write("snow \\u96ea, half \\udce9\\n")
"""

MUCH = """
    def main(env):
        for number in range(30_000):
            print(f"{number:06} " + "x" * 93)
        print("the end", flush=True)
"""

LINES = """
    import sys, threading

    def main(env):
        def talk(name):
            for number in range(400):
                print("line", name, number, "-" * 40)
        helper = threading.Thread(target=talk, args=(f"h{env.worker_id}",))
        helper.start()
        talk(f"w{env.worker_id}")
        helper.join()
        print("no end", end="")
"""


def raw(jobs: Jobs, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "twister2.cli.main", *words]
    return subprocess.run(command, cwd=jobs.folder, env=jobs.environment, capture_output=True, timeout=40, check=False)


def test_bytes_that_are_no_text_arrive_as_they_are(jobs: Jobs) -> None:
    program = jobs.program(BYTES)
    done = raw(jobs, "submit", "standalone", "-q", "-n", "1", str(program))
    assert done.returncode == 0, done
    out = bytes(range(256)) * 300 + b"\n" + "snow 雪, half ".encode() + b"\\udce9\n"
    assert done.stdout == out
    assert done.stderr == b"\xff\xfe caf\xe9\n"
    log = (jobs.job() / "logs" / "worker-0.log").read_bytes()
    assert len(log) == len(out) + len(done.stderr)
    assert done.stderr in log
    shown = raw(jobs, "logs", "last", "-w", "0")
    assert shown.stdout == log
    assert raw(jobs, "status", "last").returncode == 0


def test_a_log_has_a_limit(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program(MUCH), "-q", "-o", "job.log_limit_mb=1", workers=1)
    assert done.code == 0, done
    assert done.out.count("\n") == 30_001
    files = list((jobs.job() / "logs").iterdir())
    assert len(files) == 2
    assert sum(path.stat().st_size for path in files) < 1.1 * (1 << 20)
    first, *lines, last = jobs.cli("logs", "last", "-w", "0").out.splitlines()
    assert re.fullmatch(r"twister2: [\d,]+ bytes come before this; older ones .* are removed", first)
    assert last == "the end"
    numbers = [int(line[:6]) for line in lines]
    assert numbers == list(range(numbers[0], 30_000))
    assert len(numbers) > 5_000
    events = [json.loads(line)["event"] for line in jobs.cli("logs", "last", "--events").out.splitlines()]
    assert events[-1] == "job_ended"


def test_threads_print_whole_lines(jobs: Jobs) -> None:
    program = jobs.program(LINES)
    options = ("-q", "-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")
    done = jobs.submit(program, *options, workers=3)
    assert done.code == 0, done
    lines = done.out.splitlines()
    whole = re.compile(r"(no end)*line ([hw]\d) (\d+) -{40}")
    found = [match for line in lines if (match := whole.fullmatch(line))]
    assert len(found) == 6 * 400, [line for line in lines if not whole.fullmatch(line)][:5]
    assert done.out.count("no end") == 3
    for name in ("h0", "h1", "h2", "w0", "w1", "w2"):
        assert [int(match[3]) for match in found if match[2] == name] == list(range(400))
