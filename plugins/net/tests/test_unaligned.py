"""Arrays that begin at no multiple of the size of their items, as parts of files do: every operator and call gives what
it gives for other arrays, over every kind of transport.
"""

from __future__ import annotations

import numpy as np
import pytest

import twister2_net as net
from twister2_testkit.fakes import LocalCluster

WORKERS = 3
SIZES = (5, 40_000)
"""Elements: small enough to be copied on the way, and too large."""


def unaligned(array, writable):
    raw = b"?" + array.tobytes()
    moved = np.frombuffer(bytearray(raw) if writable else raw, "u1")[1:].view(array.dtype)
    assert not moved.flags.aligned
    return moved


def through(name, targets, algorithm="", *, listed=False, **options):
    """What one worker's targets get of an operator to which all workers give an array."""
    if algorithm:
        options["algorithm"] = algorithm

    def does(env, array):
        with net.operator(env, name, sources=list(range(WORKERS)), targets=targets, **options) as op:
            found = op.run({source: [[array] if listed else array] for source in op.local_sources}, 60.0)
        return [item.value for target in sorted(found) for item in sorted(found[target], key=lambda one: one.source)]

    return does


ALL = [0, 1, 2]
WAYS = {
    "direct": through("direct", [1, 2, 0]),
    "direct, in a list": through("direct", [1, 2, 0], listed=True),
    "sort": through("sort", ALL),
    "reduce_scatter round a ring": lambda env, array: through("reduce_scatter", ALL, "ring", reducer="sum")(
        env, array[:3]
    ),
    **{f"gather {way}": through("gather", [1], way) for way in ("direct", "tree", "chain")},
    **{f"allgather {way}": through("allgather", ALL, way) for way in ("direct", "tree", "chain")},
    **{f"reduce {way}": through("reduce", [1], way, listed=True, reducer="sum") for way in ("direct", "tree", "chain")},
    **{
        f"allreduce {way}": through("allreduce", ALL, way, listed=True, reducer="sum")
        for way in ("direct", "tree", "chain", "ring")
    },
    "call of allreduce": net.allreduce,
    "call of reduce": net.reduce,
    "call of scan": net.scan,
    "call of broadcast": net.broadcast,
    "call of gather": net.gather,
    "call of allgather": net.allgather,
    "call of reduce_scatter": lambda env, array: net.reduce_scatter(env, array[: len(array) // 3 * 3]),
    "call of alltoall": lambda env, array: net.alltoall(env, array[: len(array) // 3 * 3]),
    "call of partition": lambda env, array: net.partition(env, array, "round_robin"),
}


def arrays(found):
    """Those in what came."""
    if isinstance(found, np.ndarray):
        return [found]
    return [] if found is None else [one for part in found for one in arrays(part)]


@pytest.mark.parametrize("transport", ["loopback", "tcp", "shm"])
@pytest.mark.parametrize("writable", [False, True])
def test_answers_are_those_of_other_arrays(transport, writable):
    def main(env):
        wrong = []
        for name, does in WAYS.items():
            for size in SIZES:
                array = np.arange(float(size)) * 2**env.worker_id
                moved = arrays(does(env, unaligned(array, writable)))
                plain = arrays(does(env, array))
                if len(moved) != len(plain) or not all(map(np.array_equal, moved, plain)):
                    wrong.append((name, size))
        return wrong

    assert LocalCluster(WORKERS, transport, deadline_s=120).run(main) == [[]] * WORKERS
