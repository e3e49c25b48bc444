"""torch.distributed, gloo over loopback (all-to-all as pairs of isend and irecv: gloo has none)."""

# benchmark: venv=torch packages=torch,numpy
from __future__ import annotations

import multiprocessing
import os
import socket
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from harness.collectives import Call, measure
from harness.contest import Contest


class GlooRanks:
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def barrier(self) -> None:
        dist.barrier()

    def largest(self, value: float) -> float:
        tensor = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return float(tensor)


def makers(rank: int, size: int) -> dict[str, Any]:
    def allreduce(given: Any, n: int) -> Call:
        x = torch.from_numpy(given)
        y = torch.empty_like(x)

        def call() -> Any:
            y.copy_(x)
            dist.all_reduce(y)
            return y.numpy()

        return call

    def broadcast(given: Any, n: int) -> Call:
        x = torch.from_numpy(given)

        def call() -> Any:
            dist.broadcast(x, 0)
            return x.numpy()

        return call

    def allgather(given: Any, n: int) -> Call:
        x = torch.from_numpy(given)
        parts = [torch.empty_like(x) for _ in range(size)]

        def call() -> Any:
            dist.all_gather(parts, x)
            return [part.numpy() for part in parts]

        return call

    def alltoall(given: Any, n: int) -> Call:
        send = list(torch.from_numpy(given).split(len(given) // size))
        receive = [torch.empty_like(part) for part in send]

        def call() -> Any:
            receive[rank].copy_(send[rank])
            others = [other for other in range(size) if other != rank]
            under_way = [dist.isend(send[other], other) for other in others]
            under_way += [dist.irecv(receive[other], other) for other in others]
            for each in under_way:
                each.wait()
            return [part.numpy() for part in receive]

        return call

    return {"allreduce": allreduce, "broadcast": broadcast, "allgather": allgather, "alltoall": alltoall}


def run(rank: int, size: int, bench_size: str, port: int, pipe: Any) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=size)
    answer = measure(makers(rank, size), GlooRanks(rank, size), bench_size)
    if rank == 0:
        pipe.send(answer)
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    contest = Contest()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()

    def job() -> Any:
        ranks = [
            context.Process(target=run, args=(rank, contest.workers, contest.size, port, theirs))
            for rank in range(contest.workers)
        ]
        for rank in ranks:
            rank.start()
        answer = mine.recv()
        for rank in ranks:
            rank.join()
        return answer

    contest.report(contest.run(job))


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
