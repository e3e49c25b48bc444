from __future__ import annotations

import threading
from typing import Any

import pytest

streams = pytest.importorskip("harness.streams")


class Line:
    """A list of messages between two ends."""

    def __init__(self, *, damaged: bool = False) -> None:
        self._sent: list[Any] = []
        self._there = threading.Semaphore(0)
        self._damaged = damaged

    def send(self, data: Any) -> None:
        self._sent.append(bytes(data)[:-1] if self._damaged and len(data) > 1 else data)
        self._there.release()

    def receive(self, size: int) -> Any:
        assert self._there.acquire(timeout=10)
        return self._sent.pop(0)


class End:
    def __init__(self, out: Line, back: Line) -> None:
        self.send, self.receive = out.send, back.receive


def both(streams_of: Any) -> list[Any]:
    answers: dict[int, Any] = {}

    def run(rank: int) -> None:
        answers[rank] = streams_of(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [answers[0], answers[1]]


@pytest.mark.parametrize("damaged", [False, True])
def test_what_arrives_is_looked_at(damaged: bool) -> None:
    there, back = Line(damaged=damaged), Line()
    ends = End(there, back), End(back, there)
    answers = both(lambda rank: streams.through(ends[rank], {})(rank, 1000, 20))
    assert [good for _, good in answers] == [True, not damaged]


@pytest.mark.parametrize("copies", [False, True])
def test_a_segment_brings_what_was_written(copies: bool) -> None:
    segment = streams.Segment(1 << 16, copies=copies)
    cases = {"case": (1 << 16, 10, segment.stream, segment.stream)}
    answers = both(lambda rank: streams.in_turns(rank, cases))
    segment.close()
    assert [answer["right"] for answer in answers] == [True, True]
    assert len(answers[0]["pairs"]["case"]) == 2
