"""Names that people know from mpi4py, and what they are called here."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COUNTS: Final = "with [array, counts] on all ranks"
ELSEWHERE: Final[Mapping[str, str]] = {
    "Bcast": "Broadcast",
    "Ibcast": "Ibroadcast",
    "bcast": "broadcast",
    "Allgatherv": f"Allgather {_COUNTS}",
    "Iallgatherv": f"Iallgather {_COUNTS}",
    "Alltoallv": f"Alltoall {_COUNTS}",
    "Ialltoallv": f"Ialltoall {_COUNTS}",
    "Reduce_scatter_block": "Reduce_scatter",
    "Ireduce_scatter_block": "Ireduce_scatter",
    "Alltoallw": "alltoall, of arrays of any dtypes as objects",
    "Ialltoallw": "alltoall, of arrays of any dtypes as objects",
    "Get_rank": "rank",
    "Get_size": "size",
    "Split": "split",
    "Split_type": "split_by_host",
    "Dup": "Harp(env, env.group(harp.worker_ids))",
    "Create_group": "Harp(env, env.group([...]))",
    "Send": "events.send",
    "send": "events.send",
    "Isend": "events.send",
    "isend": "events.send",
    "Recv": "events.wait",
    "recv": "events.wait",
    "Irecv": "events.get",
    "irecv": "events.get",
    "Sendrecv": "exchange, or rotate of a table",
    "sendrecv": "exchange, or rotate of a table",
    "Neighbor_alltoall": "exchange",
    "neighbor_alltoall": "exchange",
    "Abort": "an exception that is raised: it ends the job",
}
"""Of mpi4py's communicators: what does the same here."""


def advice(name: str, known: Iterable[str]) -> str:
    """What to write instead of a name that does not exist.

    :param known: the names that do.
    """
    text = f"a Harp communicator has no '{name}'"
    if name in ELSEWHERE:
        return f"{text}; here it is: {ELSEWHERE[name]}"
    public = [one for one in known if not one.startswith("_")]
    same = [one for one in public if one.lower() == name.lower()]
    if same:
        return f"{text}; there is '{same[0]}' {'for arrays' if same[0][0].isupper() else 'for objects and tables'}"
    near = difflib.get_close_matches(name, public, n=3)
    hint = f"; there is {' or '.join(repr(one) for one in near)}" if near else ""
    return f"{text}{hint}; on comm_mpi env.mpi is the communicator of mpi4py"
