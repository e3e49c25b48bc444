"""The conformance suite, against local files and a store of fsspec; and the mutants that the suite must reject."""

from __future__ import annotations

import os
from typing import ClassVar

import attrs
import fsspec
import pytest

from twister2.spec.data import ReadRequest, WriteRequest
from twister2_data_file.backend import FileBackend
from twister2_data_file.compression import SUFFIXES, Packer
from twister2_data_file.config import FileConfig
from twister2_testkit.data import KEY, DataCapabilities, DataSuite, lines_of
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


class PackedFiles(LocalFiles):
    capabilities = attrs.evolve(ALL, cuts=False, why={"cuts": "unpacking begins at the beginning"})
    packing: ClassVar[str]

    def put(self, place, contents, piece):
        for number, content in enumerate(contents):
            with open(place / f"{number:03}.txt{SUFFIXES[self.packing]}", "wb") as file:
                packer = Packer(file, self.packing)
                packer.write(content)
                packer.finish()
        return ReadRequest((str(place / "*.txt.*"),), "text", options={"split_mb": piece / (1 << 20)})

    def target(self, place, *, task, n_tasks, attempt, key=KEY):
        options = {"compression": self.packing}
        return WriteRequest(str(place / "out"), "text", task, n_tasks, attempt, key, options)


class TestGzipFiles(PackedFiles):
    packing = "gzip"


class TestBz2Files(PackedFiles):
    packing = "bz2"


class TestXzFiles(PackedFiles):
    packing = "xz"


class TestZstdFiles(PackedFiles):
    packing = "zstd"


class LinesOfValues(LocalFiles):
    """Formats whose files are not the lines themselves: the tests' lines are put and read as such records."""

    format: ClassVar[str]
    writing: ClassVar[dict[str, object]] = {}
    capabilities = attrs.evolve(
        ALL, why={"cuts": "sizes are those of the format; see the tests of the format"}, cuts=False
    )

    def make_backend(self):
        return Unwrapped(FileConfig(block_kb=1, batch_rows=70))

    def put(self, place, contents, piece):
        for number, content in enumerate(contents):
            path = place / f"{number:03}.x"
            rows = self.rows(lines_of(content))
            writer = FileBackend().create_writer(
                WriteRequest(str(path), self.format, 0, 1, 1, "put", {"single_file": True, **self.writing})
            )
            if rows:
                writer.write(rows)
            FileBackend().commit(
                WriteRequest(str(path), self.format, 0, 1, 1, "put", {"single_file": True, **self.writing}),
                writer.prepare(1),
            )
            writer.close()
        return ReadRequest((str(place / "*.x"),), self.format, options={"split_mb": piece / (1 << 20)} | self.reading())

    def rows(self, lines):
        return [{"line": line} for line in lines]

    def reading(self):
        return {}

    def target(self, place, *, task, n_tasks, attempt, key=KEY):
        return WriteRequest(str(place / "out"), self.format, task, n_tasks, attempt, key, dict(self.writing))

    def output(self, place):
        return ReadRequest((str(place / "out"),), self.format, options=self.reading())

    def missing(self, place):
        request, names = super().missing(place)
        return attrs.evolve(request, format=self.format, options=self.reading()), names


class TestJsonRows(LinesOfValues):
    format = "json"
    writing: ClassVar[dict[str, object]] = {"column_names": ["line"]}


class TestJsonObjects(LinesOfValues):
    format = "json"

    def rows(self, lines):
        return list(lines)

    def reading(self):
        return {"form": "objects"}


class TestParquet(LinesOfValues):
    format = "parquet"
    writing: ClassVar[dict[str, object]] = {"column_names": ["line"], "column_types": {"line": "string"}}


class TestArrowFiles(LinesOfValues):
    format = "arrow"
    writing: ClassVar[dict[str, object]] = {
        "column_names": ["line"],
        "column_types": {"line": "string"},
        "batch_rows": 30,
    }


class TestArrowStreams(LinesOfValues):
    format = "arrow"
    writing: ClassVar[dict[str, object]] = {**TestArrowFiles.writing, "stream": True}


class TestBinaryRecords(LinesOfValues):
    format = "binary"
    writing: ClassVar[dict[str, object]] = {"dtype": "U40"}

    def rows(self, lines):
        return list(lines)

    def reading(self):
        return {"dtype": "U40", "batch_mb": 0.001}


class Unwrapped(FileBackend):
    """Gives rows of one column as their values, which the suite compares with lines."""

    def open(self, request, splits):
        reader = super().open(request, splits)
        poll = reader.poll
        reader.poll = lambda: values_of(poll())
        return reader


def values_of(batch):
    if hasattr(batch, "to_pylist"):
        return [next(iter(row.values())) for row in batch.to_pylist()]
    return batch.tolist() if hasattr(batch, "tolist") else batch


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
