"""Logs that do not grow beyond their limit, and the bytes of output on its way."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from twister2.control.limitedlog import LimitedLog, parts
from twister2.control.text import output_bytes, output_decoder, readable


def note(size):
    return f"<{size}>\n".encode()


def kept(path):
    """What readers see: all parts, their notes only where what came before is gone."""
    data = b""
    for part in parts(path):
        text = part.path.read_bytes()
        if part.begins and part.skip_note:
            text = text.partition(b"\n")[2]
        data += text
    return data


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b".") + b"\n"), max_size=80),
    limit=st.integers(min_value=60, max_value=400),
    reopen=st.integers(min_value=0, max_value=80),
)
def test_the_latest_lines_are_kept_whole_and_in_order(tmp_path_factory, lines, limit, reopen):
    path = tmp_path_factory.mktemp("log") / "worker-0.log"
    log = LimitedLog(path, limit, note)
    for number, line in enumerate(lines):
        if number == reopen:
            log.close()
            log = LimitedLog(path, limit, note)
        log.write(line)
    log.close()
    everything = b"".join(lines)
    seen = kept(path)
    if parts(path)[0].begins:
        first, _, seen = seen.partition(b"\n")
        assert first == note(parts(path)[0].begins).strip()
    assert everything.endswith(seen)
    assert seen in (b"", everything) or everything[: -len(seen)].endswith(b"\n")
    assert len(seen) >= min(len(everything), limit // 2 - 60)
    assert sum(part.path.stat().st_size for part in parts(path)) <= limit + 120


def test_without_a_limit_there_is_one_part(tmp_path):
    log = LimitedLog(tmp_path / "a.log", 0, note)
    for _ in range(100):
        log.write(b"x" * 1000)
    log.close()
    assert [part.path.name for part in parts(tmp_path / "a.log")] == ["a.log"]


def test_pieces_of_a_line_stay_together(tmp_path):
    path = tmp_path / "worker-1.log"
    (tmp_path / "worker-10.log").write_bytes(b"not mine\n")
    log = LimitedLog(path, 40, note)
    log.write(b"0123456789" * 2)
    log.write(b"abc\ndef\n")
    log.close()
    assert [part.path.read_bytes() for part in parts(path)] == [b"0123456789" * 2 + b"abc\n", b"<24>\ndef\n"]


def test_a_line_without_an_end_does_not_grow_for_ever(tmp_path):
    path = tmp_path / "worker-1.log"
    log = LimitedLog(path, 100, note)
    for _ in range(200):
        log.write(b"0123456789")
    log.close()
    assert sum(part.path.stat().st_size for part in parts(path)) < 400


@given(st.lists(st.binary(max_size=20)))
def test_output_is_the_same_bytes_at_the_other_end(pieces):
    decoder = output_decoder()
    texts = [decoder.decode(piece) for piece in pieces] + [decoder.decode(b"", final=True)]
    carried = [json.loads(json.dumps(text)) for text in texts]
    assert b"".join(map(output_bytes, carried)) == b"".join(pieces)
    "".join(map(readable, carried)).encode()


def test_what_an_encoding_cannot_say_is_escaped():
    assert output_bytes("caf\udce9 \u96ea", "latin-1") == b"caf\xe9 \\u96ea"
    assert output_bytes("\ud800\udcff") == b"\\ud800\xff"
