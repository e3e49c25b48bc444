#!/usr/bin/env python3
"""An image archive for containerd from this machine's own file system: no image tool, no registry, no internet.

Without --folder: this interpreter with its standard library, the project as it is checked out, what it depends on, a
shell, and the shared libraries of all that. Users build theirs with a Containerfile; this is for the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ("twister2-rm-k8s", "twister2-rm-standalone", "twister2-harp", "twister2-comm-mpi")
DISTRIBUTIONS = ("twister2", *PLUGINS, "mpich", "PyYAML")
LEFT_OUT = ("test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "site-packages", "__pycache__")
HEAVY = {"pyarrow"}
"""Optional for the programs of the tests, and 100 MB."""
OTHER_MPI = ("libmpi_abi.", "MPI.openmpi.")
"""What mpi4py does not load where the MPI library is MPICH's wheel."""
TOOLS = ("sh", "cat", "ls", "sleep", "env", "true")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def requirements() -> dict[str, importlib.metadata.Distribution]:
    """The distributions and all that they need, as far as they are installed."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = list(DISTRIBUTIONS)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found or name in HEAVY:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in found[name].requires or []:
            if "extra ==" not in line:
                wanted.append(re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0])
    return found


def files() -> dict[str, Path]:
    """Path in the image -> file here."""
    prefix = Path(sys.base_prefix)
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(prefix), "base": str(prefix)}))
    packages = library / "site-packages"
    chosen: dict[str, Path] = {}
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        chosen |= {str(Path(folder, name)): Path(folder, name) for name in names if not name.endswith((".a", ".pyc"))}
    for distribution in requirements().values():
        for file in distribution.files or []:
            source, inside = Path(str(distribution.locate_file(file))), os.path.normpath(packages / str(file))
            # of what lies beside the packages: libraries that they load (the MPI library), no commands
            wanted = not str(file).startswith("..") or ".so" in source.name
            unwanted = source.name.startswith(OTHER_MPI) or source.suffix in (".pth", ".pyc")
            if wanted and not unwanted and source.is_file():
                chosen[inside] = source
    for source in [*ROOT.glob("core/src"), *ROOT.glob("plugins/*/src"), *ROOT.glob("testkit/src")]:
        for file in source.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                chosen[str(packages / file.relative_to(source))] = file
    python = Path(sys.executable).resolve()
    chosen[str(python)] = python
    for library_file in (prefix / "lib").glob("libpython*.so*"):
        chosen[str(library_file)] = library_file
    for tool in TOOLS:
        where = shutil.which(tool)
        if where:
            chosen[f"/bin/{tool}"] = Path(where).resolve()
    for path in shared_libraries([path for path in chosen.values() if ".so" in path.name or os.access(path, os.X_OK)]):
        chosen.setdefault(str(path), path)
    return chosen


def shared_libraries(binaries: list[Path]) -> set[Path]:
    """What the loader finds for them outside of their own folders."""
    found: set[Path] = set()
    elf = [str(path) for path in binaries if path.read_bytes()[:4] == b"\x7fELF"]
    for at in range(0, len(elf), 200):
        out = subprocess.run(
            ["ldd", *elf[at : at + 200]], capture_output=True, text=True, timeout=120, check=False
        ).stdout
        found |= {Path(path) for path in re.findall(r"(?:=>|^)\s*(/\S+)\s+\(0x", out, re.MULTILINE)}
    return {path for path in found if not str(path).startswith(str(ROOT))}


def layer_of_system(out: io.BufferedIOBase, *, compiled: bool = False) -> None:
    """The tree, with parents that anybody may enter: this interpreter may lie in a home folder.

    :param compiled: with modules' bytecode, as of packages that were installed: nobody can write it there later.
    """
    chosen = files()
    made: set[str] = set()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def folder(path: str, mode: int = 0o755) -> None:
            if path in made or path == "/":
                return
            folder(os.path.dirname(path))
            made.add(path)
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)

        def link(path: str, target: str) -> None:
            folder(os.path.dirname(path))
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)

        folder("/tmp", 0o1777)
        for name in ("/proc", "/sys", "/dev", "/run", "/var/run", "/etc"):
            folder(name)

        def file(path: str, data: bytes, mtime: float, mode: int) -> None:
            folder(os.path.dirname(path))
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mtime, entry.mode = len(data), int(mtime), mode
            tar.addfile(entry, io.BytesIO(data))

        for path in sorted(chosen):
            source = chosen[path]
            mtime = source.stat().st_mtime
            file(path, source.read_bytes(), mtime, 0o755 if os.access(source, os.X_OK) else 0o644)
            if compiled and (code := bytecode(source, path)):
                file(importlib.util.cache_from_source(path), code, mtime, 0o644)
        for name in ("python", "python3"):
            link(f"/usr/local/bin/{name}", str(Path(sys.executable).resolve()))
        passwd = b"root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size, entry.mode = len(passwd), 0o644
        tar.addfile(entry, io.BytesIO(passwd))


def bytecode(source: Path, path: str) -> bytes:
    """What Python would keep of a module; nothing of other files."""
    if source.suffix != ".py":
        return b""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "module.pyc")
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        with contextlib.suppress(py_compile.PyCompileError):  # templates of modules are none
            py_compile.compile(str(source), str(out), path, doraise=True, invalidation_mode=unchecked)
        return out.read_bytes() if out.exists() else b""


def layer_of_folder(out: io.BufferedIOBase, folder: Path) -> None:
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)


def pack(layer: Path, name: str, out: Path, entrypoint: list[str]) -> None:
    """A layer as an archive in docker's format."""
    with open(layer, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    configuration: dict[str, object] = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/tmp"}
    if entrypoint:
        configuration["Entrypoint"] = entrypoint
    image = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": configuration,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    encoded = json.dumps(image).encode()
    config_name = hashlib.sha256(encoded).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    new = out.with_name(out.name + ".new")
    with tarfile.open(new, "w") as tar:
        for file_name, data in ((config_name, encoded), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(file_name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        tar.add(layer, arcname="layer.tar")
    new.rename(out)


def state() -> str:
    """Changes when a file of the tree does."""
    digest = hashlib.sha256()
    for path, source in sorted(files().items()):
        facts = source.stat()
        digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="name:tag")
    parser.add_argument("out", type=Path, help="archive to write")
    parser.add_argument("--folder", type=Path, help="the tree, in place of this machine's")
    parser.add_argument("--entrypoint", nargs=1, default=[])
    parser.add_argument("--if-changed", action="store_true", help="leave an archive alone that would be the same")
    options = parser.parse_args()
    note = options.out.with_suffix(".state")
    now = state() if options.if_changed else ""
    if now and options.out.exists() and note.exists() and note.read_text() == now:
        return
    with tempfile.NamedTemporaryFile(dir=options.out.parent) as layer:
        if options.folder:
            layer_of_folder(layer, options.folder)
        else:
            layer_of_system(layer, compiled=True)
        layer.flush()
        pack(Path(layer.name), options.name, options.out, options.entrypoint)
    if now:
        note.write_text(now)


if __name__ == "__main__":
    main()
