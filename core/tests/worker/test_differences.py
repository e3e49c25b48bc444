"""What is said to be done about members that are in different calls."""

from __future__ import annotations

import re

import pytest

from twister2.spec import collectives
from twister2.spec.network import Fingerprint
from twister2.worker.board import Entry, StepBoard
from twister2.worker.differences import REMEDIES, remedy, words

SUM = "reducer=sum dtype=float64 shape=4"


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (("allreduce", SUM), ("barrier", "arrays"), "call"),
        (("barrier", ""), ("barrier", "arrays"), "call"),
        (("barrier", "left"), ("barrier", "right"), "name"),
        (("exchange", "a"), ("exchange", "b"), "name"),
        (("run", "words 1234"), ("run", "words 4321"), "graph"),
        (("allreduce", SUM), ("allreduce", "objects reducer=sum dtype=none"), "spelling"),
        (("allreduce", SUM), ("allreduce", "reducer=max dtype=float32 shape=5"), "reducer"),
        (("allreduce", SUM), ("allreduce", "reducer=sum dtype=float32 shape=5"), "dtype"),
        (("allreduce", SUM), ("allreduce", "reducer=sum dtype=float64 shape=2x2"), "shape"),
        (("allreduce", SUM), ("allreduce", f"{SUM} algorithm=ring"), "algorithm"),
        (("allreduce", SUM), ("allreduce", f"{SUM} (first use)"), "options"),
        (("broadcast", "root=0 dtype=int64 n=3"), ("broadcast", "root=1 dtype=int64 n=3"), "root"),
        (("broadcast", "root=0 dtype=int64 n=3"), ("broadcast", "root=0 dtype=int64 n=4"), "n"),
        (("gather", "root=0 dtype=int64 n=3"), ("gather", "root=0 dtype=int64 counts=own"), "counts"),
        (("harp.rotate", "order=1"), ("harp.rotate", "order=2"), "order"),
        (("net.partition", "#12ab partitioner=hash"), ("net.partition", "#34cd partitioner=range"), "options"),
    ],
)
def test_the_remedy_is_that_of_the_difference(one, other, found):
    assert remedy((*one, "p.py:3"), (*other, "p.py:3")) == REMEDIES[found]
    assert remedy((*other, "p.py:3"), (*one, "p.py:3")) == REMEDIES[found]
    assert remedy((*one, "p.py:3"), (*other, "p.py:4")).startswith(REMEDIES[found])


def test_what_a_board_has_no_room_for_is_no_difference_of_its_own():
    board = StepBoard(StepBoard.create())
    shapes = [words(reducer="name_" * 12, root=root, dtype="f8", shape="x".join("12345" * 8)) for root in (0, 1)]
    try:
        for step, shape in enumerate(shapes, 1):
            board.enter(0, step, Fingerprint("reduce", shape, "p.py:1"))
        entries: list[Entry] = sorted(board.entries(), key=lambda entry: entry.last)
    finally:
        board.close()
    one, other = ((entry.kind, entry.shape, entry.line) for entry in entries)
    assert "~" in one[1]
    assert remedy(one, other) == REMEDIES["root"]


def test_the_table_for_people_has_the_same_rows():
    table = (collectives.__doc__ or "").partition("what differs")[2].partition("``IN_PLACE``")[0]
    rows = set(re.findall(r"^(\w+)  ", table, re.MULTILINE))
    assert rows == set(REMEDIES) - {"graph", "name", "options"}
