"""Two hosts with two workers each: shared memory (or MPI) inside a host, TCP (or MPI) between them, in one job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.hosts import Hosts
from twister2_testkit.jobs import Done, Jobs

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults, pytest.mark.needs_netns]

PROGRAM = """
    import os, random, signal, threading
    import numpy
    from twister2_harp import Harp, Table
    from twister2_net import keyed_reduce

    def main(env):
        seed, dies = int(env.args[0]), int(env.args[1])
        me, n = env.worker_id, env.n_workers
        others = [peer for peer in range(n) if peer != me]
        routes = {peer: env.network.transport_name(peer) for peer in others}
        here = env.network.split_by_host()
        print("routes", env.attempt, me, routes, list(here.members), flush=True)

        luck = random.Random(seed)
        wait_s = luck.uniform(0.0, 0.4)
        if env.attempt == 1 and me == dies:
            threading.Timer(wait_s, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

        world, mine = Harp(env), Harp(env, here)
        for turn in range(4 if dies < 0 else 30):
            for size in (3, 30_000):
                parts = [numpy.random.default_rng([seed, turn, rank]).integers(-9, 9, (size, n)) for rank in range(n)]
                own = numpy.ascontiguousarray(parts[me])
                got = numpy.empty_like(own)
                world.Allreduce(own, got)
                assert (got == sum(parts)).all(), "allreduce"
                mine.Allreduce(own, got, op="max")
                assert (got == numpy.max([parts[rank] for rank in here.members], axis=0)).all(), "allreduce on a host"
                everything = numpy.empty((n, size, n), own.dtype)
                world.Allgather(own, everything)
                assert (everything == numpy.stack(parts)).all(), "allgather"
                columns = numpy.ascontiguousarray(own.T)
                swapped = numpy.empty_like(columns)
                world.Alltoall(columns, swapped)
                assert (swapped == numpy.stack([part[:, me] for part in parts])).all(), "alltoall"
                share = numpy.empty(size, own.dtype)
                world.Reduce_scatter(columns, share)
                assert (share == sum(parts)[:, me]).all(), "reduce_scatter"
                root = turn % n
                sent = own if me == root else numpy.empty_like(own)
                world.Broadcast(sent, root)
                assert (sent == parts[root]).all(), "broadcast"
            pairs = [(number % 50, me + 1) for number in range(1000)]
            for key, total in dict(keyed_reduce(env, pairs, "sum")).items():
                assert total == 20 * n * (n + 1) // 2, (key, total)
            table = Table({part: numpy.full(5, me) for part in range(2 * n)}, combiner="sum")
            regrouped = world.regroup(table)
            assert sorted(regrouped) == [me, me + n], sorted(regrouped)
            assert all((part == n * (n - 1) // 2).all() for part in regrouped.values())
        world.Barrier()
        if me == 0:
            print("right in attempt", env.attempt)
"""
QUICK = ("-q", "-o", "job.heartbeat_s=0.5", "-o", "rm.hostile.twice=0", "-o", "job.cpus=0.5")
ON_HOST = {"in blocks": (0, 0, 1, 1), "in turn": (0, 1, 0, 1)}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts(2) as made:
        yield made
    assert made.left() == []


def run(jobs: Jobs, hosts: Hosts, seed: int, comm: str, places: tuple[int, ...], dies: int = -1) -> Done:
    networks = ",".join(hosts.names[host] for host in places)
    words = ("-o", f"rm.hostile.networks={networks}", "-o", f"job.comm={comm}", *QUICK)
    return jobs.submit(
        jobs.program(PROGRAM), *words, workers=4, args=[str(seed), str(dies)], profile="hostile", timeout_s=90
    )


def routes(places: tuple[int, ...], inside: str, between: str, me: int, attempt: int = 1) -> str:
    """The line that worker ``me`` prints."""
    found = {peer: inside if places[peer] == places[me] else between for peer in range(4) if peer != me}
    return f"routes {attempt} {me} {found} {[peer for peer in range(4) if places[peer] == places[me]]}"


@pytest.mark.parametrize("how", ON_HOST)
def test_shared_memory_on_a_host_and_tcp_between_hosts(jobs: Jobs, hosts: Hosts, seed: int, how: str) -> None:
    places = ON_HOST[how]
    done = run(jobs, hosts, seed, "shm,tcp", places)
    assert done.code == 0, done
    expected = [routes(places, "shm", "tcp", me) for me in range(4)]
    assert sorted(done.out.splitlines()) == ["right in attempt 1", *expected], done


@pytest.mark.parametrize("comm", ["shm,tcp", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
def test_a_worker_on_one_of_two_hosts_is_killed(jobs: Jobs, hosts: Hosts, seed: int, comm: str) -> None:
    places = ON_HOST["in blocks"]
    done = run(jobs, hosts, seed, comm, places, dies=3)
    assert done.code == 0, done
    assert "right in attempt 2" in done.out.splitlines(), done
    assert [event["attempt"] for event in jobs.events("attempt_started")] == [1, 2]
    inside, between = comm.split(",")[0], comm.split(",")[-1]
    for me in range(4):
        assert routes(places, inside, between, me, attempt=2) in done.out.splitlines(), done


@pytest.mark.needs_mpi
def test_mpi_between_two_hosts(jobs: Jobs, hosts: Hosts, seed: int) -> None:
    """The supervisors' PMI joins processes on several hosts to one world."""
    places = ON_HOST["in turn"]
    done = run(jobs, hosts, seed, "mpi", places)
    assert done.code == 0, done
    expected = [routes(places, "mpi", "mpi", me) for me in range(4)]
    assert sorted(done.out.splitlines()) == ["right in attempt 1", *expected], done


def test_what_is_left_in_the_memory_of_a_host_is_found(tmp_path: Path, hosts: Hosts) -> None:
    """What the tests above rely on."""
    jobs = Jobs(tmp_path)
    program = jobs.program("def main(env):\n    open(f'/dev/shm/mine-{env.worker_id}', 'w').close()\n")
    done = jobs.submit(program, "-q", "-o", f"rm.hostile.networks={','.join(hosts.names)}", profile="hostile")
    try:
        assert done.code == 0, done
        with pytest.raises(AssertionError, match="left in the state folder") as caught:
            jobs.check_nothing_left()
        assert all(f"mine-{worker}" in str(caught.value) for worker in (0, 1))
    finally:
        for path in jobs.state.glob("rm-hostile/left-*"):
            path.unlink()
        jobs.__exit__(None, None, None)
