"""Reading and writing through the data backends."""

from __future__ import annotations

import gzip
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import DataAccessError, DataFormatError, DataNotFoundError
from twister2_testkit.graphs import run_workers as run_on_workers
from twister2_tset import ReadReport, TSetContext


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("one two\n\nthree\u00a0four one\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("zwei \u96ea \U0001f600\n" * 50 + "end without newline", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("")
    with gzip.open(tmp_path / "c.txt.gz", "wt", encoding="utf-8") as file:
        file.write("one\r\ntwo\r\n")
    return tmp_path


def words_of(folder):
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))]
    texts += [gzip.decompress(path.read_bytes()).decode() for path in folder.glob("*.gz")]
    return Counter(word for text in texts for word in text.split())


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_words_of_files(run_workers, folder, workers):
    def job(env):
        context = TSetContext(env)
        lines = context.read_text([folder / "*.txt", str(folder / "*.gz")], partitions=5)
        whole = lines.flat_map(str.split).count_by_value().collect()
        one_by_one = lines.flat_map(lambda line: line.split()).count_by_value().collect()
        return dict(whole), dict(one_by_one), context.read_report()

    expected = words_of(folder)
    for whole, one_by_one, report in run_workers(workers, job):
        assert whole == one_by_one == expected
        assert report.n_bytes > 0
        assert report.skipped == ()


def test_skipped_files_are_named_once(run_workers, folder):
    (folder / "bad.txt").write_bytes(b"caf\xe9\n")

    def job(env):
        context = TSetContext(env)
        lines = context.read_text(f"{folder}/*.txt", on_decode_error="skip")
        return lines.count(), lines.count(), context.read_report()

    first = run_workers(2, job)[0]
    assert first[0] == first[1]
    assert len(first[2].skipped) == 1
    assert "bad.txt" in first[2].skipped[0]


