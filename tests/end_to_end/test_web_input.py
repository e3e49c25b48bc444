"""Whole jobs that read from a web server; the credentials in its URIs are told to nobody."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

SECRET = "".join(["hu", "sh"])
SOURCE = """
    from twister2_tset import TSetContext

    def main(env):
        context = TSetContext(env)
        lines = context.read_text(open(env.args[0]).read())
        print(lines.explain())
        print(lines.count())
        lines.filter(lambda line: line.endswith("7")).write_text(env.args[1], compression="gzip")
        print(context.read_text(env.args[1]).count())
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    (tmp_path / "web").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://user:{SECRET}@127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


def told(jobs: Jobs) -> list[Path]:
    """Files of the jobs that hold the secret."""
    return [path for path in jobs.state.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_a_job_that_reads_from_a_web_server(jobs: Jobs, tmp_path: Path, web: str) -> None:
    (tmp_path / "web" / "x.txt").write_text("".join(f"{number}\n" for number in range(50_000)))
    (tmp_path / "where").write_text(f"{web}/x.txt?sig={SECRET}")
    done = jobs.submit(jobs.program(SOURCE), args=(str(tmp_path / "where"), str(tmp_path / "out")))
    assert done.code == 0, done
    assert "50000" in done.out, done
    assert "5000\n" in done.out, done
    assert "/x.txt?sig=***" in done.out, done
    assert SECRET not in done.out + done.err, done
    assert told(jobs) == []


def test_a_job_whose_file_is_not_there(jobs: Jobs, tmp_path: Path, web: str) -> None:
    (tmp_path / "where").write_text(f"{web}/absent.txt?sig={SECRET}")
    done = jobs.submit(jobs.program(SOURCE), args=(str(tmp_path / "where"), str(tmp_path / "out")))
    assert done.code not in (0, None), done
    assert "no such input: http://***@127.0.0.1" in done.err, done
    assert SECRET not in done.out + done.err, done
    assert told(jobs) == []
