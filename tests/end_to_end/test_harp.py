"""Harp in whole jobs, over every transport: every call, compared with numpy and plain Python."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

SHARED = """
import numpy
from twister2_harp import Harp, Table

def main(env):
    harp = Harp(env)
    harp.events.send((harp.rank + 1) % harp.size, harp.rank)
    came = harp.events.wait(20)
    array = env.empty_shared(1 << 15)
    array[:] = harp.rank
    everybody = harp.allgather(array)
    array[:] = 70
    harp.Barrier()
    seen = [int(part.max()) for part in everybody]
    table = harp.rotate(Table({harp.rank: numpy.ones(4)}))
    print("rank", harp.rank, came.value, seen, sorted(table))
"""

ARRAYS = """
import numpy as np
from twister2_harp import IN_PLACE, Harp

def data(rank, n):
    return (np.arange(n) * 7 + rank * 13) % 101

def check(name, got, expected):
    assert np.array_equal(got, expected), (name, got[:9], expected[:9])

def round_of(harp, n, waits):
    def do(name, *args, **more):
        if waits:
            getattr(harp, name)(*args, **more)
        else:
            getattr(harp, "I" + name.lower())(*args, **more).wait(30.0)

    ranks, me, root = range(harp.size), harp.rank, harp.size - 1
    at_root, mine = me == root, data(me, n)
    whole = np.concatenate([data(rank, n) for rank in ranks])
    total = sum(data(rank, n) for rank in ranks)
    out, wide = np.full(n, -1), np.full(n * harp.size, -1)
    do("Barrier")
    sent = mine.copy() if at_root else np.full(n, -1)
    do("Broadcast", sent, root)
    check("Broadcast", sent, data(root, n))
    for op, function in (("sum", np.sum), ("max", np.max), ("min", np.min), ("band", np.bitwise_and.reduce),
                         ("bxor", np.bitwise_xor.reduce), (lambda left, right: left + right, np.sum)):
        expected = function([data(rank, n) for rank in ranks], axis=0)
        do("Allreduce", mine, out, op)
        check("Allreduce", out, expected)
        place = mine.copy()
        do("Allreduce", IN_PLACE, place, op)
        check("Allreduce in place", place, expected)
        do("Reduce", mine, out if at_root else None, op, root)
        check("Reduce", out, expected)
        part = np.full(n, -1)
        do("Reduce_scatter", whole, part, op)
        check("Reduce_scatter", part, function([mine] * harp.size, axis=0))
    do("Scan", mine, out)
    check("Scan", out, sum(data(rank, n) for rank in range(me + 1)))
    out[:] = -1
    do("Exscan", mine, out)
    check("Exscan", out, sum(data(rank, n) for rank in range(me)) if me else np.full(n, -1))
    do("Gather", mine, wide if at_root else None, root)
    check("Gather", wide, whole if at_root else np.full(n * harp.size, -1))
    do("Allgather", mine, wide)
    check("Allgather", wide, whole)
    do("Scatter", whole if at_root else None, out, root)
    check("Scatter", out, mine)
    do("Alltoall", whole + 1000 * me, wide)
    check("Alltoall", wide, np.concatenate([mine + 1000 * rank for rank in ranks]))
    counts = [n + rank for rank in ranks]
    long = np.concatenate([np.full(count, rank) for rank, count in enumerate(counts)])
    own = np.full(counts[me], me)
    joined = np.full(len(long), -1)
    do("Gatherv", own, [joined, counts] if at_root else None, root)
    check("Gatherv", joined, long if at_root else np.full(len(long), -1))
    back = np.full(counts[me], -1)
    do("Scatterv", [long, counts] if at_root else None, back, root)
    check("Scatterv", back, own)
    do("Allgather", own, [joined, counts])
    check("Allgather with counts", joined, long)
    do("Alltoall", [long, counts], [np.full(counts[me] * harp.size, -1), [counts[me]] * harp.size])
    part = np.full(counts[me], -1)
    do("Reduce_scatter", long, [part, counts])
    check("Reduce_scatter with counts", part, own * harp.size)

