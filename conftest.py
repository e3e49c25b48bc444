"""What tests need: a test marked ``needs_<server>`` is skipped, with the reason, when that server (or right) is absent.

With ``TWISTER2_REQUIRE_SERVERS=1`` (CI installs every server) an absent server is a failure instead.

And no test hangs the run: a process that is still in a test long after its timeout shows its threads and ends.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import FrameType

import pytest
from hypothesis import HealthCheck, Phase, settings

# Its explanations trace with sys.settrace, under which CPython 3.11 was caught in an endless loop at the entry of a
# function (ceval.c, DO_TRACING), with every signal unheard.
# An example has no deadline, nor has what draws it: on a busy machine any may take long.
settings.register_profile(
    "untraced",
    parent=settings.default,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.load_profile("untraced")

REQUIRE = "TWISTER2_REQUIRE_SERVERS"
PROBE_TIMEOUT_S = 60
MPIEXEC = "mpiexec.openmpi"
LIBRARY = {"MPI4PY_MPIABI": "openmpi", "MPI4PY_LIBMPI": "libmpi.so.40"}
"""Makes mpi4py load Open MPI beside the MPICH of the environment."""
GRACE_S = 60.0
"""How long after its timeout a test, and how long a test that failed, may take to tidy up."""


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Return why ``command`` does not succeed, empty when it does."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} gave no answer within {PROBE_TIMEOUT_S} s"
    last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
    return "" if done.returncode == 0 else f"{os.path.basename(command[0])}: {last}"


def _slurm() -> str:
    if not shutil.which("sinfo"):
        return "Slurm is not installed (tests/clusters/slurm.sh install && tests/clusters/slurm.sh start)"
    problem = _run(["scontrol", "ping"]) or _run(["sinfo", "--noheader"])
    return problem and f"no Slurm answers: {problem} (tests/clusters/slurm.sh start; eval its env)"


def _k8s() -> str:
    return _answers("k8s.sh", "TWISTER2_K8S_HOME", "Kubernetes")


def _nomad() -> str:
    return _answers("nomad.sh", "TWISTER2_NOMAD_HOME", "Nomad")


def _mesos() -> str:
    return _answers("mesos.sh", "TWISTER2_MESOS_HOME", "Mesos")


def _answers(script: str, variable: str, name: str) -> str:
    start = f"(tests/clusters/{script} install && tests/clusters/{script} start; eval its env)"
    if not os.environ.get(variable):
        return f"no {name} is running {start}"
    problem = _run([os.path.join(os.path.dirname(__file__), "tests", "clusters", script), "status"])
    return problem and f"no {name} answers: {problem} {start}"


def _mpi() -> str:
    return _run([sys.executable, "-c", "from mpi4py import MPI; assert MPI.COMM_WORLD.Get_size() == 1"])


def _openmpi() -> str:
    if not shutil.which(MPIEXEC):
        return "Open MPI is not installed (apt-get install openmpi-bin)"
    ask = (
        "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; assert 'Open MPI' in MPI.get_vendor()[0]"
    )
    return _run([sys.executable, "-c", ask], LIBRARY)


def _netns() -> str:
    from twister2_testkit.hosts import why_not

    return why_not()


def _hosts() -> str:
    if not shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or not shutil.which("ssh"):
        return "OpenSSH is not installed (tests/clusters/hosts.sh install)"
    return _netns()


def _mount() -> str:
    with tempfile.TemporaryDirectory(prefix="t2-probe-") as folder:
        problem = (
            _run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]) if shutil.which("mount") else "no mount"
        )
        if not problem:
            subprocess.run(["umount", "-l", folder], timeout=PROBE_TIMEOUT_S, check=True)
    return problem and f"no small file system can be mounted here: {problem}"


PROBES = {
    "needs_slurm": _slurm,
    "needs_k8s": _k8s,
    "needs_nomad": _nomad,
    "needs_mesos": _mesos,
    "needs_mpi": _mpi,
    "needs_openmpi": _openmpi,
    "needs_netns": _netns,
    "needs_hosts": _hosts,
    "needs_mount": _mount,
}


@functools.cache
def _why_absent(marker: str) -> str:
    return PROBES[marker]()


def pytest_configure() -> None:
    """Started in the background of a script, pytest ignores Ctrl-C, and so would all that tests start and interrupt."""
    _stderr()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def _stderr() -> int:
    """Return a copy of this process's standard error, made before a test's output is captured."""
    return os.dup(2)


def _end_unless_done_within(seconds: float) -> None:
    """Show all threads and end this process then: a test's timeout ends no wait in C, and none that begins anew.

    xdist names the test as the one that crashed its worker, and goes on with another worker.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_stderr())


LONG = 4000
"""Characters of two values beyond which their whole difference is not worked out."""
IN_CI = ("CI", "BUILD_NUMBER")
"""Variables that make pytest show whole differences."""


@pytest.hookimpl(wrapper=True)
def pytest_assertrepr_compare(left: object, right: object) -> Iterator[None]:
    """Of long values only where they begin to differ: of long lists the whole takes ``difflib`` minutes."""
    is_long = len(repr(left)) + len(repr(right)) > LONG
    hidden = {name: os.environ.pop(name) for name in IN_CI if is_long and name in os.environ}
    try:
        return (yield)
    finally:
        os.environ.update(hidden)


class TimedOutError(BaseException):
    """A test's time is over. Nobody takes it for a failure to be tried again, or counted, without a timeout from then
    on: neither hypothesis nor a test of tests that have to fail.
    """


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer() -> Iterator[None]:
    done = yield
    fails = signal.getsignal(signal.SIGALRM)
    if callable(fails):

        def ends(number: int, frame: FrameType | None) -> None:
            try:
                fails(number, frame)
            except pytest.fail.Exception as error:
                raise TimedOutError(str(error)) from None

        signal.signal(signal.SIGALRM, ends)
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("timeout")
    timeout_s = float(marker.args[0] if marker else item.config.getini("timeout") or 0)
    if timeout_s:
        _end_unless_done_within(timeout_s + GRACE_S)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Again: pytest has ended the watch here, for debuggers, and what a failed test tidies up can hang."""
    if isinstance(node, pytest.Item):
        _end_unless_done_within(GRACE_S)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in PROBES:
        if item.get_closest_marker(marker) and (why := _why_absent(marker)):
            if os.environ.get(REQUIRE, "") not in ("", "0"):
                pytest.fail(f"{REQUIRE} is set and {marker}: {why}", pytrace=False)
            pytest.skip(why)
