"""What transports are asked for when the network is formed: nothing that is not needed."""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.errors import NetworkError
from twister2.worker.environment import Environment
from twister2.worker.network import WorkerNetwork, form_network
from twister2_testkit.board import Board
from twister2_testkit.fakes import transport_context
from twister2_testkit.loopback import LoopbackTransport


class Asked(LoopbackTransport):
    """Reaches some pairs only, and notes what it is asked for."""

    def __init__(self, context: Any, pairs: Collection[tuple[int, int]]) -> None:
        super().__init__(context)
        self._me, self._pairs = context.rank, pairs
        self.closed = 0
        self.told: list[list[int]] = []
        self.asked: set[int] = set()

    def connect(self, peers: Any) -> None:
        self.told.append(list(peers))
        super().connect(peers)

    def reaches(self, peer: int) -> bool:
        self.asked.add(peer)
        return (self._me, peer) in self._pairs

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        self.closed += 1
        super().close(aborted=aborted, deadline_s=deadline_s)


def all_pairs(n: int) -> set[tuple[int, int]]:
    return {(one, other) for one in range(n) for other in range(n) if one != other}


def formed(n: int, session: str, *reached: Collection[tuple[int, int]]) -> tuple[list[Any], list[list[Asked]]]:
    """The networks and, by worker, its transports in their order."""
    board = Board(n)
    networks: list[Any] = [None] * n
    made: list[list[Asked]] = [[] for _ in range(n)]

    def worker(rank: int) -> None:
        link = board.link(rank)

        def make(number: int) -> Asked:
            made[rank].append(Asked(transport_context(n, rank, f"{session}{number}", "", link), reached[number]))
            return made[rank][-1]

        transports = [(f"t{number}", partial(make, number)) for number in range(len(reached))]
        try:
            networks[rank] = form_network(link, transports, n, NetworkConfig(form_deadline_s=10.0))
        except Exception as error:
            networks[rank] = error

    threads = [threading.Thread(target=worker, args=(rank,), daemon=True) for rank in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    board.close()
    assert all(isinstance(network, WorkerNetwork) for network in networks), networks
    return networks, made


def test_those_behind_one_that_reaches_all_are_not_made() -> None:
    networks, made = formed(3, "enough", all_pairs(3), all_pairs(3))
    for rank, (first,) in enumerate(made):
        assert first.told == [[0, 1, 2]]
        assert first.asked == {0, 1, 2} - {rank}
        assert networks[rank].transports == (first,)
        assert {networks[rank].transport_name(peer) for peer in first.asked} == {"t0"}
        networks[rank].close()
        assert first.closed == 1


def test_the_next_one_is_asked_for_pairs_that_are_left() -> None:
    """Workers 0, 1 and 2 on one host, 3 elsewhere; 0 and 1 are heard in one direction only."""
    near = {(0, 1), (0, 2), (2, 0), (1, 2), (2, 1)}
    networks, made = formed(4, "left", near, all_pairs(4), all_pairs(4))
    assert [second.asked for _, second in made] == [{1, 3}, {0, 3}, {3}, {0, 1, 2}]
    assert [second.told for _, second in made] == [[[0, 1, 3]], [[0, 1, 3]], [[2, 3]], [[0, 1, 2, 3]]]
    names = [[network.transport_name(peer) for peer in range(4)] for network in networks]
    assert names == [["", "t1", "t0", "t1"], ["t1", "", "t0", "t1"], ["t0", "t0", "", "t1"], ["t1", "t1", "t1", ""]]
    assert [
        network.common_route(members)
        for network, members in zip(networks, ([0, 2], [1, 3], [0, 1, 2], [3]), strict=True)
    ] == [0, 1, None, None]
    assert [first.closed for first, _ in made] == [0, 0, 0, 1], "one that no pair of a worker uses is closed"
    for network in networks:
        network.close()


def test_a_worker_alone_makes_none() -> None:
    (network,), (made,) = formed(1, "alone", ())
    assert (made, network.transports) == ([], ())
    network.close()


class Half(Environment):
    """As much of a worker's environment as makes transports."""

    node: Any = None

    def __init__(self, made: list[str]) -> None:
        def does(*_: Any) -> int:
            return 0

        def create(kind: str, name: str, *_: Any, **__: Any) -> object:
            made.append(name)
            return object()

        self.worker_id, self.attempt, self.n_workers, self.job_id = 0, 1, 2, "job-1"
        job = SimpleNamespace(comm=("t0",), network=None, heartbeat_s=1.0)
        self._resolved: Any = SimpleNamespace(job=job, plugin=does)
        self._host: Any = SimpleNamespace(create=create)
        self._start: Any = SimpleNamespace(workers=(), runtime_dir="", session="", curve=("", ""), keys=())
        self._link: Any = SimpleNamespace(
            raise_if_aborted=does, next_step=does, enter_step=does, exchange=does, leave_step=does, aborted=False
        )
        self._memory: Any = object()
        self._network, self._transports = None, {}


def test_a_network_that_could_not_be_formed_is_tried_with_other_transports(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has closed its own."""
    made: list[str] = []
    env: Any = Half(made)

    def form(link: Any, transports: Any, *_: Any, **__: Any) -> Any:
        before = transports[0][1]()
        assert transports[0][1]() is before
        if len(made) == 1:
            raise NetworkError("they do not reach each other", why="a test", remedy="none")
        return "network"

    monkeypatch.setattr("twister2.worker.network.form_network", form)
    with pytest.raises(NetworkError):
        _ = env.network
    assert env.network == "network"
    assert made == ["t0", "t0"]
