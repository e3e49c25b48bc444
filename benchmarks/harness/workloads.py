"""The workloads: their inputs, the figure that counts, what ratios are taken to, and the check of an answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from harness.contestants import DATA, ROOT, VENVS
from harness.sizes import GROUPBY, JOIN, KMEANS, PARTS, SIZES

_COORDINATE_TOLERANCE = 1e-6
_SUM_TOLERANCE = 1e-9
_VALIDATION_S = 120


@dataclass(frozen=True, slots=True)
class Workload:
    """``metric`` names the field of a result that is compared, ``reference`` the system that ratios are taken to.

    ``check(answer, size)`` says what is wrong with an answer; nothing when it is right. Answers of workloads with a
    ``unit`` carry their own figures, by case: ``figures``, or ``pairs`` of what two contestants of one process did.
    Contestants that stand ``apart`` have nothing to do with each other: the last session of each counts, and what
    matters is by how much Twister2 takes longer than its opponent, not how many times.
    """

    about: str
    inputs: tuple[str, ...]
    metric: str
    reference: str
    check: Callable[[Any, str], str]
    unit: str = ""
    sizes: tuple[str, ...] = SIZES
    apart: bool = False


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


def _check_terasort(answer: Any, size: str) -> str:
    over = [peak for peak in answer.get("resident_mb", ()) if peak > answer["limit_mb"]]
    if over:
        return f"a worker had {max(over):.0f} MB resident, more than {answer['limit_mb']}"
    expected = _expected("terasort", size)
    facts = (answer["folder"], str(expected["records"]), str(expected["checksum"]))
    command = [str(VENVS / "main" / "bin" / "python"), "-m", "harness.sorted_files", *facts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_VALIDATION_S)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()[-500:] or "the check failed"


def _check_sums(workload: str) -> Callable[[Any, str], str]:
    def check(answer: Any, size: str) -> str:
        expected = _expected(workload, size)
        if set(answer) != set(expected):
            return f"the answer has {', '.join(map(str, answer))}"
        wrong = [name for name, value in expected.items() if abs(answer[name] - value) > _SUM_TOLERANCE * abs(value)]
        return f"wrong: {', '.join(wrong)}" if wrong else ""

    return check


def _parts(*stems: str) -> tuple[str, ...]:
    """The files of inputs in parts; ``{part}`` in a stem is the number of the part."""
    return tuple(stem.replace("{part}", str(part)) for stem in stems for part in range(PARTS))


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
    "managers": Workload(
        about="a job of workers that do nothing, from the shell to its first instruction and back to the shell, beside "
        "the least that the resource manager itself can be asked for, in turns",
        inputs=(),
        metric="job_s",
        reference="hosts",
        check=_check_right,
        unit="s",
        apart=True,
    ),
    "many_workers": Workload(
        about="many workers that meet in a barrier and end, and what the one job master weighs for each",
        inputs=(),
        metric="job_s",
        reference="twister2_one_master",
        check=_check_right,
        unit="s or KiB, as named",
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
        sizes=tuple(KMEANS),
    ),
    "iteration": Workload(
        about="iterations that do nothing but an allreduce of 8 bytes: by a call, by a run of a prepared graph, by an "
        "evaluation of a set; and loops of such graphs, nested beside flat ones",
        inputs=(),
        metric="job_s",
        reference="mpi4py_allreduce",
        check=_check_right,
        unit="s",
    ),
    "terasort": Workload(
        about="sort records of 100 bytes by their first 10, from four files to sorted files, which are checked",
        inputs=_parts("records-{size}-{part}.bin", "records-{size}-{part}.parquet"),
        metric="job_s",
        reference="mpi4py_numpy",
        check=_check_terasort,
    ),
    "join": Workload(
        about="inner join of two tables by integers, from files to the number of rows and three sums over them",
        inputs=_parts(
            "left-{size}-{part}.parquet",
            "left-{size}-k-{part}.npy",
            "left-{size}-a-{part}.npy",
            "right-{size}-{part}.parquet",
            "right-{size}-k-{part}.npy",
            "right-{size}-b-{part}.npy",
        ),
        metric="job_s",
        reference="polars_lazy",
        check=_check_sums("join"),
        sizes=tuple(JOIN),
    ),
    "groupby": Workload(
        about="sums of floating point numbers by integers, from files to figures of the sums",
        inputs=_parts("rows-{size}-{part}.parquet", "rows-{size}-k-{part}.npy", "rows-{size}-v-{part}.npy"),
        metric="job_s",
        reference="polars_lazy",
        check=_check_sums("groupby"),
        sizes=tuple(GROUPBY),
    ),
    "planning": Workload(
        about="the plan of graphs with many vertices or partitions, before any task is made",
        inputs=(),
        metric="job_s",
        reference="twister2_prepare",
        check=_check_right,
        unit="s",
    ),
    "collectives": Workload(
        about="the collectives of float64 arrays (four of them by Gloo and by hand); sizes are what a rank gives",
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
