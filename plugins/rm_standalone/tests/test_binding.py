"""Which CPUs workers are bound to: on machines that are pretended, and on this one."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2_rm_standalone.binding import bindings, numa_nodes, parse
from twister2_testkit.processes import wait_until

TWO = [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_list_of_the_kernel():
    assert parse("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert parse("\n") == set()


def test_nodes_of_a_machine_and_only_cpus_that_may_be_used(tmp_path):
    for number, text in ((0, "0-3"), (1, "4-7"), (10, ""), (2, "8")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(f"{text}\n")
    assert numa_nodes({0, 1, 5, 6, 8}, tmp_path) == [[0, 1], [5, 6], [8]]
    assert numa_nodes({0, 1, 20}, tmp_path) == [[0, 1], [20]]
    assert numa_nodes({3, 1}, tmp_path / "none") == [[1, 3]]


def test_workers_get_cpus_of_their_own_and_of_one_node():
    assert bindings({0: 3, 1: 3, 2: 1, 3: 1}, TWO, "cpus") == {0: [0, 1, 2], 1: [4, 5, 6], 2: [3], 3: [7]}
    assert bindings({0: 1, 1: 6}, TWO, "cpus") == {0: [0], 1: [1, 2, 3, 4, 5, 6]}


def test_workers_get_the_node_with_the_least_to_do():
    assert bindings({0: 1, 1: 1, 2: 1}, TWO, "numa") == {0: TWO[0], 1: TWO[1], 2: TWO[0]}


@given(
    st.lists(st.floats(0.1, 9), min_size=1, max_size=20),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.sampled_from(["cpus", "numa"]),
)
def test_every_worker_has_cpus_and_those_that_come_later_move_nobody(wanted, sizes, how):
    nodes, first = [], 0
    for size in sizes:
        nodes.append([*range(first, first + size)])
        first += size
    wants = dict(enumerate(wanted))
    found = bindings(wants, nodes, how)
    assert [*found] == [*wants]
    assert all(cpus and set(cpus) <= set(range(first)) and len(set(cpus)) == len(cpus) for cpus in found.values())
    fewer = dict([*wants.items()][: len(wants) // 2])
    assert bindings(fewer, nodes, how) == {slot: found[slot] for slot in fewer}
    if how == "cpus" and sum(len(cpus) for cpus in found.values()) <= first:
        assert len({cpu for cpus in found.values() for cpu in cpus}) == sum(map(len, found.values()))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one CPU")
def test_copies_run_on_their_cpus(make_rm, allocation, tmp_path):
    rm = make_rm(bind="cpus")
    script = f"grep Cpus_allowed_list /proc/self/status >{tmp_path}/new-$TWISTER2_SLOT; " + (
        f"mv {tmp_path}/new-$TWISTER2_SLOT {tmp_path}/slot-$TWISTER2_SLOT; exec sleep 600"
    )
    handle = rm.submit(allocation("sh", "-c", script))
    try:
        wait_until(lambda: len([*tmp_path.glob("slot-*")]) == 2, 60, lambda: str([*tmp_path.iterdir()]))
        told = [parse((tmp_path / f"slot-{slot}").read_text().split()[1]) for slot in (0, 1)]
        assert told == [{cpu} for cpu in sorted(os.sched_getaffinity(0))[:2]]
    finally:
        rm.kill(handle, 0.5)
        rm.clean(handle)
        rm.close()
