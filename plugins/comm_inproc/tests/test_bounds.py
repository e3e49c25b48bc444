"""The bounds of the queue between two workers are those of the options."""

from __future__ import annotations

import itertools

import pytest

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2_comm_inproc.config import InprocConfig
from twister2_comm_inproc.plugin import InprocPlugin

sessions = itertools.count()


@pytest.fixture
def make_pair(tmp_path):
    """Two connected ranks, the first of which writes and the second of which does not read."""
    opened = []

    def make(**options):
        session = f"bounds-{next(sessions)}"
        for rank in range(2):
            context = TransportContext(
                job_id="job",
                attempt=1,
                rank=rank,
                size=2,
                node=NodeFacts("host"),
                runtime_dir=str(tmp_path),
                session=session,
                curve_public="",
                curve_secret="",
                peer_keys={},
                aborted=lambda: False,
            )
            opened.append(InprocPlugin().comm_create(config=InprocConfig(**options), context=context))
        pair = opened[-2:]
        addresses = {rank: transport.open() for rank, transport in enumerate(pair)}
        for transport in pair:
            transport.connect(addresses)
        return pair

    yield make
    for transport in opened:
        transport.close()


def taken(writer, frame, most=1000):
    """How many messages the writer is taken before one is refused."""
    return next(number for number in range(most) if writer.isend(1, [frame]) is None)


@pytest.mark.parametrize("bound", [1, 7, 300])
def test_messages(make_pair, bound):
    writer, reader = make_pair(queue_messages=bound)
    assert taken(writer, b"x") == bound
    while reader.receive() is not None:
        pass
    assert writer.isend(1, [b"x"]) is not None


@pytest.mark.parametrize("bound", [1000, 10_000])
def test_bytes(make_pair, bound):
    writer, reader = make_pair(queue_bytes=bound)
    assert taken(writer, bytes(100)) == bound // 100
    while reader.receive() is not None:
        pass
    assert writer.isend(1, [bytes(100)]) is not None


def test_one_message_may_be_larger(make_pair):
    writer, reader = make_pair(queue_bytes=1000)
    assert writer.isend(1, [bytes(5000)]) is not None
    assert writer.isend(1, [b"x"]) is None
    assert reader.receive().frames[0].nbytes == 5000
    assert writer.isend(1, [b"x"]) is not None
