"""Tables and the words in them."""

from __future__ import annotations

import sys

import pytest

from twister2.cli.output import cut, one_line, print_table

WORDS = "worker 0 ended by itself"


@pytest.mark.parametrize(("text", "line"), [("a\nb", "a b"), ("a\r\n\n  b \n", "a\\x0d b"), ("  a\n", "  a"), ("", "")])
def test_any_text_is_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_cell_of_several_lines_does_not_break_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("one\ntwo", 1), ("three", 2)])
    assert capsys.readouterr().out == "A        B\none two  1\nthree    2\n"


def test_a_line_is_cut_between_words_and_only_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cut(WORDS, 18) == WORDS
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cut(WORDS, 18) == "worker 0 ended..."
    assert cut(WORDS, len(WORDS)) == WORDS
    assert cut("x" * 30, 10) == "xxxxxxx..."
