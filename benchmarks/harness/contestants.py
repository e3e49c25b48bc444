"""Find the contestants, and say how each is started.

A contestant is one script, ``workloads/<workload>/<system>.py``. Comments near its top describe it::

    # benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich

``venv`` is the virtual environment it runs in, ``launch`` how (``python``, the default, ``mpiexec``, ``mpiexec_open``:
that of Open MPI, or ``submit``: by ``twister2 submit``), ``options`` what ``submit`` is given by ``-o``, separated by
semicolons, ``packages`` the distributions whose versions are recorded. A script must not be named like a package that
it imports.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TEMPORARY = Path(tempfile.gettempdir())
VENVS = Path(os.environ.get("BENCH_VENVS") or _TEMPORARY / "bench-venvs")
DATA = Path(os.environ.get("BENCH_DATA") or _TEMPORARY / "bench-data")
RESULTS = Path(os.environ.get("BENCH_RESULTS") or _TEMPORARY / "bench-results")

_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {name: importlib.metadata.version(name) for name in sys.argv[1:]}
print(json.dumps({"python": platform.python_version(), **found}))
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One system with one workload; ``about`` is the first line of the script's docstring."""

    script: Path
    venv: str
    launch: str
    packages: tuple[str, ...]
    about: str
    options: tuple[str, ...] = ()

    @property
    def workload(self) -> str:
        return self.script.parent.name

    @property
    def system(self) -> str:
        return self.script.stem

    @property
    def output(self) -> Path:
        """The folder for what its job writes."""
        return DATA / "output" / f"{self.workload}-{self.system}"

    @property
    def _bin(self) -> Path:
        return VENVS / self.venv / "bin"

    def command(self, *, size: str, workers: int, spawned: float) -> list[str]:
        """The words to start it with; ``spawned`` is the present reading of the monotonic clock."""
        bin_, count = str(self._bin), str(workers)
        options = [word for option in self.options for word in ("-o", option)]
        starts = {
            "python": [f"{bin_}/python"],
            "mpiexec": [f"{bin_}/mpiexec", "-n", count, f"{bin_}/python"],
            "mpiexec_open": [f"{bin_}/mpiexec", "--oversubscribe", "-n", count, f"{bin_}/python"],
            "submit": [f"{bin_}/twister2", "submit", "standalone", "-o", f"job.workers={count}", *options],
        }
        settings = {"output": self.output, "size": size, "workers": workers, "data": DATA, "spawned": spawned}
        return [*starts[self.launch], str(self.script), *(f"{key}={value}" for key, value in settings.items())]

    def environment(self) -> dict[str, str]:
        """The runner's, with the contestant's programs first on the path and one thread for each BLAS.

        Job records go to the temporary folder, not among those of the user.
        """
        return {
            **os.environ,
            "PATH": f"{self._bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "SPARK_LOCAL_IP": "127.0.0.1",
            **{f"{part}_ALLOW_RUN_AS_ROOT{more}": "1" for part in ("OMPI", "PRTE") for more in ("", "_CONFIRM")},
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "TWISTER2__JOB__STATE_DIR": str(_TEMPORARY / "bench-state"),
        }

    def versions(self) -> dict[str, str]:
        """Of Python and of the packages named.

        :raises FileNotFoundError: the virtual environment has not been made.
        :raises subprocess.CalledProcessError: a package is not installed in it.
        """
        python = self._bin / "python"
        if not python.exists():
            raise FileNotFoundError(f"{self.system} wants the virtual environment: sh setup_venvs.sh {self.venv}")
        words = [str(python), "-c", _VERSIONS, *self.packages]
        found: dict[str, str] = json.loads(subprocess.run(words, check=True, capture_output=True, timeout=60).stdout)
        return found


def read(script: Path) -> Contestant:
    """The contestant of one script; raises ValueError when it does not describe itself."""
    text = script.read_text()
    header = re.findall(r"^# benchmark: (.*)$", text, re.MULTILINE)
    docstring = re.match(r'"""(.*?)(?:"""|\n)', text)
    if not header or docstring is None:
        raise ValueError(f"{script.name}: wants a docstring and a line '# benchmark: venv=...'")
    fields = dict(word.split("=", 1) for line in header for word in line.split())
    return Contestant(
        script=script,
        venv=fields["venv"],
        launch=fields.get("launch", "python"),
        packages=tuple(name for name in fields.get("packages", "").split(",") if name),
        about=docstring[1],
        options=tuple(option for option in fields.get("options", "").split(";") if option),
    )


def of_workload(workload: str, systems: list[str]) -> list[Contestant]:
    """The named contestants of a workload in the order given; without names all of them, in alphabetical order.

    :raises FileNotFoundError: there is none of that name.
    """
    folder = ROOT / "workloads" / workload
    names = systems or sorted(path.stem for path in folder.glob("*.py"))
    missing = [name for name in names if not (folder / f"{name}.py").exists()]
    if missing:
        raise FileNotFoundError(f"{workload} has no contestant {', '.join(missing)}")
    return [read(folder / f"{name}.py") for name in names]
