"""Reading text: encodings, ends of lines, long lines, gzip."""

from __future__ import annotations

import gzip

import pytest

from twister2.spec.errors import DataFormatError
from twister2.spec.tasks import END


def test_ends_of_lines(files, tmp_path):
    (tmp_path / "x").write_bytes(b"a\nb\r\nc\rd\n\n\x0be\x85".replace(b"\x85", "\u2028".encode()) + b"f")
    assert files.read(tmp_path / "x") == ["a", "b", "c\rd", "", "\x0be\u2028f"]


@pytest.mark.parametrize(("content", "expected"), [(b"", []), (b"\n", [""]), (b"\n\n", ["", ""]), (b"a", ["a"])])
def test_small_files(files, tmp_path, content, expected):
    (tmp_path / "x").write_bytes(content)
    assert files.read(tmp_path / "x") == expected


def test_byte_order_mark_is_no_text(files, tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    (tmp_path / "b").write_bytes(b"\xef\xbb\xbf")
    assert files.read(tmp_path / "a", tmp_path / "b", n_tasks=3) == ["one", "two"]


def test_many_small_files_share_a_batch(files, tmp_path):
    for number in range(50):
        (tmp_path / f"{number:02}").write_text(f"{number}")
    (batch,) = files.batches(tmp_path, n_tasks=1)
    assert list(batch) == [str(number) for number in range(50)]


def test_a_batch_of_a_large_file_is_one_block(files, tmp_path):
    (tmp_path / "x").write_text("".join(f"{number:099}\n" for number in range(200)))
    sizes = [batch.nbytes for batch in files.batches(tmp_path / "x", n_tasks=1, block_kb=1)]
    assert sum(sizes) == 20_000
    assert max(sizes) <= 1024 + 100  # with the line that began in the one before


def test_giant_line_without_newline(files, tmp_path):
    with open(tmp_path / "x", "wb") as file:
        for _ in range(100):
            file.write(b"0123456789abcdef" * (1 << 16))
    (batch,) = files.batches(tmp_path / "x", n_tasks=4)
    assert len(batch) == 1
    assert len(batch[0]) == 100 << 20


def test_giant_line_lets_the_caller_breathe(files, tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 200_000)
    (reader,) = files.readers(tmp_path / "x", n_tasks=1, block_kb=1)
    polls = []
    while (batch := reader.poll()) is not END:
        polls.append(batch)
    reader.close()
    assert polls.count(None) >= 5
    assert [len(batch[0]) for batch in polls if batch is not None] == [200_000]


@pytest.mark.parametrize("split", [1, 2, 3, 5, 7])
def test_characters_across_splits_are_no_error(files, tmp_path, split):
    lines = ["é€𝄞" * length for length in range(1, 8)]
    (tmp_path / "x").write_text("\n".join(lines), encoding="utf-8")
    assert files.read(tmp_path / "x", split_mb=split / (1 << 20), n_tasks=5) == lines


@pytest.fixture
def damaged(tmp_path):
    """Three files; the second is not UTF-8 at byte 600,004, far behind its first blocks."""
    (tmp_path / "1").write_text("good 1\n")
    (tmp_path / "2").write_bytes(b"ab\n" * 200_000 + b"bad \xff line\n" + b"cd\n" * 1000)
    (tmp_path / "3").write_text("good 3\n")
    return tmp_path


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_not_utf8_is_an_error_with_file_and_offset(files, damaged, n_tasks):
    with pytest.raises(DataFormatError) as caught:
        files.read(damaged, n_tasks=n_tasks)
    assert f"{damaged / '2'}: not UTF-8 at byte 600004 (0xff)" in str(caught.value)
    assert caught.value.details["offset"] == 600_004


def test_offset_counts_the_byte_order_mark(files, tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfab\xff")
    with pytest.raises(DataFormatError, match="at byte 5 "):
        files.read(tmp_path / "x")


@pytest.mark.parametrize("n_tasks", [1, 2, 5])
def test_skip_leaves_out_the_whole_file_and_names_it(files_with, damaged, n_tasks):
    readers = files_with(on_decode_error="skip").readers(damaged, n_tasks=n_tasks)
    lines, skipped, counted = [], [], 0
    for reader in readers:
        while (batch := reader.poll()) is not END:
            lines += batch or []
        skipped += reader.skipped()
        counted += reader.counters()["skipped_files"]
        reader.close()
    assert lines == ["good 1", "good 3"]
    assert counted == 1
    assert len(skipped) == 1
    assert skipped[0].startswith(f"{damaged / '2'}: not UTF-8")
    assert "600004" in skipped[0]


def test_skip_sees_a_character_cut_off_at_the_end(files, tmp_path):
    (tmp_path / "x").write_bytes("fine é".encode()[:-1])
    (reader,) = files.readers(tmp_path / "x", n_tasks=1, on_decode_error="skip")
    assert reader.poll() is END
    assert reader.skipped() == (f"{tmp_path / 'x'}: not UTF-8 (unexpected end of data at byte 5)",)


def test_skipped_files_are_still_named_after_a_restore(files, damaged):
    (reader,) = files.readers(damaged, n_tasks=1, on_decode_error="skip")
    while reader.poll() is not END:
        pass
    (restored,) = files.readers(damaged, n_tasks=1, on_decode_error="skip")
    restored.restore(reader.position())
    assert restored.poll() is END
    assert restored.skipped() == reader.skipped() != ()


def test_replace(files, damaged):
    lines = files.read(damaged, on_decode_error="replace", n_tasks=3)
    assert len(lines) == 201_003
    assert lines[200_001] == "bad \ufffd line"


def test_gzip_of_several_members(files, tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n"))
    assert files.read(tmp_path / "x.gz", n_tasks=3) == ["a", "bc", "d"]


@pytest.mark.parametrize("policy", ["error", "skip", "replace"])
def test_truncated_gzip_is_an_error_that_names_the_file(files, tmp_path, policy):
    packed = gzip.compress(b"".join(b"%d\n" % number for number in range(100_000)))
    (tmp_path / "x.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataFormatError, match=r"x\.gz: the gzip archive is cut off"):
        files.read(tmp_path / "x.gz", on_decode_error=policy)


def test_damaged_gzip(files, tmp_path):
    packed = bytearray(gzip.compress(bytes(range(256)) * 100))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "x.gz").write_bytes(packed)
    (tmp_path / "y.gz").write_text("not packed at all\n")
    for name in ("x.gz", "y.gz"):
        with pytest.raises(DataFormatError, match=name):
            files.read(tmp_path / name, on_decode_error="replace")


def test_position_of_other_splits_is_refused(files, tmp_path):
    (tmp_path / "x").write_text("a\n")
    (reader,) = files.readers(tmp_path / "x", n_tasks=1)
    with pytest.raises(ValueError, match="other splits"):
        reader.restore({"split": 7, "mark": None, "skipped": []})
