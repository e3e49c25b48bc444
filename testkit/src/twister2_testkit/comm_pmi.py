"""A process manager for worlds of transports on MPI: PMI-1 served by the test itself."""

from __future__ import annotations

import functools
import os
import uuid
from typing import TYPE_CHECKING

from twister2.worker.pmi import PmiService, environment, process_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence


class PmiWorld:
    """Services (:class:`twister2_testkit.comm_world.Services`) of ``size`` forked ranks on one host."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: dict[int, dict[str, str]] = {}
        mapping = process_mapping(["here"] * size)
        name = f"kvs-{uuid.uuid4().hex}"  # MPICH names its shared segments after it
        self._services = [
            PmiService(rank, size, name, functools.partial(self._fence, rank), mapping=mapping) for rank in range(size)
        ]

    def enter(self, rank: int) -> None:
        """Set the environment that the MPI library reads; drop the ends that belong to others."""
        own = self._services[rank]
        for name, value in environment(rank, self._size, os.dup(own.process_fd), os.environ).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for service in self._services:
            service.close()

    def started(self) -> None:
        """The ranks have their ends now."""
        for service in self._services:
            service.release_process_fd()

    def descriptors(self) -> Sequence[int]:
        """The ends of processes that are alive."""
        return [service.fileno() for service in self._services if not service.closed]

    def on_readable(self, descriptor: int) -> None:
        """Serve a process; let all go on once all are in a fence."""
        for service in self._services:
            if not service.closed and service.fileno() == descriptor:
                service.on_readable()
        if len(self._waiting) == self._size:
            puts = {key: value for each in self._waiting.values() for key, value in each.items()}
            self._waiting.clear()
            for service in self._services:
                service.fence_done(puts)

    def close(self) -> None:
        """Release everything."""
        for service in self._services:
            service.close()

    def _fence(self, rank: int, puts: dict[str, str]) -> None:
        self._waiting[rank] = puts
