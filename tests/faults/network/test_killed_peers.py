"""kill -9 of a worker in every phase of its network: the others notice, and the next attempt gives the right answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults]

HEAD = """
import os, random, signal, threading, time
import numpy
import twister2_net as net
from twister2_harp import Harp, Table
from twister2_net import allreduce, keyed_gather, keyed_reduce

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def main(env):
    phase, seed, kind = env.args
    n, me = env.n_workers, env.worker_id
    doomed = env.attempt == 1 and me == 1
    luck = random.Random(f"{seed} {phase}")
"""
TAIL = """
    if me == 0:
        assert env.network.transport_name(1) == kind, env.network.transport_name(1)
        print("right in attempt", env.attempt)
"""

COLLECTIVES = """
    if doomed and phase == "before":
        die()
    if doomed and phase == "forming":
        threading.Timer(luck.uniform(0.0, 0.01), die).start()
    ones = numpy.ones(1_000_000)
    if doomed and phase == "sending":
        threading.Timer(luck.uniform(0.005, 0.05), die).start()
    for _ in range(5 if phase != "sending" else 20):
        total = allreduce(env, ones)
        assert (total == n).all()
    if doomed and phase == "between":
        die()
    pairs = [(number % 1000, 1) for number in range(60_000)]
    if doomed and phase == "shuffle":
        threading.Timer(luck.uniform(0.01, 0.1), die).start()
    for _ in range(3):
        counts = dict(keyed_reduce(env, pairs, "sum"))
        assert set(counts.values()) <= {60 * n}, counts
    if doomed and phase == "asleep":
        threading.Timer(0.3, die).start()
    if doomed and phase != "leaving":
        time.sleep(60)
    assert allreduce(env, len(counts)) == 1000
    if doomed and phase == "leaving":
        die()
"""

SPILLING = """
    def die_on_disk():
        while not env.memory.use().spilled:
            time.sleep(0.0005)
        time.sleep(luck.uniform(0.0, 0.05))
        die()

    if doomed:
        threading.Thread(target=die_on_disk, daemon=True).start()
    pairs = ((number % 5000, "x" * 600) for number in range(me, 150_000, n))
    found = 0
    for key, values in keyed_gather(env, pairs):
        assert len(values) == 30, (key, len(values))
        found += 1
    assert env.memory.use().spilled, "nothing was spilled: this test has shown nothing"
    assert allreduce(env, found) == 5000
    if doomed:
        time.sleep(60)
"""

STREAM = """
    turns, last, held = 60, luck.randrange(2, 55), []
    got = {"DATA": 0, "FLUSH": 0, "BARRIER": 0}

    def feed():
        for turn in range(turns):
            yield [(key, turn) for key in range(300)]
            yield net.Mark("flush" if turn % 3 else "barrier", turn)

    def take(item):
        got[item.kind.name] = got.get(item.kind.name, 0) + 1
        if doomed and got["FLUSH"] + got["BARRIER"] == last:
            die()
        if item.kind.name == "DATA":
            held.extend(item.value)
        elif item.kind.name == "FLUSH":
            # what came since the last flush: of this turn, and of the one before when that ended with a barrier
            sums = dict(held)
            turn = item.value
            ways = {n * turn} if turn % 3 != 1 else {n * (turn + turn - 1)}
            assert len(sums) == len(held) and set(sums.values()) == ways, (turn, set(sums.values()), ways)
            held.clear()

    everybody = list(range(n))
    with net.operator(
        env, "keyed_reduce", sources=everybody, targets=everybody, mode="stream", reducer="sum"
    ) as operator:
        operator.drive({source: feed() for source in operator.local_sources}, take, deadline_s=60)
    assert (got["FLUSH"], got["BARRIER"]) == (40, 20), got
"""

HARP = """
    last = luck.randrange(40)
    world = Harp(env)
    part = world.split(me % 2)
    table = Table({me: numpy.full(20_000, me, "i8")})
    for turn in range(40):
        if doomed and turn == last:
            threading.Timer(luck.uniform(0.0, 0.003), die).start()
        table = world.rotate(table)
        (home,) = table
        assert home == (me - 1 - turn) % n, (home, turn)
        assert (table[home] == home).all()
        spread = Table({number: numpy.full(500, me + turn) for number in range(7)}, combiner="sum")
        for number, values in world.regroup(spread).items():
            assert number % n == me
            assert (values == n * (n - 1) // 2 + n * turn).all()
        own, total = numpy.full(3000, me), numpy.empty(3000, int)
        part.Allreduce(own, total)
        assert (total == sum(range(me % 2, n, 2))).all()
        if doomed and turn == last:
            time.sleep(60)
    world.Barrier()
"""

PHASES = {
    **dict.fromkeys(("before", "forming", "sending", "between", "shuffle", "asleep", "leaving"), COLLECTIVES),
    "spilling": SPILLING,
    "stream": STREAM,
    "harp": HARP,
}
KINDS = {
    "ipc": ("tcp", ("-o", "job.comm=tcp", "-o", "comm.tcp.same_host=ipc")),
    "tcp": ("tcp", ("-o", "job.comm=tcp", "-o", "comm.tcp.same_host=tcp")),
    "shm": ("shm", ()),
    "mpi": ("mpi", ("-o", "job.comm=mpi")),
}


@pytest.mark.parametrize("kind", ["ipc", "tcp", "shm", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_is_killed(jobs: Jobs, tmp_path: Path, phase: str, kind: str, seed: int) -> None:
    transport, chosen = KINDS[kind]
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-q", *chosen, "-o", "job.heartbeat_s=0.25"]
    if phase == "spilling":
        options += ["-o", "job.memory_mb=48", "-o", "job.oversubscribe=true", "-o", f"job.spill_dirs={disk}"]
    program = jobs.program(HEAD + PHASES[phase] + TAIL)
    done = jobs.submit(program, *options, workers=3, args=[phase, str(seed), transport], timeout_s=100)
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "right in attempt 2", done
    assert done.seconds < 60, done
    assert list(disk.iterdir()) == [], "spilled data is left"
