"""How far data is from the workers: measured, rounded, equal everywhere."""

from __future__ import annotations

import itertools
import socket
import types

import pytest

from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.worker import distances
from twister2.worker.distances import Distances, machine_of, machines_of, pairs, power_of_two, round_trips
from twister2_testkit.fakes import LocalCluster


def workers(*hosts, **facts):
    return [WorkerInfo(k, k, NodeFacts(host, boot_id=f"boot {host}", **facts)) for k, host in enumerate(hosts)]


def measured(infos, *asked):
    """What each worker finds for each list of hosts, and the steps its network has made."""

    def program(env):
        controller = types.SimpleNamespace(workers=lambda: infos)
        made = Distances(types.SimpleNamespace(worker_id=env.worker_id, network=env.network, controller=controller))
        return [dict(made(hosts)) for hosts in asked]

    return LocalCluster(len(infos)).run(program)


def test_all_workers_find_the_same():
    results = measured(workers("a", "a", "b", "c"), ["a", "b", "c"])
    assert results == [results[0]] * 4
    (found,) = results[0]
    assert set(found) == set(itertools.product(range(4), ["a", "b", "c"]))
    assert [found[0, "a"], found[1, "a"], found[2, "b"], found[3, "c"]] == [0.0] * 4
    assert all(seconds > 0 for (k, host), seconds in found.items() if host != "aabc"[k])
    assert found[0, "b"] == found[1, "b"] == found[2, "a"]


def test_what_is_known_is_not_measured_again(monkeypatch):
    counted = []
    real = distances.round_trips
    monkeypatch.setattr(distances, "round_trips", lambda hosts: counted.append(tuple(hosts)) or real(hosts))
    results = measured(workers("a", "b"), ["a"], ["a"], ["a", "b"])
    assert len(counted) == 2 * 2
    assert set(results[0][2]) == {(0, "a"), (1, "a"), (0, "b"), (1, "b")}
    assert results[0][0] == results[0][1]


def test_a_host_without_workers_is_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        results = measured(workers("a", "b"), [host])
        assert results[0] == results[1]
        assert set(results[0][0]) == {(0, host), (1, host)}
        assert all(0 < seconds < 1 for seconds in results[0][0].values())


def test_a_refusal_is_an_answer_and_an_unknown_name_is_none():
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    assert set(round_trips([closed, "nowhere.invalid"])) == {closed}


def test_a_single_worker_needs_nobody():
    assert measured(workers("a"), ["a"]) == [[{(0, "a"): 0.0}]]


def test_names_and_addresses_of_machines():
    machines = machines_of(
        [
            WorkerInfo(0, 0, NodeFacts("n1.cluster", ("10.0.0.1",), boot_id="x")),
            WorkerInfo(1, 1, NodeFacts("n2", ("10.0.0.2",), boot_id="y", node="node-two")),
            WorkerInfo(2, 2, NodeFacts("other-name", boot_id="x")),
            WorkerInfo(3, 3, NodeFacts("n3")),
        ]
    )
    assert [[worker.worker_id for worker in machine] for machine in machines] == [[0, 2], [1], [3]]
    for name in ("n1.cluster", "N1", "10.0.0.1", "10.0.0.1:9866", "n1.cluster:9866", "other-name"):
        assert machine_of(name, machines) == 0, name
    for name in ("n2", "n2.cluster", "node-two"):
        assert machine_of(name, machines) == 1, name
    for name in ("10", "10.0.0.3", "n1.elsewhere", "n4", "::1", "[::1]:80"):
        assert machine_of(name, machines) is None, name


@pytest.mark.parametrize("n", range(1, 9))
def test_every_pair_comes_once_and_rounds_are_disjoint(n):
    found = list(pairs(n))
    assert sorted(found) == list(itertools.combinations(range(n), 2))
    per_round = n // 2
    for k in range(0, len(found), per_round or 1):
        busy = [worker for pair in found[k : k + per_round] for worker in pair]
        assert len(set(busy)) == len(busy)


@pytest.mark.parametrize(("seconds", "rounded"), [(1.0, 1.0), (1.3, 1.0), (1.5, 2.0), (0.0, 2.0**-20), (0.002, 2**-9)])
def test_rounding(seconds, rounded):
    assert power_of_two(seconds) == rounded
