"""Sets against plain Python, for random data, numbers of partitions and workers, on both executors."""

from __future__ import annotations

import functools
import operator
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2_tset import TSetContext

LOOSE = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
numbers = st.lists(st.integers(-50, 50), max_size=60)
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=20)
workers = st.integers(1, 3)
partitions = st.integers(1, 7)


@LOOSE
@given(numbers, workers, partitions)
def test_narrow_steps_keep_order(everywhere, data, n, parts):
    def job(context):
        numbers = context.parallelize(data, parts)
        changed = numbers.map(lambda x: x * 3).filter(lambda x: x % 2).flat_map(lambda x: [x] * (x % 3))
        return numbers.collect(), changed.collect()

    expected = [y for x in data if (x * 3) % 2 for y in [x * 3] * (x * 3 % 3)]
    assert everywhere(n, job) == (data, expected)


@LOOSE
@given(numbers, workers, partitions)
def test_values_of_whole_sets(everywhere, data, n, parts):
    def job(context):
        numbers = context.parallelize(data, parts)
        return (
            numbers.count(),
            numbers.reduce(operator.add, initial=7),
            numbers.map(lambda x: (x, -x)).reduce(max, initial=(-99, 0)),
            [x for part in numbers.gather() for x in part],
        )

    largest = max([(-99, 0), *((x, -x) for x in data)])
    assert everywhere(n, job) == (len(data), sum(data) + 7, largest, data)


@LOOSE
@given(texts, workers, partitions, st.none() | partitions)
def test_words_are_counted(everywhere, lines, n, parts, after):
    def job(context):
        words = context.parallelize(lines, parts).flat_map(str.split)
        by_value = words.count_by_value(partitions=after).collect()
        by_key = words.map_to_tuple(lambda word: (word, 1)).keyed_reduce(operator.add, partitions=after).collect()
        return sorted(by_value), sorted(by_key)

    expected = sorted(Counter(word for line in lines for word in line.split()).items())
    assert everywhere(n, job) == (expected, expected)


@LOOSE
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), max_size=60), workers, partitions)
def test_keyed_reduce_with_functions_and_names(everywhere, pairs, n, parts):
    def job(context):
        keyed = context.parallelize(pairs, parts)
        return [sorted(keyed.keyed_reduce(reducer).collect()) for reducer in ("sum", "max", min, lambda a, b: a * b)]

    def by_hand(reducer):
        groups = {}
        for key, value in pairs:
            groups.setdefault(key, []).append(value)
        return sorted((key, functools.reduce(reducer, values)) for key, values in groups.items())

    expected = [by_hand(reducer) for reducer in (operator.add, max, min, operator.mul)]
    assert everywhere(n, job) == expected


@LOOSE
@given(numbers, workers, partitions, st.none() | partitions, st.booleans())
def test_sort(everywhere, data, n, parts, after, descending):
    def job(context):
        numbers = context.parallelize(data, parts)
        plain = numbers.sort(descending=descending, partitions=after)
        return plain.collect(), numbers.sort(key=lambda x: (abs(x), x), partitions=after).collect()

    assert everywhere(n, job) == (sorted(data, reverse=descending), sorted(data, key=lambda x: (abs(x), x)))


@LOOSE
@given(numbers, workers, partitions, st.integers(0, 70))
def test_top(everywhere, data, n, parts, k):
    def job(context):
        numbers = context.parallelize(data, parts)
        return numbers.top(k), numbers.top(k, key=abs), numbers.top(k, key=abs, largest=False)

    expected = sorted(data, reverse=True)[:k], sorted(data, key=abs, reverse=True)[:k], sorted(data, key=abs)[:k]
    assert everywhere(n, job) == expected


@LOOSE
@given(numbers, workers, partitions)
def test_cached_sets_give_the_same_again(everywhere, data, n, parts):
    def job(context):
        calls = []
        cached = context.parallelize(data, parts).map(lambda x: calls.append(x) or x + 1).cache()
        before = len(calls)
        first, second = cached.collect(), cached.map(lambda x: -x).collect()
        assert len(calls) == before
        return first, second, cached.cache().count()

    expected = [x + 1 for x in data], [-x - 1 for x in data], len(data)
    assert everywhere(n, job) == expected


@LOOSE
@given(numbers, workers, partitions)
def test_without_fusing_answers_stay_the_same(run_workers, data, n, parts):
    def job(env, rules):
        numbers = TSetContext(env, without_rules=rules).parallelize(data, parts)
        changed = numbers.map(lambda x: x + 1).filter(lambda x: x > 0).map(str)
        return changed.collect(), "fuse:" in changed.explain()

    fused = run_workers(n, lambda env: job(env, ()))
    plain = run_workers(n, lambda env: job(env, ("fuse",)))
    expected = [str(x + 1) for x in data if x + 1 > 0]
    assert {tuple(answer) for answer, _ in fused + plain} == {tuple(expected)}
    assert all(rule for _, rule in fused)
    assert not any(rule for _, rule in plain)


@LOOSE
@given(st.lists(st.integers(0, 4), max_size=300), workers, partitions, st.none() | partitions, st.booleans())
def test_sort_is_stable(everywhere, keys, n, parts, after, descending):
    data = list(enumerate(keys))
    expected = sorted(data, key=operator.itemgetter(1), reverse=descending)

    def job(context):
        pairs = context.parallelize(data, parts)
        return pairs.sort(key=operator.itemgetter(1), descending=descending, partitions=after).collect()

    assert everywhere(n, job) == expected


@pytest.mark.parametrize("descending", [False, True])
def test_equal_keys_of_many_batches_keep_their_order(everywhere, descending):
    data = list(range(30_000))

    def job(context):
        return context.parallelize(data, 5).sort(key=lambda _: 0, descending=descending).collect()

    assert everywhere(3, job) == data


def test_a_key_places_nan_last(everywhere):
    data = [3.0, float("nan"), 1.0, -2.0, float("nan"), 7.5] * 20

    def job(context):
        return [str(x) for x in context.parallelize(data, 4).sort(key=lambda x: (x != x, x)).collect()]

    assert everywhere(3, job) == [str(x) for x in [-2.0] * 20 + [1.0] * 20 + [3.0] * 20 + [7.5] * 20] + ["nan"] * 40