def main(env):
    harp = Harp(env)
    for waits in (True, False):
        for n in (0, 1, 17, 5000, 300_000):
            round_of(harp, n, waits)
        for size in (harp.split(harp.rank % 2), harp.split_by_host()):
            round_of(size, 100, waits)
    assert harp.split(None if harp.rank else 1) is None or harp.rank == 0
    for operation in ("scan", "exscan", "gather", "scatter", "gatherv", "scatterv"):
        whole, ones = np.arange(harp.size * 3), np.ones(3, int)
        for name in harp.collectives.algorithms(operation.removesuffix("v")):
            out, at_root = np.zeros(3, int), harp.rank == 1 % harp.size
            root = {"root": 1 % harp.size}
            if operation in ("scan", "exscan"):
                getattr(harp, operation.capitalize())(ones, out, algorithm=name)
                assert out.tolist() == [harp.rank + (operation == "scan")] * 3, name
            elif operation == "gather":
                into = np.zeros_like(whole) if at_root else None
                harp.Igather(ones * harp.rank, into, **root, algorithm=name).wait()
                assert not at_root or into.tolist() == np.repeat(np.arange(harp.size), 3).tolist(), name
            elif operation == "scatter":
                harp.Scatter(whole if at_root else None, out, **root, algorithm=name)
                assert out.tolist() == whole[harp.rank * 3 :][:3].tolist(), name
            elif name == "direct":  # trees need equal counts
                parts = [np.zeros_like(whole), [3] * harp.size] if at_root else None
                if operation == "gatherv":
                    harp.Gatherv(ones, parts, **root, algorithm=name)
                    assert not at_root or parts[0].all()
                else:
                    harp.Scatterv(parts, out, **root, algorithm=name)
    for operation in ("allreduce", "reduce", "broadcast", "allgather", "alltoall", "reduce_scatter"):
        for name in harp.collectives.algorithms(operation):
            out = np.full(harp.size if operation in ("allgather", "alltoall") else 1, harp.rank + 1)
            call = getattr(harp, operation.capitalize())
            if operation == "broadcast":
                call(out, algorithm=name)
            elif operation == "reduce":
                call(np.array([1]), out if harp.rank == 0 else None, algorithm=name)
            else:
                send = np.arange(1 if operation in ("allreduce", "allgather") else harp.size)
                call(send, out, algorithm=name)
    print("rank", harp.rank, "all right")
"""

OBJECTS = """
import numpy as np
from twister2_harp import Harp, KeyValueTable, Table, dynamic, static

def plain(table):
    return {key: int(value[0]) for key, value in table.items()}

def objects(harp, waits):
    def do(name, *args):
        return getattr(harp, name)(*args) if waits else getattr(harp, "i" + name)(*args).wait(30.0)

    n, me, root = harp.size, harp.rank, harp.size - 1
    word = [chr(97 + rank) for rank in range(n)]
    whole = "".join(word)
    do("barrier")
    assert do("broadcast", {"it": me} if me == root else None, root) == {"it": root}
    assert do("allreduce", word[me]) == whole
    assert do("reduce", word[me], None, root) == (whole if me == root else None)
    assert do("scan", word[me]) == whole[: me + 1]
    assert do("exscan", word[me]) == (whole[:me] or None)
    assert do("gather", word[me], root) == (word if me == root else None)
    assert do("allgather", word[me]) == word
    assert do("scatter", word if me == 0 else None) == word[me]
    assert do("alltoall", [word[me] + to for to in word]) == [one + word[me] for one in word]
    assert do("reduce_scatter", [word[me] + to for to in word]) == "".join(one + word[me] for one in word)
    assert do("exchange", {(me + 1) % n: me}) == {(me - 1) % n: (me - 1) % n}
    large = do("allreduce", np.full(200_000, me))
    assert large.flags.writeable and (large == sum(range(n))).all()

