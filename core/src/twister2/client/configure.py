"""The first thing a submission does: resolve its configuration, and let the resource manager warm up meanwhile.

Apart from :mod:`twister2.client.prepare` so that it can begin before the rest of the client is imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.config import JobConfig, Resolved, resolve
from twister2.control.folders import state_folder
from twister2.host import PluginHost
from twister2.spec.rm import RmContext
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@attrs.frozen(eq=False, repr=False)
class Submission(Value):
    """The configuration a program is submitted with, and the job's name and id."""

    host: PluginHost
    resolved: Resolved
    name: str
    job_id: str


def configure(
    program: str,
    profile: str | None,
    *,
    files: Sequence[str] | None = None,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    warm_up: bool = True,
) -> Submission:
    """Resolve the configuration of a submission.

    :param program: its name; the job is called so unless ``job.name`` is set.
    :param warm_up: let the resource manager start early what takes long.
    :raises ConfigError, PluginError: see :func:`twister2.config.resolve`.
    """
    host = PluginHost(by_target=True)
    names: list[tuple[str, str]] = []
    options: list[tuple[JobConfig, Any]] = []

    def early(job: JobConfig, rm_options: Any) -> None:
        name = job.name or program
        names.append((name, new_job_id(name)))
        if warm_up:
            options.append((job, rm_options))
            host.warm_up(job.rm, rm_options, names[0][1])

    def call_off() -> None:
        """A backend that is closed keeps nothing that was started early."""
        for job, rm_options in options:
            with contextlib.suppress(Exception):
                context = RmContext(state_dir=str(state_folder(job.state_dir)))
                host.create("rm", job.rm, rm_options, context=context).close()

    try:
        resolved = resolve(host=host, profile=profile, files=files, settings=settings, overrides=overrides, early=early)
    except BaseException:
        call_off()
        raise
    return Submission(host, resolved, *names[0])


def new_job_id(name: str) -> str:
    """A unique id of at most 50 characters, fit for labels: the name's letters, the time, four random digits."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24].strip("-") or "job"
    return f"{slug}-{time.strftime('%y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
