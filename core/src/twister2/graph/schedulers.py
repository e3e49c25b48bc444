"""Schedulers that programs bring, and what explains a placement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.errors import GraphError
from twister2.spec.sched import ScheduleRequest, TaskScheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.plan import Placement, VertexPlan

_SHOWN = 32
"""Workers that explain() lists."""


def check_scheduler(scheduler: Any, where: str) -> None:
    """Check what a program gave as ``scheduler=``; None is the job's.

    :raises GraphError: it is no task scheduler.
    """
    if scheduler is not None and not isinstance(scheduler, TaskScheduler):
        given = f"the class {scheduler.__name__}" if isinstance(scheduler, type) else type(scheduler).__name__
        raise GraphError(
            f"the scheduler of {where} is {given}",
            why="it must be an object of a class derived from twister2.spec.sched.TaskScheduler",
            remedy="give such an object, or leave it out for the job's task scheduler (job.sched)",
            where=where,
        )


def data_hosts(vertices: Sequence[VertexPlan]) -> tuple[str, ...]:
    """The hosts that data of these vertices lies on, by name."""
    return tuple(sorted({host for vertex in vertices for hosts in vertex.hosts.values() for host in hosts}))


def worker_rows(request: ScheduleRequest, placement: Placement) -> list[tuple[str, ...]]:
    """What each worker has to do, as a table with titles: tasks, what they ask for of what there is, bytes near."""
    totals = [_Load() for _ in request.workers]
    for vertex in request.vertices:
        sizes = request.sizes.get(vertex.name, ())
        for index, worker in enumerate(placement.workers[vertex.name]):
            load = totals[worker]
            load.tasks += 1
            load.cpus += vertex.cpus if "cpus" in vertex.asks else 0
            load.memory_mb += vertex.memory_mb if "memory_mb" in vertex.asks else 0
            load.gpus += vertex.gpus if "gpus" in vertex.asks else 0
            hosts = vertex.hosts.get(index, ())
            if hosts:
                size = sizes[index] if sizes else 0
                if any(request.distances.get((worker, host)) == 0.0 for host in hosts):
                    load.near += size
                else:
                    load.far += size
    asks = {name for vertex in request.vertices for name in vertex.asks}
    read = any(load.near or load.far for load in totals)
    rows: list[tuple[str, ...]] = [("worker", "host", "tasks", "cpus", "memory", "gpus", "reads near", "reads far")]
    for info, load in list(zip(request.workers, totals, strict=True))[:_SHOWN]:
        rows.append(
            (
                str(info.worker_id),
                info.node.host,
                str(load.tasks),
                f"{load.cpus:g} of {info.cpus:g}" if "cpus" in asks else "",
                f"{load.memory_mb} of {info.memory_mb or '?'} MiB" if "memory_mb" in asks else "",
                f"{load.gpus} of {info.gpus}" if "gpus" in asks else "",
                _amount(load.near) if read and request.distances else "",
                _amount(load.far) if read and request.distances else "",
            )
        )
    if len(totals) > _SHOWN:
        rows.append((f"... and {len(totals) - _SHOWN} more", *[""] * 7))
    return rows


class _Load:
    """What lies on one worker."""

    def __init__(self) -> None:
        self.tasks = self.memory_mb = self.gpus = self.near = self.far = 0
        self.cpus = 0.0


def _amount(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"
