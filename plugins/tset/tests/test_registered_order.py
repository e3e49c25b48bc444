"""Records of a type of the user's, with an order that was registered for it."""

from __future__ import annotations

import functools

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import twister2

pytestmark = pytest.mark.timeout(120)


@attrs.frozen
class Card:
    rank: str
    suit: str


def by_worth(a, b):
    order = "23456789TJQKA"
    return (order.index(a.rank), a.suit) > (order.index(b.rank), b.suit) or -(a != b)


CARDS = st.lists(st.builds(Card, st.sampled_from("23TJQKA"), st.sampled_from("SH")), max_size=30)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cards=CARDS, workers=st.integers(1, 3))
def test_sorting_extremes_and_keys_in_order(everywhere, cards, workers):
    twister2.register_comparator(Card, by_worth)
    twister2.register_key(Card, lambda card: (card.rank, card.suit))
    in_order = sorted(cards, key=functools.cmp_to_key(by_worth))

    def program(context):
        records = context.parallelize(cards, 3)
        numbered = records.map_to_tuple(lambda card: (card, 1))
        return (
            records.sort().collect(),
            records.sort(descending=True).collect(),
            records.sort(lambda card: card.suit, lambda card: card).collect(),
            records.top(3),
            records.min() if cards else None,
            [key for key, _ in numbered.keyed_gather(order=True, partitions=1).collect()],
            sorted(numbered.join(numbered, algorithm="sort").keys().distinct().collect()),
        )

    ascending, descending, by_suit, top, least, keys, joined = everywhere(workers, program)
    assert ascending == in_order
    assert descending == in_order[::-1]
    assert by_suit == sorted(in_order, key=lambda card: card.suit)
    assert top == in_order[::-1][:3]
    assert least == (in_order[0] if cards else None)
    assert keys == joined == sorted(set(cards))
