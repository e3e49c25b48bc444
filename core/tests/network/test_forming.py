from __future__ import annotations

import threading
from functools import partial

import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.errors import DeadlineError, NetworkError
from twister2.worker.network import form_network
from twister2_testkit.board import Board
from twister2_testkit.fakes import transport_context
from twister2_testkit.loopback import LoopbackTransport


class Partial(LoopbackTransport):
    """Reaches only some pairs, and answers late."""

    def __init__(self, context, pairs):
        super().__init__(context)
        self.pairs = pairs
        self.rank = context.rank
        self.asked = 0
        self.closings = 0

    def reaches(self, peer):
        self.asked += 1
        return None if self.asked < 5 else (self.rank, peer) in self.pairs

    def close(self, *, aborted=False, deadline_s=2.0):
        self.closings += 1
        super().close(aborted=aborted, deadline_s=deadline_s)


def both(*pairs):
    return {*pairs, *((b, a) for a, b in pairs)}


def form(n, session, first, second=None, deadline=5.0):
    board = Board(n)
    results, made = [None] * n, []

    def worker(rank):
        context = transport_context(n, rank, session, "", board.link(rank))

        def make(context, pairs):
            made.append(Partial(context, pairs))
            return made[-1]

        transports = [("fast", partial(make, context, first))]
        if second is not None:
            other = transport_context(n, rank, session + "second", "", board.link(rank))
            transports.append(("slow", partial(make, other, second)))
        try:
            config = NetworkConfig(form_deadline_s=deadline)
            results[rank] = form_network(board.link(rank), transports, n, config, hosts={0: "alpha"})
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=worker, args=(rank,), daemon=True) for rank in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    board.close()
    return results, made


def test_each_pair_takes_the_first_transport_that_works_both_ways():
    one_way = {(0, 1), *both((1, 2))}
    networks, made = form(3, "prefer", one_way, both((0, 1), (0, 2), (1, 2)))
    chosen = [
        {peer: type(network.transport_of(peer)) and network.transport_of(peer).pairs is one_way for peer in range(3)
         if peer != network.worker_id}
        for network in networks
    ]  # fmt: skip
    assert chosen == [{1: False, 2: False}, {0: False, 2: True}, {0: False, 1: True}]
    for network in networks:
        network.close()
        network.close()
    assert all(transport.closings for transport in made), "unused transports are closed too"


def test_pairs_without_a_way_are_named_and_everything_is_closed():
    results, made = form(3, "missing", both((0, 1)), both((0, 2)))
    for error in results:
        assert isinstance(error, NetworkError)
        assert "1 and 2" in str(error)
        assert "fast" in str(error)
        assert error.details["pairs"] == [[1, 2]]
    assert all(transport.closings for transport in made)


def test_a_worker_that_does_not_come_is_waited_for_in_vain():
    board = Board(2)
    context = transport_context(2, 0, "alone", "", board.link(0))
    transport = Partial(context, set())
    with pytest.raises(DeadlineError, match="1"):
        form_network(board.link(0), [("fast", lambda: transport)], 2, NetworkConfig(form_deadline_s=0.2))
    assert transport.closings == 1
    board.close()
