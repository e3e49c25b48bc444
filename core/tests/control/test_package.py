"""Job packages: what goes in comes out, and nothing else does."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.control.package import MANIFEST, Manifest, digest, pack, unpack
from twister2.spec.errors import PackageError, ResourceError, ResourcesExceededError


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "program": {"kind": "file", "path": "prog.py", "original": "/a/prog.py", "function": "main"},
        "args": ("-x", "größe", ""),
        "folder": "/a",
        "want_results": True,
        "python": "3.11",
        "core": "0.1.0",
        "resolved": {"job": {"workers": 2}},
        "pins": {},
        "files": {},
    }
    return Manifest(**{**values, **changes})


NAMES = st.lists(st.sampled_from(["a", "b.py", "ü", "with space", "..."]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=30, deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=200), max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    # a name cannot be a file and a folder at once
    files = {name: data for name, data in files.items() if not any(other.startswith(f"{name}/") for other in files)}
    folder = tmp_path_factory.mktemp("package") / "target"
    package = pack(manifest(), files)
    assert package == pack(manifest(), files)
    unpacked = unpack(package, folder)
    assert unpacked.args == manifest().args
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert Manifest.decode(found.pop(MANIFEST)) == unpacked
    assert found == files


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..", "", "a\0b"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackageError):
        unpack(pack(manifest(), {name: b"x"}), tmp_path / "target")
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and "target" not in path.parts]
    assert not outside
    assert not Path("/etc/evil").exists()


def test_changed_content_is_refused(tmp_path: Path) -> None:
    package = pack(manifest(), {"prog.py": b"print('right')"})
    with pytest.raises(PackageError, match=r"prog\.py has another hash"):
        unpack(package.replace(b"right", b"wrong"), tmp_path)


def test_damaged_packages_are_refused(tmp_path: Path) -> None:
    package = pack(manifest(), {"prog.py": b"x" * 100})
    for damaged in (b"", package[:5], package[:50], package[:-1], package + b"x", b"\xff" * 64, b"\0" * 64):
        with pytest.raises(PackageError):
            unpack(damaged, tmp_path / "target")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_damaged_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(number, os.strerror(number), str(path))

    package = pack(manifest(), {"prog.py": b"x" * 100})
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourcesExceededError) as told:
        unpack(package, tmp_path / "target")
    for words in (f"{len(package):,} bytes", os.strerror(number), str(tmp_path / "target"), "TMPDIR"):
        assert words in str(told.value)


def test_a_folder_that_cannot_be_written_is_no_damaged_package(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ResourceError, match="Not a directory") as told:
        unpack(pack(manifest(), {"prog.py": b""}), tmp_path / "file" / "target")
    assert not isinstance(told.value, ResourcesExceededError)
    assert str(tmp_path / "file" / "target") in told.value.why


def test_what_failed_is_said_where_the_folder_can_be_written(tmp_path: Path) -> None:
    name = "n" * 300
    with pytest.raises(ResourceError, match="File name too long") as told:
        unpack(pack(manifest(), {name: b""}), tmp_path / "target")
    assert name in told.value.why
    assert "cannot be written" not in str(told.value)


def test_a_manifest_of_another_shape_is_refused(tmp_path: Path) -> None:
    for data in ({}, {"args": []}, [1], {"args": [], "unknown": 1}):
        described = json.dumps(data).encode()
        with pytest.raises(PackageError):
            unpack(len(described).to_bytes(8, "big") + described, tmp_path / "target")


def test_a_package_is_named_by_its_bytes() -> None:
    package = pack(manifest(), {"a": b"1"})
    assert digest(package) == hashlib.sha256(package).hexdigest()
    assert digest(pack(manifest(), {"a": b"2"})) != digest(package)
