"""Text runs in small pieces through steps that handle records by themselves, where what comes out is combined."""

from __future__ import annotations

import operator
from collections import Counter

import pytest

from twister2.graph.fused_ends import PIECE, FusedSource
from twister2.spec.batch import text_block
from twister2.spec.errors import UserCodeError
from twister2_data_file.lines import TextLines
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

N = 20_000


@pytest.fixture
def lines(tmp_path):
    """A file with the numbers from 0, a line each: some pieces, and less than one batch."""
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{number} {number % 7}\n" for number in range(N)))
    assert 3 * PIECE < path.stat().st_size < 256 << 10
    return str(path)


@pytest.fixture
def runs(monkeypatch):
    """Sizes of the texts that ran through a chain of steps."""
    found = []

    def run(self, batch):
        text = text_block(batch)
        found.extend([] if text is None else [len(text)])
        return original(self, batch)

    original = FusedSource.run
    monkeypatch.setattr(FusedSource, "run", run)
    return found


EXPECTED = Counter(word for number in range(N) for word in (str(number), str(number % 7)))
CUT = {
    "count_by_value": lambda s: s.flat_map(str.split).count_by_value(),
    "words of lines": lambda s: s.flat_map(lambda line: line.split()).count_by_value(),
    "keyed_reduce": lambda s: s.flat_map(str.split).map_to_tuple(lambda w: (w, 1)).keyed_reduce(operator.add),
    "map_values": lambda s: s.flat_map(str.split).key_by(str).map_values(lambda w: 1).keyed_reduce("sum"),
}
WHOLE = {
    "not combined": lambda s: s.flat_map(str.split).map_to_tuple(lambda w: (w, 1)).keyed_gather().map_values(len),
    "of batches": lambda s: s.map_batches(lambda b: [w for line in b for w in line.split()]).count_by_value(),
}


@pytest.mark.parametrize("how", [*CUT, *WHOLE])
def test_what_is_combined_at_once_runs_in_pieces(lines, runs, how):
    steps = {**CUT, **WHOLE}[how]
    found = run_workers(1, lambda env: dict(steps(TSetContext(env).read_text(lines)).collect()))
    assert found == [EXPECTED]
    if how in CUT:
        assert len(runs) > 3
        assert max(runs) < PIECE + 20
    else:
        assert len(runs) == 1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_batch_that_cannot_be_cut_is_told_with_its_source(lines, executor, monkeypatch):
    def torn(self, size):
        yield self
        raise ValueError("torn")

    monkeypatch.setattr(TextLines, "pieces", torn)
    with pytest.raises(UserCodeError) as caught:
        run_workers(1, lambda env: CUT["keyed_reduce"](TSetContext(env).read_text(lines)).count(), executor=executor)
    assert caught.value.what.startswith("'read_text (test_in_pieces.py:"), caught.value.what
    assert "ValueError: torn" in caught.value.what


def test_an_error_counts_records_over_all_pieces(lines):
    def main(env):
        numbers = TSetContext(env).read_text(lines).map(lambda line: 1 // (int(line.split()[0]) - 15_000))
        return numbers.count_by_value().collect()

    with pytest.raises(UserCodeError) as caught:
        run_workers(1, main)
    assert "failed at record 15,001" in caught.value.what
    assert "'15000 6'" in caught.value.what
