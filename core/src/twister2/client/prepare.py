"""From a program and a configuration to an allocation: resolve, match, pack, make keys."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from typing import TYPE_CHECKING, cast

import attrs

import twister2
from twister2.client.packing import Program, extra_files
from twister2.config import JobConfig, Resolved
from twister2.config.groups import resource_groups
from twister2.control.folders import job_folder, runtime_path, state_folder
from twister2.control.master_ticket import MasterTicket
from twister2.control.package import Manifest, digest, pack
from twister2.control.ticket import Ticket, curve_pair, new_key
from twister2.host import Pins, PluginHost
from twister2.host.matching import Match, match
from twister2.spec.errors import CapabilityError, UsageError
from twister2.spec.interpreters import hash_seed
from twister2.spec.rm import Allocation, ResourceGroup, ResourceManager, ResourceOffers, RmContext
from twister2.spec.values import Value
from twister2.worker.descriptors import check_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.client.configure import Submission
    from twister2.spec.comm import CommSpec
    from twister2.spec.rm import ResourceManagerSpec

WORKER_COMMAND = (sys.executable, "-m", "twister2.worker")
MASTER_COMMAND = (sys.executable, "-m", "twister2.master")


@attrs.frozen(eq=False, repr=False)
class Prepared(Value):
    """Everything a submission needs, before anything was started."""

    allocation: Allocation
    master_ticket: MasterTicket
    package: bytes
    manifest: Manifest
    backend: ResourceManager
    resolved: Resolved
    host: PluginHost
    pins: Pins
    match: Match
    folder: pathlib.Path
    program: Program
    detached: bool

    @property
    def job(self) -> JobConfig:
        return self.resolved.job


def _wheels(job: JobConfig, offers: ResourceOffers, limit: int) -> dict[str, bytes]:
    if not job.wheels:
        return {}
    if offers.in_process:
        raise CapabilityError(
            "job.wheels cannot be used by workers that are threads of this process",
            why="what is imported here would change for the whole process",
            remedy="install them here, or run the workers as processes",
        )
    from twister2.client.wheels import wheel_files

    return wheel_files(job.wheels, limit)


def _by(python: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command, by another interpreter if one is named."""
    return (python, *command[1:]) if python else command


def _current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current folder does not exist any more",
            why="it was removed; programs of a job begin in the folder that they were submitted from",
            remedy="change to another folder first (cd)",
        ) from error


def prepare(
    submission: Submission, find: Callable[[], Program], args: Sequence[str], *, want_results: bool, detached: bool
) -> Prepared:
    """Make package, keys and allocation. The resource manager's backend is closed when that fails.

    :param find: finds the program.
    :raises CapabilityError: the chosen plugins do not fit together. :raises PackageError: see :mod:`packing`.
    """
    job = submission.resolved.job
    context = RmContext(state_dir=str(state_folder(job.state_dir)))
    backend: ResourceManager = submission.host.create(
        "rm", job.rm, submission.resolved.plugin("rm", job.rm), context=context
    )
    try:
        return _prepare(submission, backend, find(), args, want_results=want_results, detached=detached)
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong first is the one to tell
            backend.close()
        raise


def _prepare(
    submission: Submission,
    backend: ResourceManager,
    program: Program,
    args: Sequence[str],
    *,
    want_results: bool,
    detached: bool,
) -> Prepared:
    host, resolved, job_id, name = submission.host, submission.resolved, submission.job_id, submission.name
    job, offers = resolved.job, backend.offers
    folder = job_folder(state_folder(job.state_dir), job_id)
    check_limit(job.workers if offers.same_host else 1)
    if program.problem is not None and not offers.in_process:
        raise program.problem
    if detached and not offers.outlives_client:
        raise CapabilityError(
            f"this job cannot go on without its client: rm {job.rm} does not offer it",
            why=offers.why.get("outlives_client", "its jobs end with the submitting process"),
            remedy="submit without --detach, or with another resource manager or other options of it",
        )
    transports = {name: cast("CommSpec", host.load("comm", name).plugin).facts for name in job.comm}
    fits = match(rm=job.rm, offers=offers, transports=transports, workers=job.workers, master=job.master)
    pins = host.pin(resolved.selection())
    in_client = fits.master == "client"
    local = in_client and offers.same_host
    data = resolved.to_dict()
    manifest = Manifest(
        program=program.spec,
        args=tuple(args),
        folder=_current_folder(),
        want_results=want_results,
        python=pins.python,
        core=twister2.__version__,
        resolved=data,
        pins=pins.to_dict(),
        files={},
    )
    limit = job.package_limit_mb << 20
    package = pack(manifest, {**program.files, **extra_files(job.files, limit), **_wheels(job, offers, limit)})
    runtime = str(runtime_path(job_id)) if in_client else ""
    master_public, master_secret = curve_pair()
    join_key, client_key = new_key(), new_key()
    listen = (f"ipc://{runtime}/master",) if local else (f"tcp://{job.interface}:*" if job.interface else "tcp://*",)
    groups = resource_groups(job)
    python = job.python or offers.python
    ticket = Ticket(job_id, 1, listen if local else (), master_public, join_key)
    master_ticket = MasterTicket(
        job_id=job_id,
        name=name,
        folder=str(folder),
        runtime_dir=runtime,
        listen=listen,
        in_client=in_client,
        detached=detached,
        master_public=master_public,
        master_secret=master_secret,
        client_key=client_key,
        join_key=join_key,
        resolved=data,
        pins=manifest.pins,  # type: ignore[arg-type]
        groups=[attrs.asdict(group) for group in groups],
        program=program.label,
        package=digest(package) if offers.restarts_master else "",
        has_package=in_client or "package" in offers.shared_files,
        shares_state=in_client or "state" in offers.shared_files,
        world=fits.world,
        serve_pmi=fits.supervisors_serve,
        segments=tuple(pattern for name in fits.transports for pattern in transports[name].segments),
    )
    if detached and offers.restarts_master and not master_ticket.has_package:
        master_ticket = master_ticket.with_package(package, offers.ticket_limit)
    slot_source = cast("ResourceManagerSpec", host.load("rm", job.rm).plugin).slot_source
    allocation = Allocation(
        job_id=job_id,
        name=name,
        groups=groups,
        master=None if in_client else ResourceGroup("master", 1),
        worker_command=_by(python, WORKER_COMMAND),
        master_command=_by(python, MASTER_COMMAND),
        environment={
            "TWISTER2_SLOT_FROM": slot_source.variable,
            "TWISTER2_SLOT_BASE": str(slot_source.base),
            "PYTHONHASHSEED": hash_seed(job_id),
            "TWISTER2_START_DEADLINE_S": str(job.start_deadline_s),
        },
        ticket=ticket.encode(),
        master_ticket=b"" if in_client else master_ticket.encode(),
        world=fits.world,
        walltime_s=job.walltime_s,
        oversubscribe=job.oversubscribe,
        folder=str(folder),
    )
    return Prepared(
        allocation, master_ticket, package, manifest, backend, resolved, host, pins, fits, folder, program, detached
    )
