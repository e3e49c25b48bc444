"""The lazy batch of lines behaves as the list of its lines."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.batch import n_bytes, n_records, records, text_block
from twister2_data_file.lines import TextLines

texts = st.text(st.sampled_from("ab \n\r\té\u2028"), max_size=40)


@given(texts)
def test_equals_the_list_of_lines(text):
    lines = TextLines(text, len(text.encode()))
    expected = text.split("\n")
    assert lines == expected
    assert lines == TextLines(text, 0)
    assert list(lines) == expected
    assert list(reversed(lines)) == expected[::-1]
    assert len(TextLines(text, 0)) == len(expected) == n_records(lines)
    assert lines[-1] == expected[-1]
    assert lines[1:] == expected[1:]
    assert expected[0] in lines
    assert list(records(lines)) == expected
    assert n_bytes(lines) == len(text.encode())
    assert pickle.loads(pickle.dumps(lines)) == expected


@given(texts)
def test_words_of_the_block_are_the_words_of_the_lines(text):
    lines = TextLines(text, 0)
    assert text_block(lines).split() == [word for line in lines for word in line.split()]


@given(texts, st.integers(0, 9))
def test_pieces_have_the_same_lines(text, size):
    pieces = list(TextLines(text, 0).pieces(size))
    assert [line for piece in pieces for line in piece] == text.split("\n")
    assert all(len(piece.text_block) >= size for piece in pieces[:-1])
    assert [n_bytes(piece) for piece in pieces] == [len("\n".join(piece).encode()) for piece in pieces]
    assert all(piece.text_block.find("\n", size) < 0 for piece in pieces), "a line too much"


def test_only_lazy_lines_have_a_block():
    class Other(str):
        text_block = "x"

    assert text_block(["a"]) is None
    assert text_block(Other("a")) is None


def test_is_not_hashable_like_a_list():
    with pytest.raises(TypeError):
        hash(TextLines("a", 1))
