"""Data that cannot be read, and disks and ports that cannot be had: one clear error, no orphan, nothing lost.

That no process and no file is left is checked when a :class:`Jobs` ends.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from twister2_testkit.jobs import Done, Jobs

AS_OTHERS = """
import ctypes, os, sys
for capability in (1, 2):  # DAC_OVERRIDE, DAC_READ_SEARCH: what lets root read every file
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "twister2.cli.main", *sys.argv[1:]])
"""


def fails(jobs: Jobs, body: str, *options: str, args: tuple[str, ...] = ()) -> Done:
    """Run a program whose ``main(env)`` has this body, without the rights of root over files; it must fail."""
    program = jobs.program("from twister2_tset import TSetContext\n\ndef main(env):\n" + body)
    words = ("-q", "-n", "2", "-o", "job.attempts=2", *options, program, *args)
    done = jobs.start_python("-c", AS_OTHERS, "submit", "standalone", *words).finish()
    assert done.code not in (0, None, -9), done
    assert done.out == "", done
    assert len(re.findall(r"\[T2-[A-Z]\d+\]", done.err)) == 1, done
    assert len(jobs.events("attempt_started")) <= 1, "what will be the same again was tried again"
    (ended,) = jobs.events("job_ended")
    assert ended["state"] == "failed"
    return done


# -- files that cannot be read -----------------------------------------------------------------------------------------


def truncated_gzip(folder: Path) -> str:
    data = gzip.compress(os.urandom(200_000).hex().encode())
    (folder / "cut.txt.gz").write_bytes(data[: len(data) // 2])
    return "cut.txt.gz"


def truncated_bz2(folder: Path) -> str:
    data = bz2.compress(os.urandom(200_000).hex().encode())
    (folder / "cut.txt.bz2").write_bytes(data[: len(data) // 2])
    return "cut.txt.bz2"


def damaged_xz(folder: Path) -> str:
    data = bytearray(lzma.compress(os.urandom(200_000).hex().encode()))
    data[len(data) // 2] ^= 0xFF
    (folder / "bad.csv.xz").write_bytes(data)
    return "bad.csv.xz"


def truncated_zstd(folder: Path) -> str:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(os.urandom(200_000).hex().encode())
    data = sink.getvalue().to_pybytes()
    (folder / "cut.txt.zst").write_bytes(data[: len(data) // 2])
    return "cut.txt.zst"


def no_object(folder: Path) -> str:
    lines = [*(json.dumps({"a": number}) for number in range(1000)), "null", "{}"]
    (folder / "lines.jsonl").write_text("\n".join(lines) + "\n")
    return "lines.jsonl"


def other_type(folder: Path) -> str:
    lines = [*(json.dumps({"a": number}) for number in range(100_000)), '{"a": "x"}']
    (folder / "lines.jsonl").write_text("\n".join(lines) + "\n")
    return "lines.jsonl"


def no_arrow(folder: Path) -> str:
    (folder / "0.arrow").write_bytes(b"ARROW1\0\0 this is something else")
    return "0.arrow"


def partial_record(folder: Path) -> str:
    (folder / "0.bin").write_bytes(bytes(8 * 1000 + 3))
    return "0.bin"


def malformed_row(folder: Path) -> str:
    rows = ["a,b", *(f"{number},{number}" for number in range(1000)), "1,2,3", "4,5"]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    return "rows.csv"


def other_schema(folder: Path) -> str:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2]}), folder / "0.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"a": ["x"], "b": [1.5]}), folder / "1.parquet")
    return "1.parquet"


def no_parquet(folder: Path) -> str:
    (folder / "0.parquet").write_bytes(b"PAR1 this is something else")
    return "0.parquet"


def unreadable(folder: Path) -> str:
    (folder / "closed.txt").write_text("secret\n")
    (folder / "closed.txt").chmod(0)
    return "closed.txt"


def not_utf8(folder: Path) -> str:
    (folder / "latin.txt").write_bytes("gr\u00f6\u00dfe\n".encode("latin-1"))
    return "latin.txt"


@pytest.mark.parametrize(
    ("make", "read", "says"),
    [
        (truncated_gzip, "read_text", "cut off at byte"),
        (malformed_row, "read_csv", "1002"),
        (other_schema, "read_parquet", "schema"),
        (no_parquet, "read_parquet", "Parquet"),
        (unreadable, "read_text", "may not read"),
        (not_utf8, "read_text", "UTF-8"),
        (truncated_bz2, "read_text", "cut off at byte"),
        (damaged_xz, "read_csv", "xz archive is damaged"),
        (truncated_zstd, "read_text", "cut off at byte"),
        (no_object, "read_json", "line 1001 is no object"),
        (other_type, "read_json", "line 100001"),
        (no_arrow, "read_arrow", "Arrow"),
        (partial_record, "read_binary", "at byte 8000"),
    ],
)
def test_a_file_that_cannot_be_read(
    jobs: Jobs, tmp_path: Path, make: Callable[[Path], str], read: str, says: str
) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    name = make(folder)
    options = ", record_bytes=8" if read == "read_binary" else ""
    body = f"    print(TSetContext(env).{read}(env.args[0]{options}).count())\n"
    done = fails(jobs, body, args=(f"{folder}/*",))
    assert name in done.err, done
    assert says in done.err, done


@pytest.mark.parametrize("given", [("nothing.txt",), ("*.txt",), ("there.csv", "nothing.txt", "*.txt")])
def test_an_input_that_is_not_there(jobs: Jobs, tmp_path: Path, given: tuple[str, ...]) -> None:
    """No such file, a glob that matches nothing, and both beside a file that is there: all of them are named."""
    (tmp_path / "there.csv").write_text("a,b\n1,2\n")
    done = fails(
        jobs, "    print(TSetContext(env).read_text(env.args).count())\n", args=tuple(f"{tmp_path}/{n}" for n in given)
    )
    assert "[T2-D" in done.err, done
    assert [name for name in given if f"{tmp_path}/{name}" in done.err] == [n for n in given if n != "there.csv"], done


# -- one record of many ------------------------------------------------------------------------------------------------


def test_a_function_that_fails_at_one_record_of_one_worker(jobs: Jobs) -> None:
    body = "    numbers = TSetContext(env).parallelize(range(1_500_000))\n"
    body += "    print(numbers.map(lambda number: 1 // (number - 1_000_000)).count())\n"
    done = fails(jobs, body)
    assert "ZeroDivisionError" in done.err, done
    assert f"{jobs.folder / 'prog.py'}:5" in done.err, done
    assert "StepAborted" not in done.err, done
    # which step, which record, which partition, and on which worker
    assert "'map (prog.py:5)' failed at record" in done.err, done
    assert re.search(r"failed at record [\d,]+ \(1000000\)", done.err), done
    assert "task 1 of 2, worker 1" in done.err, done
    # the traceback is the program's, down to the lambda
    assert done.err.count("Traceback (most recent call last)") == 1, done
    assert f'File "{jobs.folder / "prog.py"}", line 5, in <lambda>' in done.err, done
    assert "/twister2/" not in done.err.split("Traceback")[1], done


# -- disks that are full -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk_of(mebibytes: int, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    subprocess.run(words, check=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


@pytest.mark.needs_mount
@pytest.mark.parametrize("write", ["write_text", "write_csv", "write_json", "write_parquet", "write_arrow"])
def test_a_disk_that_is_full_while_results_are_written(jobs: Jobs, tmp_path: Path, write: str) -> None:
    with disk_of(2, tmp_path / "disk") as disk:
        (disk / "before").write_text("kept")
        body = "    import os\n"
        body += "    lines = TSetContext(env).source(lambda index: (os.urandom(100).hex() for _ in range(20_000)))\n"
        body += f"    lines.{write}(env.args[0])\n"
        done = fails(jobs, body, args=(str(disk / "out"),))
        assert "No space left" in done.err, done
        assert str(disk / "out") in done.err, done
        assert [path.name for path in disk.iterdir()] == ["before"]
        assert (disk / "before").read_text() == "kept"


COMMITS = """
    import os
    mine = env.state("mine", b"", scope="worker")
    for turn in range(100):
        mine.value = os.urandom(700_000)
        env.commit()
        with open(env.args[0] + f"/committed-{env.worker_id}", "w") as file:
            file.write(str(turn + 1))
        env.barrier()  # nobody goes on before all have said so
