"""Sorted runs are written block by block: the same records as sorted at once, and no second copy of all of them."""

from __future__ import annotations

import numpy
import pyarrow as pa
import pytest

from twister2.spec.batch import n_bytes
from twister2_net.spilling.record_order import RecordOrder
from twister2_net.spilling.row_columns import RowColumns
from twister2_net.spilling.sorted_columns import ArrayForm, ArrowForm
from twister2_net.spilling.sorted_rows import RowForm, Tagged

BLOCK = 1 << 14


def rows(seed, n=3000):
    chance = numpy.random.default_rng(seed)
    made = numpy.zeros(n, dtype=[("k", "i4"), ("v", "i8")])
    made["k"], made["v"] = chance.integers(0, 50, n), numpy.arange(n) + seed * n
    return made


def table(seed):
    made = rows(seed)
    return pa.table({name: made[name] for name in made.dtype.names})


def tagged(make):
    return lambda seed: Tagged(make(seed), seed)


ORDER = RecordOrder("k", False, None, "sort")
FORMS = {
    "arrays": (ArrayForm("sort"), rows),
    "tables": (ArrowForm(["k"], "join"), table),
    "records": (RowForm(ORDER, RowColumns(ORDER)), tagged(rows)),
    "records of tables": (RowForm(ORDER, RowColumns(ORDER)), tagged(table)),
    "records of lists": (
        RowForm(RecordOrder(lambda pair: pair[0], False, None, "sort"), None),
        tagged(lambda seed: rows(seed).tolist()),
    ),
}


def plain(block):
    if isinstance(block, Tagged):
        return list(zip(plain(block.rows), block.sources.tolist(), strict=True))
    if isinstance(block, pa.Table):
        return block.to_pylist()
    return block if isinstance(block, list) else block.tolist()


@pytest.mark.parametrize("name", FORMS)
def test_blocks_are_what_is_sorted_at_once(name):
    form, make = FORMS[name]
    expected = plain(form.sorted([make(seed) for seed in range(4)]))
    parts = [make(seed) for seed in range(4)]
    blocks = list(form.blocks(parts, BLOCK))
    assert len(blocks) > 4
    assert [record for block in blocks for record in plain(block)] == expected


@pytest.mark.parametrize("name", ["tables", "records", "records of tables"])
def test_no_block_holds_more_than_its_own_records(name):
    form, make = FORMS[name]
    parts = [make(seed) for seed in range(4)]
    for block in form.blocks(parts, BLOCK):
        assert not parts
        assert n_bytes(block) <= 2 * BLOCK
        held = block.rows if isinstance(block, Tagged) else block
        if isinstance(held, pa.Table):
            assert held.get_total_buffer_size() <= 2 * BLOCK
        else:
            assert held.base is None or held.base.nbytes <= 2 * BLOCK


@pytest.mark.parametrize("name", ["tables", "records of tables"])
def test_columns_in_many_pieces_are_not_copied_for_each_block(name):
    form, _ = FORMS[name]
    tables = [pa.table({"k": rows(seed)["k"], "v": [f"{number:>60}" for number in range(3000)]}) for seed in range(8)]
    size = sum(part.nbytes for part in tables)
    parts = [Tagged(part, seed) for seed, part in enumerate(tables)] if name != "tables" else list(tables)
    pool = pa.default_memory_pool()
    before = pool.total_bytes_allocated()
    assert sum(1 for _ in form.blocks(parts, BLOCK)) > 50
    assert pool.total_bytes_allocated() - before < 8 * size