def tables(harp, size):
    n, me = harp.size, harp.rank
    def part(value):
        return np.full(size, value)
    given = Table({**{p: part(p + me) for p in range(2 * n)}, 100 + me: part(me)})
    total = {p: n * p + sum(range(n)) for p in range(2 * n)} | {100 + rank: rank for rank in range(n)}
    mine = harp.regroup(given)
    assert plain(mine) == {p: value for p, value in total.items() if p % n == me}
    assert plain(harp.allreduce(given)) == total
    reduced = harp.reduce(given, root=1)
    assert me != 1 or plain(reduced) == total
    assert plain(harp.aggregate(given, lambda p, value: value * 2)) == {p: 2 * value for p, value in total.items()}
    assert plain(harp.broadcast(given if me == 1 else None, 1)) == {p: p + 1 for p in range(2 * n)} | {101: 1}
    assert [plain(one)[100 + rank] for rank, one in enumerate(harp.allgather(given))] == list(range(n))
    wanted = sorted(total)[me:]
    pulled = harp.pull(mine, wanted)
    assert plain(pulled) == {p: total[p] for p in wanted}
    harp.push(given, mine)
    assert plain(mine) == {p: 2 * value for p, value in total.items() if p % n == me}
    turned = harp.rotate(Table({me: part(me)}))
    assert plain(turned) == {(me - 1) % n: (me - 1) % n}
    pending = [harp.iregroup(given), harp.irotate(Table({me: part(1)})), harp.ipull(mine, [0, 100 + (me + 1) % n])]
    assert harp.allreduce(1) == n
    regrouped, rotated, fetched = [one.wait(30.0) for one in pending]
    assert plain(regrouped) == {p: value for p, value in total.items() if p % n == me}
    assert plain(fetched) == {0: 2 * total[0], 100 + (me + 1) % n: 2 * ((me + 1) % n)}
    harp.ipush(Table({0: part(1)}), mine).wait(30.0)
    assert 0 not in mine or mine[0][0] == 2 * total[0] + n
    doubling = harp.iaggregate(given, lambda p, value: value * 2)
    sending = harp.ibroadcast(given if me == 1 else None, 1)
    everybody = (harp.iallreduce(given), doubling, harp.iallgather(given), sending)
    summed, doubled, gathered, sent = [one.wait(30.0) for one in everybody]
    assert plain(summed) == total and plain(doubled) == {p: 2 * value for p, value in total.items()}
    assert [plain(one)[100 + rank] for rank, one in enumerate(gathered)] == list(range(n))
    assert plain(sent) == {p: p + 1 for p in range(2 * n)} | {101: 1}
    for table in (mine, pulled, turned, regrouped, rotated, fetched, summed, doubled):
        for value in table.values():
            value += 1
    assert plain(given) == {**{p: p + me for p in range(2 * n)}, 100 + me: me}

def main(env):
    harp = Harp(env)
    for waits in (True, False):
        objects(harp, waits)
    for size in (1, 200_000):
        tables(harp, size)
    words = KeyValueTable(n_partitions=8)
    for number in range(1000):
        words.put(number % 37, 1)
    shares = harp.allgather(dict(harp.regroup(words).pairs()))
    assert sum(map(len, shares)) == 37 and sum(sum(share.values()) for share in shares) == 1000 * harp.size
    harp.events.send_all(harp.rank)
    assert sum(harp.events.wait(20.0).value for _ in range(harp.size - 1)) == sum(range(harp.size)) - harp.rank
    harp.events.send(harp.rank, "mine")
    assert harp.events.get().value == "mine"
    assert dynamic(lambda item: item * 2, [1, 2, 3], 2) == static(lambda item: item * 2, [1, 2, 3], 2) == [2, 4, 6]
    print("rank", harp.rank, "all right")
"""


def test_events_shared_arrays_and_rotation(jobs: Jobs, transport: tuple[str, ...]) -> None:
    done = jobs.submit(jobs.program(SHARED), *transport, workers=3)
    assert done.code == 0, done
    for rank in range(3):
        before = (rank - 1) % 3
        assert f"rank {rank} {before} [0, 1, 2] [{before}]" in done.out


@pytest.mark.parametrize("source", [ARRAYS, OBJECTS], ids=["arrays", "objects and tables"])
def test_every_call(jobs: Jobs, transport: tuple[str, ...], source: str) -> None:
    done = jobs.submit(jobs.program(source), *transport, workers=3)
    assert done.code == 0, done
    for rank in range(3):
        assert f"rank {rank} all right" in done.out
