"""Connections that break and come back: nothing is noticed when nothing was lost, and lost messages are an error."""

from __future__ import annotations

import time

import pytest

from twister2.spec.errors import NetworkError


def wait(ask, *transports, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < deadline
        for transport in transports:
            transport.progress()
        time.sleep(0.001)
    return answer


def send(writer, reader, data):
    wait(lambda: writer.isend(0, [data]), writer, reader)


def test_a_connection_that_breaks_while_idle_comes_back(line):
    reader, writer, proxy = line
    for number in range(3):
        send(writer, reader, b"%d" % number)
        assert wait(reader.receive, reader, writer).frames[0] == b"%d" % number
        proxy.cut()
        time.sleep(0.1)
    assert reader.dropped == 0


@pytest.mark.parametrize("more", [True, False], ids=["another message follows", "nothing follows"])
def test_messages_lost_with_a_connection_are_an_error(line, more):
    reader, writer, proxy = line
    send(writer, reader, b"first")
    assert wait(reader.receive, reader, writer).frames[0] == b"first"
    proxy.swallow = True
    send(writer, reader, b"lost")
    wait(lambda: proxy.swallowed, writer, reader)
    time.sleep(0.2)
    proxy.cut()
    proxy.swallow = False
    if more:
        time.sleep(0.2)
        send(writer, reader, b"third")
    with pytest.raises(NetworkError, match="from worker 1 were lost"):
        wait(reader.receive, reader, writer)
