"""Remembered targets of texts are those of the stable hash, whatever the tables have forgotten."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.hashing import task_of_key
from twister2_net.selectors import text_targets
from twister2_net.selectors.hashing import Hash
from twister2_net.selectors.text_targets import TextTargets, is_usable

pytestmark = pytest.mark.skipif(not is_usable(), reason="the built-in hash of text is not keyed here")


def wanted(texts, n):
    return [task_of_key(text, n) for text in texts]


@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_many_texts(n):
    targets = TextTargets(n)
    texts = ["", *(f"key {number}" for number in range(20_000)), "", "ä", "\ud800", "x" * 1000]
    for _ in range(2):
        assert targets.of(texts).tolist() == wanted(texts, n)
        random.Random(1).shuffle(texts)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(st.text(max_size=2), max_size=40), max_size=12))
def test_tables_that_are_far_too_small(batches):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_targets, "_SLOTS", 4)
        targets = TextTargets(5)
        for texts in batches:
            assert targets.of(texts).tolist() == wanted(texts, 5)


def test_only_plain_text_is_looked_up_by_its_hash():
    class Word(str):
        __slots__ = ()

        def __hash__(self):
            return 1

    texts = [f"key {number}" for number in range(100)]
    for keys in (texts, [Word(text) for text in texts], [text.encode() for text in texts], [*texts, 1]):
        assert list(Hash(3, "x", 0, None).assign(keys)) == wanted(keys, 3)
