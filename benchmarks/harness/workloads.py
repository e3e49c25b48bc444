"""The workloads: their inputs, the figure that counts, what ratios are taken to, and the check of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from harness.contestants import DATA

_COORDINATE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Workload:
    """``metric`` names the field of a result that is compared, ``reference`` the system that ratios are taken to.

    ``check(answer, size)`` says what is wrong with an answer; nothing when it is right. Answers of workloads with a
    ``unit`` carry their own figures, by case: ``figures``, or ``pairs`` of what two contestants of one process did.
    """

    about: str
    inputs: tuple[str, ...]
    metric: str
    reference: str
    check: Callable[[Any, str], str]
    unit: str = ""


def _check_startup(answer: Any, size: str) -> str:
    return "" if answer == 42 else f"answered {answer!r}, not 42"


def _check_wordcount(answer: Any, size: str) -> str:
    expected = _expected("wordcount", size)
    wrong = [key for key, value in expected.items() if answer.get(key) != value]
    return f"wrong: {', '.join(wrong)}" if wrong else ""


def _check_kmeans(answer: Any, size: str) -> str:
    expected = _expected("kmeans", size)
    if [len(row) for row in answer] != [len(row) for row in expected]:
        return "the centroids have a wrong shape"
    rows = zip(answer, expected, strict=True)
    error = max(abs(x - y) for row, other in rows for x, y in zip(row, other, strict=True))
    return "" if error < _COORDINATE_TOLERANCE else f"a coordinate is wrong by {error:.2e}"


def _check_right(answer: Any, size: str) -> str:
    return "" if answer.get("right") is True else "a result is wrong"


def _expected(workload: str, size: str) -> Any:
    return json.loads((DATA / f"expected-{workload}-{size}.json").read_text())


WORKLOADS: Final = {
    "startup": Workload(
        about="a job that adds 20 and 22, one of them from each of two workers: from the shell and back to it",
        inputs=(),
        metric="wall_s",
        reference="mpi4py_allreduce",
        check=_check_startup,
    ),
    "commands": Workload(
        about="commands that start no job, beside an interpreter that does nothing, in turns",
        inputs=(),
        metric="job_s",
        reference="twister2_and_python",
        check=_check_right,
        unit="s",
    ),
    "idle_memory": Workload(
        about="what a job weighs whose workers do nothing: proportional set sizes, in 10^6 bytes, of the whole job and "
        "of what each worker more adds to it",
        inputs=(),
        metric="job_s",
        reference="mpi4py_mpich",
        check=_check_right,
        unit="MB",
    ),
    "wordcount": Workload(
        about="read a text, split it at blanks, count the words; the 20 most frequent",
        inputs=("words-{size}.txt",),
        metric="job_s",
        reference="multiprocessing_counter",
        check=_check_wordcount,
    ),
    "kmeans": Workload(
        about="Lloyd's k-means from given centroids, a fixed number of iterations, the same numpy kernel for all",
        inputs=("points-{size}.npy", "centroids-{size}.npy"),
        metric="job_s",
        reference="mpi4py_allreduce",
        check=_check_kmeans,
    ),
    "collectives": Workload(
        about="allreduce, broadcast, allgather and alltoall of float64 arrays; sizes are what one rank gives in all",
        inputs=(),
        metric="job_s",
        reference="mpi4py_mpich",
        check=_check_right,
        unit="s",
    ),
    "collectives_paired": Workload(
        about="every collective of Harp and the raw call of the MPI library below it, in turns in the same processes",
        inputs=(),
        metric="job_s",
        reference="harp_and_mpi4py",
        check=_check_right,
        unit="s",
    ),
    "stream_paired": Workload(
        about="large messages one way between two processes, by a transport and by hand in the same processes",
        inputs=(),
        metric="job_s",
        reference="tcp_ipc",
        check=_check_right,
        unit="GB/s",
    ),
    "keyed_partition": Workload(
        about="records to the worker of their key, by the operator and by a hand-written loop in the same processes",
        inputs=(),
        metric="job_s",
        reference="tuples",
        check=_check_right,
        unit="M records/s",
    ),
}
