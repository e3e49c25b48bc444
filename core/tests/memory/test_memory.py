from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import MemoryBudgetError
from twister2.worker.memory import Memory


def test_counts_and_peak():
    memory = Memory(1000, 200)
    a, b = memory.reserve("a", 300), memory.reserve("b")
    b.resize(100)
    a.resize(50)
    use = memory.use()
    assert (use.limit, use.baseline, use.budget, use.reserved, use.peak) == (1000, 200, 800, 150, 400)
    assert use.holders == (("b", 100), ("a", 50))
    a.release()
    a.release()
    a.resize(500)
    assert memory.use().reserved == 100, "a released reservation holds nothing"
    assert a.size == 0


def test_at_the_limit_the_holders_are_named_and_nothing_changes():
    memory = Memory(1000)
    memory.reserve("the big one", 700)
    small = memory.reserve("small", 100)
    with pytest.raises(MemoryBudgetError) as caught:
        small.resize(400)
    assert "the big one" in str(caught.value)
    assert caught.value.details["holders"][0] == ["the big one", 700]
    assert small.size == 100
    with pytest.raises(MemoryBudgetError):
        memory.reserve("new", 900)
    assert memory.use().reserved == 800
    assert [name for name, _ in memory.use().holders] == ["the big one", "small"]
    small.resize(300)


def test_the_largest_revocable_holder_shrinks_first_at_seventy_percent():
    memory = Memory(1000)
    asked = []
    holders = {}

    def revoke(name, keep):
        def shrink(wanted):
            asked.append((name, wanted))
            before = holders[name].size
            holders[name].resize(keep)
            return before - keep

        return shrink

    holders["medium"] = memory.reserve("medium", 200, revoke=revoke("medium", 50))
    holders["large"] = memory.reserve("large", 400, revoke=revoke("large", 350))
    fixed = memory.reserve("fixed", 100)
    assert asked == [], "700 is the mark itself"
    fixed.resize(200)
    assert asked == [("large", 100), ("medium", 50)]
    assert memory.use().reserved == 600


def test_a_holder_may_shrink_itself():
    memory = Memory(100)
    held = memory.reserve("table", 80, revoke=lambda wanted: held.resize(0) or 80)
    held.resize(95)
    assert held.size == 95
    assert memory.use().reserved == 95


def test_without_a_limit_everything_is_counted_and_nothing_refused():
    memory = Memory(0)
    memory.reserve("a", 1 << 50)
    assert memory.use().reserved == 1 << 50
    with pytest.raises(ValueError, match="-1"):
        memory.reserve("b", -1)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400)), max_size=60))
@settings(deadline=None, max_examples=80)
def test_the_sum_is_always_right_and_within_the_budget(actions):
    memory = Memory(1000)
    held = [memory.reserve(f"h{index}", revoke=None if index % 2 else lambda wanted: 0) for index in range(5)]
    for index, size in actions:
        try:
            held[index].resize(size)
        except MemoryBudgetError:
            assert sum(one.size for one in held) - held[index].size + size > 1000
        assert memory.use().reserved == sum(one.size for one in held) <= 1000
