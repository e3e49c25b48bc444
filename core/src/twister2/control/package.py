"""The job package: what travels from the client to the workers.

A tar archive with a manifest (program, arguments, configuration, pinned plugins, hashes of all files) and the files. It is
named by the hash of its bytes; every file is checked against the manifest when it is unpacked, and no name can lead out
of the folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import tarfile
from collections.abc import Mapping
from typing import Any

import attrs

from twister2.spec.errors import PackageError

MANIFEST = "twister2-manifest.json"


@attrs.frozen
class Manifest:
    """What is in a package.

    :ivar program: how to find the function: ``{"kind": "file", "path", "original", "function"}``, ``{"kind": "module",
        "module", "function"}`` or ``{"kind": "pickle", "path"}``.
    :ivar args: the program's arguments. :ivar folder: working directory of the submitting process.
    :ivar want_results: whether the functions' results are returned.
    :ivar python: ``major.minor`` of the submitting interpreter. :ivar core: version of twister2-core.
    :ivar resolved: configuration; :ivar pins: pinned plugins. :ivar files: SHA-256 by name.
    """

    program: Mapping[str, Any]
    args: tuple[str, ...]
    folder: str
    want_results: bool
    python: str
    core: str
    resolved: Mapping[str, Any]
    pins: Mapping[str, Any]
    files: Mapping[str, str]

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        values = json.loads(data)
        return cls(**{**values, "args": tuple(values["args"])})


def pack(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """The package's bytes; the manifest's hashes are made here. The same input gives the same bytes."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = attrs.evolve(manifest, files=hashes)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        everything = {MANIFEST: json.dumps(attrs.asdict(manifest), sort_keys=True).encode(), **files}
        for name in everything:
            info = tarfile.TarInfo(name)
            info.size = len(everything[name])
            info.mode = 0o600
            archive.addfile(info, io.BytesIO(everything[name]))
    return buffer.getvalue()


def digest(package: bytes) -> str:
    return hashlib.sha256(package).hexdigest()


def unpack(package: bytes, folder: pathlib.Path) -> Manifest:
    """Unpack into ``folder`` (made 0700) and check every file.

    :raises PackageError: a name leads out of the folder, a hash is wrong, or the archive is damaged.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(package)) as archive:
            members = {member.name: member for member in archive.getmembers()}
            described = _read(archive, members[MANIFEST])
            manifest = Manifest.decode(described)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / MANIFEST).write_bytes(described)
            for name, expected in manifest.files.items():
                _write(folder, name, _read(archive, members[name]), expected)
    except (tarfile.TarError, KeyError, ValueError, TypeError, OSError) as error:
        raise PackageError(
            "the job package cannot be unpacked",
            why=f"{type(error).__name__}: {error}",
            remedy="submit the job again; check that the disk of this host has space",
            where=str(folder),
        ) from error
    return manifest


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is not a file")
    return file.read()


def _write(folder: pathlib.Path, name: str, data: bytes, expected: str) -> None:
    parts = pathlib.PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(os.sep in part or "\0" in part for part in parts):
        raise ValueError(f"the name {name!r} leads out of the folder")
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"the content of {name} has another hash than the manifest says")
    target = folder.joinpath(*parts)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.write_bytes(data)
