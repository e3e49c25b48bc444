"""The job package: what travels from the client to the workers.

A manifest (program, arguments, configuration, pinned plugins, sizes and hashes of all files) and the files one after
another. It is named by the hash of its bytes; every file is checked against the manifest when it is unpacked, and no
name can lead out of the folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from twister2.spec.errors import PackageError, ResourceError, ResourcesExceededError
from twister2.spec.values import Value

MANIFEST = "twister2-manifest.json"


@attrs.frozen(eq=False, repr=False)
class Manifest(Value):
    """What is in a package.

    :ivar program: how to find the function: ``{"kind": "file", "path", "original", "function"}``, ``{"kind": "module",
        "module", "function"}`` or ``{"kind": "pickle", "path"}``.
    :ivar args: the program's arguments. :ivar folder: working directory of the submitting process.
    :ivar want_results: whether the functions' results are returned.
    :ivar python: ``major.minor`` of the submitting interpreter. :ivar core: version of twister2-core.
    :ivar resolved: configuration; :ivar pins: pinned plugins. :ivar files: size and SHA-256 by name, in order.
    """

    program: Mapping[str, Any]
    args: tuple[str, ...]
    folder: str
    want_results: bool
    python: str
    core: str
    resolved: Mapping[str, Any]
    pins: Mapping[str, Any]
    files: Mapping[str, Sequence[Any]]

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        values = json.loads(data)
        return cls(**{**values, "args": tuple(values["args"])})


def pack(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """The package's bytes; the manifest's hashes are made here. The same input gives the same bytes.

    Layout: length of the manifest (8 bytes, big endian), the manifest as JSON, the files' contents in its order.
    """
    entries = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()}
    described = json.dumps(attrs.asdict(attrs.evolve(manifest, files=entries))).encode()
    return b"".join([len(described).to_bytes(8, "big"), described, *files.values()])


def digest(package: bytes) -> str:
    """The package's name: SHA-256 of its bytes, in hex."""
    return hashlib.sha256(package).hexdigest()


def unpack(package: bytes, folder: pathlib.Path) -> Manifest:
    """Unpack into ``folder`` (made 0700) and check every file.

    :raises ResourceError: it cannot be written there: the disk is full, say.
    :raises PackageError: a name leads out of the folder, a hash is wrong, or the package is damaged.
    """
    try:
        start = 8 + int.from_bytes(package[:8], "big")
        described = package[8:start]
        manifest = Manifest.decode(described)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, (size, expected) in manifest.files.items():
            _write(folder, name, package[start : start + size], expected)
            start += size
        if start != len(package):
            raise ValueError(f"{len(package) - start} bytes too many")
        (folder / MANIFEST).write_bytes(described)
    except OSError as error:
        raise _unwritten(error, len(package), folder) from error
    except (KeyError, ValueError, TypeError) as error:
        raise PackageError(
            "the job package cannot be unpacked",
            why=f"{type(error).__name__}: {error}",
            remedy="submit the job again",
            where=str(folder),
        ) from error
    return manifest


def _unwritten(error: OSError, size: int, folder: pathlib.Path) -> ResourceError:
    where, why = f"{os.uname().nodename}, {folder}", error.strerror or str(error)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"the job package cannot be unpacked: {why}",
            why=f"{error}; it is unpacked into this host's folder for jobs, below TMPDIR",
            remedy="mend that on this host, or set TMPDIR of the workers to another folder",
            where=where,
        )
    return ResourcesExceededError(
        f"the job package ({size:,} bytes) does not fit on the disk of {os.uname().nodename}",
        why=f"{why}, below TMPDIR",
        remedy="free space there, set TMPDIR of the workers to a folder on a larger disk, or ship less (job.files)",
        where=where,
    )


def repack(folder: pathlib.Path) -> bytes:
    """The package that was unpacked into a folder; another one when somebody has changed its files (:func:`digest`).

    :raises PackageError: some of it cannot be read.
    """
    try:
        described = (folder / MANIFEST).read_bytes()
        files = [folder.joinpath(name).read_bytes() for name in Manifest.decode(described).files]
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise PackageError(
            "the job package cannot be put together again",
            why=f"{type(error).__name__}: {error}",
            remedy="submit the job again",
            where=str(folder),
        ) from error
    return b"".join([len(described).to_bytes(8, "big"), described, *files])


def _write(folder: pathlib.Path, name: str, data: bytes, expected: str) -> None:
    parts = pathlib.PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(os.sep in part or "\0" in part for part in parts):
        raise ValueError(f"the name {name!r} leads out of the folder")
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"the content of {name} has another hash than the manifest says")
    target = folder.joinpath(*parts)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.write_bytes(data)
