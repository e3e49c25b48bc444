"""Ways between workers: everything of every source reaches every target once, in order of ranks, and nobody waits in a
circle.
"""

from __future__ import annotations

import graphlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2_net.exchange.ways import HERE, LOCAL, collection, gathering, reduction

RANKS = st.sets(st.integers(0, 12), min_size=1).map(sorted)


def flows(layout, ranks):
    """What comes to each rank's targets: sources in the order in which they are combined."""
    ways = {rank: layout(rank) for rank in ranks}
    waits = {}  # a way waits for the ways that feed it
    feeding = {}
    for rank, mine in ways.items():
        for index, way in enumerate(mine):
            for output in way.outputs:
                if output != HERE:
                    assert output != rank or way.role == "up", "a rank sends to itself"
                    assert (rank, output) not in feeding, "one channel for two purposes"
                    feeding[rank, output] = (rank, index)
    for rank, mine in ways.items():
        for index, way in enumerate(mine):
            waits[rank, index] = [feeding[origin, rank] for origin in way.inputs if origin != LOCAL]
    order = list(graphlib.TopologicalSorter(waits).static_order())
    carries = {}
    got = {}
    for rank, index in order:
        way = ways[rank][index]
        carries[rank, index] = [
            source
            for origin in way.inputs
            for source in ([rank] if origin == LOCAL else carries[feeding[origin, rank]])
        ]
        if HERE in way.outputs:
            assert rank not in got, "two ways to one worker's targets"
            got[rank] = carries[rank, index]
    used = {origin_rank for waiting in waits.values() for origin_rank in waiting}
    for channel, way in feeding.items():
        assert way in used, f"nobody reads channel {channel}"
    return got


@pytest.mark.parametrize("algorithm", ["direct", "tree", "chain"])
@given(RANKS, RANKS)
@settings(deadline=None, max_examples=60)
def test_reductions_combine_every_source_once_in_order_of_ranks(algorithm, sources, targets):
    ranks = sorted({*sources, *targets})
    got = flows(lambda me: reduction(algorithm, me, sources, targets), ranks)
    assert got == dict.fromkeys(targets, sources)
    finals = [rank for rank in ranks for way in reduction(algorithm, rank, sources, targets) if way.role == "final"]
    assert set(finals) <= set(targets), "state is held where no target is"


@pytest.mark.parametrize("algorithm", ["tree", "chain"])
@given(RANKS, RANKS)
@settings(deadline=None, max_examples=60)
def test_collections_bring_every_source_once(algorithm, sources, targets):
    ranks = list(range(max(*sources, *targets) + 1)) if algorithm == "chain" else sorted({*sources, *targets})
    got = flows(lambda me: collection(algorithm, me, sources, targets), ranks)
    assert {target: sorted(came) for target, came in got.items()} == dict.fromkeys(targets, sources)


@pytest.mark.parametrize("algorithm", ["tree", "chain"])
@given(RANKS, st.integers(0, 12))
@settings(deadline=None, max_examples=60)
def test_gathering_brings_every_source_to_the_root(algorithm, sources, root):
    ranks = sorted({*sources, root})
    got = flows(lambda me: gathering(algorithm, me, sources, root), ranks)
    assert {target: sorted(came) for target, came in got.items()} == {root: sources}