def test_files_that_cannot_be_read(run_workers, folder):
    (folder / "bad.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataFormatError, match=r"not UTF-8"):
        run_workers(2, lambda env: TSetContext(env).read_text(f"{folder}/bad.txt").count())
    with pytest.raises(DataNotFoundError, match=r"nothing\.txt"):
        run_workers(2, lambda env: TSetContext(env).read_text(f"{folder}/nothing.txt").count())


def test_tables_are_written_and_read_back(run_workers, tmp_path):
    def job(env):
        context = TSetContext(env)
        pairs = context.parallelize([(f"w{n}", n) for n in range(20)], 3).sort()
        pairs.write_parquet(tmp_path / "parquet", column_names=["word", "n"])
        pairs.write_csv(tmp_path / "csv", column_names=["word", "n"])
        pairs.map(lambda pair: pair[0]).write_text(tmp_path / "text")
        rows = context.read_parquet(tmp_path / "parquet" / "*.parquet").collect()
        numbers = context.read_csv(tmp_path / "csv" / "*.csv", columns=["n"]).map(lambda row: row["n"]).collect()
        return rows, sorted(numbers), context.read_text(tmp_path / "text" / "*.txt").collect()

    words = sorted(f"w{n}" for n in range(20))
    for rows, numbers, lines in run_workers(2, job):
        assert rows == [{"word": word, "n": int(word[1:])} for word in words]
        assert numbers == list(range(20))
        assert lines == words
    assert pq.read_table(tmp_path / "parquet").num_rows == 20


def test_a_failing_set_writes_nothing_and_does_not_overwrite(run_workers, tmp_path):
    def failing(env):
        TSetContext(env).parallelize([1, 0, 2], 2).map(lambda x: 1 / x).write_csv(tmp_path / "out")

    with pytest.raises(Exception, match="division by zero"):
        run_workers(2, failing)
    assert not list(tmp_path.rglob("part*"))
    run_workers(2, lambda env: TSetContext(env).parallelize([1]).write_csv(tmp_path / "out"))
    with pytest.raises(DataAccessError, match="out"):
        run_workers(2, lambda env: TSetContext(env).parallelize([2]).write_csv(tmp_path / "out"))
    run_workers(2, lambda env: TSetContext(env).parallelize([3]).write_csv(tmp_path / "out", overwrite=True))
    texts = [path.read_text() for path in (tmp_path / "out").glob("part*")]
    assert len(texts) == 1
    assert "3" in texts[0]


def test_reports_add_up():
    one, other = ReadReport(1, 10, ("b",)), ReadReport(2, 20, ("a", "b"))
    assert one + other == ReadReport(3, 30, ("a", "b"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet", "arrow"])
def test_what_save_wrote_load_reads(run_workers, tmp_path, suffix):
    rows = [{"n": number, "word": f"w{number}"} for number in range(10)]

    def job(env):
        context, uri = TSetContext(env), f"{tmp_path}/out.{suffix}"
        context.parallelize(rows, 2).save(uri)
        found = context.load(uri, predicate=[("n", ">", 6)], columns=["word"]).collect()
        return sorted(row["word"] for row in found), context.load([uri]).where("n", "==", 3).collect()

    assert run_workers(2, job) == [(["w7", "w8", "w9"], [rows[3]])] * 2


WRITTEN = {
    "csv": (lambda s, uri: s.write_csv(uri), lambda context, uri: context.read_csv(uri)),
    "json": (lambda s, uri: s.write_json(uri), lambda context, uri: context.read_json(uri)),
    "parquet": (lambda s, uri: s.write_parquet(uri), lambda context, uri: context.read_parquet(uri)),
    "arrow": (lambda s, uri: s.write_arrow(uri), lambda context, uri: context.read_arrow(uri)),
    "text": (
        lambda s, uri: s.map(lambda row: row["t"]).write_text(uri),
        lambda context, uri: context.read_text(uri).map(lambda line: {"t": line}),
    ),
    "binary": (
        lambda s, uri: s.map_batches(lambda batch: np.array([row["n"] for row in batch], "<i8")).write_binary(uri),
        lambda context, uri: context.read_binary(uri, dtype="<i8").map(lambda n: {"n": int(n)}),
    ),
}
ROW = st.builds(
    lambda n, x, t: {"n": n, "x": x, "t": t},
    st.integers(-(2**62), 2**62),
    st.floats(-1e9, 1e9),
    st.text("abcé€\U0001f600", min_size=1),
)


@pytest.mark.parametrize("form", WRITTEN)
@settings(max_examples=4, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=20),
    partitions=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    n_workers=st.integers(1, 3),
)
def test_what_writers_wrote_readers_read(tmp_path_factory, form, rows, partitions, n_workers):
    uri = str(tmp_path_factory.mktemp("written") / "out")
    write, read = WRITTEN[form]

    def job(env):
        write(TSetContext(env).parallelize(rows, partitions[0]), uri)
        return read(TSetContext(env, partitions=partitions[1]), uri).collect()

    for found in run_on_workers(n_workers, job):
        names = sorted(found[0])
        assert names in (["n", "t", "x"], ["n"], ["t"])
        assert sorted([row[name] for name in names] for row in found) == sorted(
            [row[name] for name in names] for row in rows
        )


def test_lines_and_records_of_a_fixed_size_are_saved_and_loaded(run_workers, tmp_path):
    import numpy

    def job(env):
        context = TSetContext(env)
        context.parallelize(["a", "b", "c"], 2).save(f"{tmp_path}/out.txt")
        context.parallelize(numpy.arange(6, dtype="<i8"), 2).save(f"{tmp_path}/out.bin")
        numbers = context.read_binary(f"{tmp_path}/out.bin", dtype="<i8")
        again = context.load(f"{tmp_path}/out.bin", dtype="<i8").count()
        return sorted(context.load(f"{tmp_path}/out.txt").collect()), numbers.sum(), again

    assert run_workers(2, job) == [(["a", "b", "c"], 15, 6)] * 2


def test_csv_is_filtered_while_it_is_read(run_workers, tmp_path):
    (tmp_path / "a.csv").write_text("n,word\n1,a\n2,b\n3,\n")

    def job(env):
        rows = TSetContext(env).read_csv(f"{tmp_path}/a.csv", predicate=[("n", ">=", 2)], columns=["n"])
        return rows.collect()

    assert run_workers(1, job) == [[{"n": 2}, {"n": 3}]]