"""


@pytest.mark.needs_mount
def test_a_store_that_is_full_while_it_commits(jobs: Jobs, tmp_path: Path) -> None:
    with disk_of(5, tmp_path / "disk") as disk:
        done = fails(
            jobs, COMMITS, "-o", f"state.file.path={disk}", "-o", "job.checkpoint.keep=50", args=(str(tmp_path),)
        )
        assert "No space left" in done.err, done
        assert "state.file.path" in done.err, done
        assert str(disk) in done.err, done
        assert len(jobs.events("checkpoint_committed")) == int((tmp_path / "committed-0").read_text()) >= 1
        assert not [path for path in disk.rglob("*") if path.is_file()], "checkpoints outlive the job"


@pytest.mark.needs_mount
def test_a_state_folder_that_is_full_while_it_commits(jobs: Jobs, tmp_path: Path) -> None:
    """The records of the job lie on the same disk: what is told of its end is whole."""
    with disk_of(5, jobs.state):
        done = fails(jobs, COMMITS, "-o", "job.checkpoint.keep=50", args=(str(tmp_path),))
        assert "No space left" in done.err, done
        assert "job.state_dir" in done.err, done
        told = jobs.cli("status", "last")
        assert "failed" in told.out, told
        assert "No space left" in told.out, told
        jobs.check_nothing_left()


@pytest.mark.needs_mount
def test_a_disk_of_workers_that_is_too_small_for_the_package(jobs: Jobs) -> None:
    large = jobs.folder / "large.bin"
    large.write_bytes(os.urandom(3 << 20))
    with disk_of(2, jobs.state.with_name("disk")) as disk:
        jobs.environment["TMPDIR"] = str(disk)
        program = jobs.program("def main(env): ...")
        done = jobs.submit(program, "-o", f"job.files={large}")
        assert done.code == 4, done
        assert done.err.count("[T2-R304] the job package (3,1") == 1, done
        assert "No space left on device" in done.err, done
        assert f"{disk}/twister2-" in done.err, done
        assert "set TMPDIR of the workers to a folder on a larger disk" in done.err, done
        assert [event["error"]["code"] for event in jobs.events("job_ended")] == ["T2-R304"]
        assert len(jobs.events("worker_joined")) <= 2, "joined again, and failed again"
        assert not [path for path in disk.rglob("*") if path.is_file()]


# -- ports -------------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken(jobs: Jobs) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("-o", "job.comm=tcp", "-o", "comm.tcp.same_host=tcp", "-o", f"comm.tcp.port={port - 1}")
        done = fails(jobs, "    env.network.barrier()\n", *options)
        # worker 1's is taken here, and worker 0's may be by somebody else
        assert f"tcp://*:{port} " in done.err or f"tcp://*:{port - 1} " in done.err, done
        assert "comm.tcp.port" in done.err, done
        assert "ddress already in use" in done.err, done
