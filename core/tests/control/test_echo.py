"""What a master without files of its own writes to its standard output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

import pytest

from twister2.control.echo import LONGEST, Echo, parse

ENDED = {"state": "completed", "error": None}


@pytest.fixture
def out() -> Iterator[IO[bytes]]:
    descriptor = os.memfd_create("echo")
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        yield file


def written(out: IO[bytes]) -> list[tuple[str, str]]:
    return [parse(line) for line in os.pread(out.fileno(), 1 << 24, 0).decode().split("\n")[:-1]]


def say(echo: Echo, text: str, worker: int = 0, stream: str = "stdout") -> None:
    echo.hear("output", {"worker": worker, "stream": stream, "text": text})


def test_lines_are_whole_whatever_the_pieces(out: IO[bytes]) -> None:
    echo = Echo(out.fileno())
    for piece in ("a", "b\nc", "\n", "", "d"):
        say(echo, piece)
    assert written(out) == [("worker-0", "ab"), ("worker-0", "c")]
    echo.hear("ended", ENDED)
    assert written(out)[2:] == [("worker-0", "d"), ("job", '{"state": "completed", "error": null}')]


def test_streams_and_workers_are_not_mixed_in_a_line(out: IO[bytes]) -> None:
    echo = Echo(out.fileno())
    for worker in (0, 1):
        say(echo, "out ", worker)
        say(echo, "err ", worker, "stderr")
    for worker in (0, 1):
        say(echo, "end\n", worker)
        say(echo, "end\n", worker, "stderr")
    assert written(out) == [(f"worker-{worker}", text) for worker in (0, 1) for text in ("out end", "err end")]


def test_output_that_never_ends_its_line_is_not_kept(out: IO[bytes]) -> None:
    echo = Echo(out.fileno())
    piece = "\r 50 %" + "x" * 1000
    for _ in range(500):
        say(echo, piece)
        assert sum(map(len, echo._begun.values())) <= LONGEST
    echo.hear("ended", ENDED)
    *lines, _ = written(out)
    assert "".join(text for _, text in lines) == piece * 500
    assert max(len(text) for _, text in lines) <= LONGEST + len(piece)
