"""allreduce in batch mode: large arrays go round a ring, small values as ever, and any mixture is combined."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import UserCodeError
from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_drive import Exchange, Mark, batches, check_ends, context_of, drive, run_exchange

SMALL, LARGE = 4, 16
"""Elements of 8 bytes; the limit is between them."""

few = settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def operators(**limits):
    return NetPlugin().ops_create(config=NetConfig(ring_bytes=8 * LARGE, **limits))


def sent(workers, length, **options):
    """Bytes and messages that one of so many workers sent, each of which gave an array of this length."""
    exchange = Exchange(
        name="allreduce",
        sources=tuple(range(workers)),
        targets=tuple(range(workers)),
        feeds=[[[np.full(length, float(2**worker))]] for worker in range(workers)],
        options={"reducer": "sum"} | options,
    )

    def main(env):
        with env.network.step("exchange", "allreduce") as step:
            operator = operators().create(context_of(exchange, env, step))
            ((batch,),) = [batches(items) for items in drive(operator, env, exchange).values()]
            operator.close()
        assert batch[0].tolist() == [2.0**workers - 1] * length
        return operator.counters.bytes_sent, operator.counters.messages_sent

    return LocalCluster(workers, "loopback").run(main)


def test_large_arrays_are_sent_in_pieces_and_small_ones_at_once():
    length = 4 * 32 * 1024  # so large that notices count for nothing
    for nbytes, _ in sent(4, length):
        assert nbytes == pytest.approx(1.5 * 8 * length, rel=0.01)  # each piece to the next, twice but for one
    for nbytes, _ in sent(4, length, algorithm="direct"):
        assert nbytes == pytest.approx(3 * 8 * length, rel=0.01)
    for _, messages in sent(4, SMALL):
        assert messages == 3


@pytest.mark.parametrize("options", [{"algorithm": "tree"}, {"reducer": lambda left, right: left + right}])
def test_an_option_or_a_function_keeps_arrays_whole(options):
    length = 4 * 32 * 1024
    for nbytes, _ in sent(4, length, **options):
        arrays = nbytes / (8 * length)
        assert arrays == pytest.approx(round(arrays), abs=0.01)


@pytest.mark.parametrize("dtype", ["U4", object])
def test_what_is_not_the_same_in_any_order_is_combined_in_that_of_the_sources(dtype):
    workers = 4
    exchange = Exchange(
        name="allreduce",
        sources=tuple(range(workers)),
        targets=tuple(range(workers)),
        feeds=[[[np.full(8 * LARGE, "abcd"[worker], dtype)]] for worker in range(workers)],
        options={"reducer": "sum"},
    )

    def main(env):
        with env.network.step("exchange", "allreduce") as step:
            operator = operators().create(context_of(exchange, env, step))
            ((batch,),) = [batches(items) for items in drive(operator, env, exchange).values()]
            operator.close()
        return set(batch[0].tolist())

    assert LocalCluster(workers, "loopback").run(main) == [{"abcd"}] * workers


@few
@given(
    st.integers(3, 7),
    st.lists(st.sampled_from(["none", "number", "small", "large", "wide"]), min_size=1, max_size=9),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.randoms(),
)
def test_any_mixture_is_combined(workers, kinds, tree, initial, marks, chance):
    made = {
        "none": lambda: [],
        "number": lambda: [chance.randint(-9, 9)],
        "small": lambda: [np.array([chance.randint(-9, 9)])],  # of one element: fits all others
        "large": lambda: [np.array([chance.randint(-9, 9) for _ in range(LARGE)])],
        "wide": lambda: [np.array([[chance.randint(-9, 9)] * LARGE] * 2)],
    }
    tasks = [*range(workers), *(chance.randrange(workers) for _ in range(2))]
    chance.shuffle(tasks)
    given_ones = [made[kinds[source % len(kinds)]]() for source in range(len(tasks))]
    feeds = [[batch] if batch else [] for batch in given_ones]
    expected = [[record for batch in given_ones for record in batch]]
    if marks:
        more = [np.full(LARGE, worker) for worker in range(len(tasks))]
        feeds = [[*feed, Mark(HeaderKind.FLUSH, 1), [one]] for feed, one in zip(feeds, more, strict=True)]
        expected.append(more)
    exchange = Exchange(
        name="allreduce",
        sources=tuple(tasks),
        targets=tuple(reversed(tasks)),
        feeds=feeds,
        options={"reducer": "sum", **({"initial": 100} if initial else {})},
        runs=2,
    )
    for received in run_exchange(lambda: operators(tree_above=1 if tree else 9), exchange):
        check_ends(received)
        for items in received.values():
            found = [batch[0] for batch in batches(items)]
            sums = [[*records, 100] if initial else records for records in expected]
            sums = [functools.reduce(lambda left, right: left + right, records) for records in sums if records]
            assert len(found) == len(sums)
            assert all(np.array_equal(got, total) for got, total in zip(found, sums, strict=True))


def test_rows_of_arrays_and_one_source_alone():
    rows = np.arange(3.0 * LARGE).reshape(3, LARGE)
    exchange = Exchange(
        name="allreduce",
        sources=(0, 1, 2, 3),
        targets=(0, 1, 2, 3),
        feeds=[[], [rows], [], []],
        options={"reducer": np.maximum},
    )
    (received,) = run_exchange(operators, exchange)
    for items in received.values():
        (batch,) = batches(items)
        assert np.array_equal(batch, rows[-1:])


def test_masks_stay():
    masked = np.ma.masked_less(np.arange(2.0 * LARGE), LARGE)
    exchange = Exchange(
        name="allreduce",
        sources=(0, 1, 2),
        targets=(0, 1, 2),
        feeds=[[[masked]]] * 3,
        options={"reducer": "sum"},
    )
    (received,) = run_exchange(operators, exchange)
    for items in received.values():
        ((total,),) = batches(items)
        assert total.count() == LARGE
        assert total.sum() == 3 * masked.sum()


def test_arrays_that_do_not_fit_are_an_error():
    exchange = Exchange(
        name="allreduce",
        sources=(0, 1, 2),
        targets=(0, 1, 2),
        feeds=[[[np.ones(LARGE + worker)]] for worker in range(3)],
        options={"reducer": "sum"},
    )
    with pytest.raises(UserCodeError, match="reducer"):
        run_exchange(operators, exchange)
