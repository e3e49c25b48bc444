"""Joining and leaving the MPI world. MPI can be initialised once in the life of a process, by its main thread."""

from __future__ import annotations

import os
import time
import zlib
from typing import TYPE_CHECKING, cast

import mpi4py

# Nothing is initialised by an import, nor finalized by the interpreter's end: after an abort that would hang.
mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
# A process that no launcher of Open MPI started would start a daemon of it, which outlives the process for a while.
os.environ.setdefault("OMPI_MCA_ess_singleton_isolated", "1")
# What MPICH chooses for these takes large scratch arrays anew in every call: up to ten times slower from 1 MiB on.
os.environ.setdefault("MPIR_CVAR_IREDUCE_INTRA_ALGORITHM", "tsp_tree")
os.environ.setdefault("MPIR_CVAR_IREDUCE_SCATTER_INTRA_ALGORITHM", "sched_pairwise")
os.environ.setdefault("MPIR_CVAR_IREDUCE_SCATTER_BLOCK_INTRA_ALGORITHM", "sched_pairwise")

from twister2.spec.errors import NetworkError  # noqa: E402 - mpi4py reads its settings when MPI is imported
from twister2.spec.transports import session_id  # noqa: E402

from . import segments  # noqa: E402
from .plugin import REMEDY  # noqa: E402

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:
    raise NetworkError("the MPI library cannot be loaded", why=str(error), remedy=REMEDY) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from twister2.spec.comm import TransportContext

    from .native.group import MpiCollectives

    Wait: TypeAlias = Callable[[Callable[[], bool]], None]
    """Polls until something is ready."""

__all__ = ["MPI", "World"]

_LEVELS = {"funneled": MPI.THREAD_FUNNELED, "serialized": MPI.THREAD_SERIALIZED, "multiple": MPI.THREAD_MULTIPLE}

_TAG_MASK = 32767
"""Largest tag that every library has."""

_dropped: list[Any] = []


def drop(*what: Any) -> None:
    """Keep a request that is given up under way, and what it fills: MPI may still write there."""
    _dropped.extend(what)


def finish(wait: Wait, request: MPI.Request, *filled: Any) -> None:
    """Wait for a request.

    :param filled: what it fills or reads: most requests hold no buffers themselves.
    """
    try:
        wait(request.Test)
    except BaseException:  # an abort
        drop(request, *filled)
        raise


class World:
    """The world of one attempt: a communicator for the transport and one for the program.

    :ivar data: carries the transport's messages. :ivar user: ``env.mpi``. In both the rank is the worker id.
    """

    def __init__(self, context: TransportContext, thread_level: str) -> None:
        """Initialise MPI; blocks until all ranks arrive.

        :raises NetworkError: wrong size, thread level or attempt; too little shared memory; MPI was finalized in this
            process before.
        """
        room = segments.Room(context.runtime_dir, f"{context.attempt}-{context.session[:16]}", context.rank)
        try:
            if MPI.get_vendor()[0] == "MPICH" and context.size > 1:
                room.check()
            self._init(_LEVELS[thread_level], thread_level)
            self._check(context)
        finally:
            # MPI_Init is over everywhere, so that the segments are mapped; also in a world that is refused
            segments.unlink()
            room.leave()

    def _check(self, context: TransportContext) -> None:
        size = MPI.COMM_WORLD.Get_size()
        if size != context.size:
            library = MPI.Get_library_version().splitlines()[0]
            if size == 1:
                MPI.Finalize()  # nobody to wait for; some libraries have made files
            raise NetworkError(
                f"the MPI world has {size} process{'es' * (size != 1)}, the job has {context.size} workers",
                why="the processes were not started as one world"
                + (": each one is alone, so the launcher speaks another PMI than the MPI library" * (size == 1)),
                remedy="under Slurm set rm.slurm.mpi to a value that `srun --mpi=list` shows and the MPI library "
                "speaks (pmi2 for MPICH, pmix for Open MPI); under standalone set rm.standalone.mpiexec to this "
                "library's mpiexec (mpiexec.openmpi)",
                where=f"worker {context.rank} on {context.node.host}, {library}",
            )
        # the order of ranks in a split is that of the keys
        self.user = cast("MPI.Intracomm", MPI.COMM_WORLD.Split(0, context.rank))
        self.data = self.user.Dup()
        ids = self.data.allgather((context.rank, session_id(context.job_id, context.session, context.attempt, size=8)))
        expected = [(rank, ids[self.data.Get_rank()][1]) for rank in range(size)]
        if ids != expected or self.data.Get_rank() != context.rank:
            raise NetworkError(
                "the processes of the MPI world do not belong together",
                why=f"worker ids and attempts are {[rank for rank, _ in ids]}, {len({id_ for _, id_ in ids})} attempts",
                remedy="start every attempt with processes of its own",
            )

    def group(self, members: Sequence[int], wait: Wait) -> MPI.Intracomm:
        """A communicator of these workers, in this order; collective over them.

        That of all is made without blocking. MPI has no such call for some: that waits in the library, for members of
        whom it is known that they are about to make the same call. Should one be killed at that very moment, the others
        are ended by their supervisors after ``job.kill_grace_s``.
        """
        if list(members) == list(range(self.data.Get_size())):
            comm, request = self.data.Idup()
            finish(wait, request, comm)
            return comm
        everybody = self.data.Get_group()
        chosen = everybody.Incl(list(members))
        try:
            return self.data.Create_group(chosen, zlib.crc32(repr(tuple(members)).encode()) & _TAG_MASK)
        finally:
            chosen.Free()
            everybody.Free()

    def leave(self, deadline: float, progress: Callable[[], bool], groups: Sequence[MpiCollectives] = ()) -> bool:
        """Finalize together with all others; False, and nothing was done, when they did not come in time.

        :param progress: called while waiting, so that what others still send is taken from them.
        :param groups: what held requests of the library.
        """
        request = self.data.Ibarrier()
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            progress()
            time.sleep(0.0002)
        while progress() and time.monotonic() < deadline:
            pass  # messages that nobody reads: some libraries finalize only what is empty
        for group in groups:
            group.release()
        MPI.Finalize()
        return True

    @staticmethod
    def _init(level: int, name: str) -> None:
        if MPI.Is_finalized():
            raise NetworkError(
                "MPI was finalized in this process",
                why="it can be initialised once in the life of a process",
                remedy="start every attempt with processes of its own, and do not call MPI.Finalize in the program",
            )
        provided: int = MPI.Query_thread() if MPI.Is_initialized() else MPI.Init_thread(level)
        if provided < level:
            raise NetworkError(
                f"the MPI library does not offer the thread level {name}",
                why=f"it gave level {provided} where {level} was asked",
                remedy="use a library that is built with threads, or set comm.mpi.thread_level lower",
            )
