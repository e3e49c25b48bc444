"""The wheels that are shipped with a job (``job.wheels``)."""

from __future__ import annotations

import os
import pathlib
import zipfile
from typing import TYPE_CHECKING

from twister2.spec.errors import PackageError
from twister2.worker.wheels import FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence


def wheel_files(names: Sequence[str], limit: int) -> dict[str, bytes]:
    """Contents of the wheels, by their names in the package, in the order of their names.

    :param names: wheels, or folders of wheels. :param limit: most bytes of all together.
    :raises PackageError: one is missing, is no wheel, comes in two versions, or they are too large.
    """
    found: dict[str, pathlib.Path] = {}
    for name in names:
        path = pathlib.Path(name)
        wheels = sorted(path.glob("*.whl")) if path.is_dir() else [path]
        if not wheels or not all(wheel.suffix == ".whl" and zipfile.is_zipfile(wheel) for wheel in wheels):
            raise PackageError(
                f"{name} of job.wheels is no wheel, nor a folder of wheels",
                why=f"looked in {os.getcwd()}",
                remedy="make a folder of them: pip wheel -r requirements.txt -w wheels",
            )
        for wheel in wheels:
            distribution = wheel.name.partition("-")[0].lower()
            other = found.setdefault(distribution, wheel)
            if other.name != wheel.name or (other != wheel and other.read_bytes() != wheel.read_bytes()):
                raise PackageError(
                    f"job.wheels has two versions of {distribution}",
                    why=f"{other} and {wheel}",
                    remedy="remove one of them",
                )
    total = sum(wheel.stat().st_size for wheel in found.values())
    if total > limit:
        raise PackageError(
            f"the wheels of the job are larger than {limit >> 20} MiB",
            why=f"{len(found)} wheels have {total >> 20:,} MiB",
            remedy="install them for the workers (job.python, an image), or raise job.package_limit_mb",
        )
    return {
        f"{FOLDER}/{wheel.name}": wheel.read_bytes() for wheel in sorted(found.values(), key=lambda each: each.name)
    }
