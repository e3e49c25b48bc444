"""The conformance suite, against local files and a store of fsspec; and the mutants that the suite must reject."""

from __future__ import annotations

import os

import attrs
import fsspec
import pytest

from twister2.spec.data import ReadRequest, WriteRequest
from twister2_data_file.backend import FileBackend
from twister2_data_file.config import FileConfig
from twister2_testkit.data import KEY, DataCapabilities, DataSuite
from twister2_testkit.mutants.data import mutants_of

ALL = DataCapabilities(
    reads_lines=True, cuts=True, positions=True, finds_missing=True, writes=True, refuses_existing=True
)


class LocalFiles(DataSuite):
    capabilities = ALL

    def make_backend(self):
        return FileBackend(FileConfig(block_kb=1))

    def put(self, place, contents, piece):
        for number, content in enumerate(contents):
            (place / f"{number:03}.txt").write_bytes(content)
        return ReadRequest((str(place / "*.txt"),), "text", options={"split_mb": piece / (1 << 20)})

    def missing(self, place):
        (place / "there.txt").write_text("x\n")
        names = ["absent.txt", "*.none", os.path.join("no", "folder", "x.txt")]
        return ReadRequest(tuple(str(place / name) for name in [names[0], "there.txt", *names[1:]]), "text"), names

    def target(self, place, *, task, n_tasks, attempt, key=KEY):
        return WriteRequest(str(place / "out"), "text", task, n_tasks, attempt, key)

    def output(self, place):
        return ReadRequest((str(place / "out"),), "text")

    def traces(self, place):
        return [str(path) for path in (place / "out").rglob(".*")] + [str(path) for path in place.rglob("*.tmp")]


class TestLocalFiles(LocalFiles):
    pass


class TestGzipFiles(LocalFiles):
    capabilities = attrs.evolve(ALL, cuts=False, why={"cuts": "unpacking begins at the beginning"})

    def put(self, place, contents, piece):
        import gzip

        for number, content in enumerate(contents):
            (place / f"{number:03}.txt.gz").write_bytes(gzip.compress(content, 1))
        return ReadRequest((str(place / "*.gz"),), "text", options={"split_mb": piece / (1 << 20)})


class TestSkippingFiles(LocalFiles):
    capabilities = attrs.evolve(ALL, cuts=False, why={"cuts": "damaged files are left out as a whole, by one task"})

    def make_backend(self):
        return FileBackend(FileConfig(block_kb=1, on_decode_error="skip"))


class TestFsspecStore(LocalFiles):
    @pytest.fixture(autouse=True)
    def _empty_store(self):
        yield
        store = fsspec.filesystem("memory")
        store.store.clear()
        store.pseudo_dirs[:] = [""]

    def put(self, place, contents, piece):
        store = fsspec.filesystem("memory")
        for number, content in enumerate(contents):
            store.pipe(f"memory://{place}/{number:03}.txt", content)
        return ReadRequest((f"memory://{place}/*.txt",), "text", options={"split_mb": piece / (1 << 20)})

    def missing(self, place):
        fsspec.filesystem("memory").pipe(f"memory://{place}/there.txt", b"x\n")
        names = ["absent.txt", "*.none"]
        uris = tuple(f"memory://{place}/{name}" for name in ["there.txt", *names])
        return ReadRequest(uris, "text"), names

    def target(self, place, *, task, n_tasks, attempt, key=KEY):
        return WriteRequest(f"memory://{place}/out", "text", task, n_tasks, attempt, key)

    def output(self, place):
        return ReadRequest((f"memory://{place}/out",), "text")

    def traces(self, place):
        names = fsspec.filesystem("memory").find(f"{place}/out", withdirs=True)
        return [name for name in names if "/." in name]


@pytest.mark.parametrize(("name", "make", "test"), mutants_of(LocalFiles().make_backend))
def test_suite_rejects(name, make, test):
    suite = LocalFiles()
    suite.make_backend = make
    with pytest.raises((AssertionError, FileNotFoundError, pytest.fail.Exception)):
        getattr(suite, test)()
