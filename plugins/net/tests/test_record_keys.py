"""The option ``key``: functions, names and lists of names, in all keyed calls and for all forms of batches."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest

import twister2_net as net
from twister2.spec.errors import OperatorError, UserCodeError
from twister2_testkit.fakes import LocalCluster

ROWS = [{"n": number, "city": "abc"[number % 3], "size": number % 4} for number in range(120)]
ARRAY = np.array([tuple(row.values()) for row in ROWS], [("n", "i8"), ("city", "U1"), ("size", "i8")])
FORMS = {
    "dicts": lambda rank: ROWS[rank::2],
    "array": lambda rank: ARRAY[rank::2].copy(),
    "arrow": lambda rank: pa.RecordBatch.from_pylist(ROWS[rank::2]),
}
KEYS = {
    "function": (lambda row: row["city"] + "!", lambda row: row["city"] + "!"),
    "name": ("city", lambda row: row["city"]),
    "list of one": (["city"], lambda row: row["city"]),
    "names": (["city", "size"], lambda row: (row["city"], row["size"])),
}


def run(main):
    return LocalCluster(2, "loopback", deadline_s=60).run(main)


def rows_of(batch):
    if isinstance(batch, pa.RecordBatch):
        return batch.to_pylist()
    return [dict(zip(ARRAY.dtype.names, row.tolist(), strict=True)) if hasattr(row, "dtype") else row for row in batch]


def plain(key):
    return tuple(map(plain, key)) if isinstance(key, tuple) else key.item() if hasattr(key, "item") else key


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("partitioner", ["hash", "range", "skew"])
def test_partitions(form, key, partitioner):
    given, expected = KEYS[key]
    call = net.partition if partitioner == "skew" else net.keyed_partition

    found = run(lambda env: rows_of(call(env, FORMS[form](env.worker_id), partitioner, key=given)))
    assert sorted(row["n"] for part in found for row in part) == list(range(120))
    at = [{expected(row) for row in part} for part in found]
    if partitioner != "skew":
        assert not at[0] & at[1], "equal keys are on one worker"
    if partitioner == "range":
        assert max(at[0]) < min(at[1])


def test_the_hash_of_a_name_is_that_of_the_value():
    def main(env):
        return [net.partition(env, FORMS[form](env.worker_id), key="city") for form in FORMS] + [
            net.partition(env, FORMS[form](env.worker_id), key=lambda row: row["city"]) for form in FORMS
        ]

    for found in run(main):
        assert len({frozenset(row["n"] for row in rows_of(part)) for part in found}) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("partitioner", ["hash", "range"])
def test_gathers(form, key, partitioner):
    given, expected = KEYS[key]
    columns = form == "arrow" and key != "function"

    def main(env):
        mine = FORMS[form](env.worker_id)
        return list(net.keyed_gather(env, mine, key=given, partitioner=partitioner, ordered=True))

    found = [one for part in run(main) for one in part]
    groups = defaultdict(set)
    for row in ROWS:
        groups[expected(row)].add(row["n"])
    if columns:
        assert {expected(row): set(row["n"]) for row in found} == groups
    else:
        assert {plain(key): {row["n"] for row in rows_of(some)} for key, some in found} == groups


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("how", ["inner", "full"])
def test_joins(form, key, how):
    given, expected = KEYS[key]
    columns = form == "arrow" and key != "function"
    others = ROWS[:5]

    def main(env):
        rank = env.worker_id
        right = pa.RecordBatch.from_pylist(others[rank::2]) if columns else others[rank::2]
        left = FORMS[form](rank)
        if form == "array":
            right = ARRAY[:5][rank::2].copy()
        return list(net.join(env, left, right, how, left_key=given, right_key=given))

    found = [one for part in run(main) for one in part]
    wanted = Counter((row["n"], other["n"]) for row in ROWS for other in others if expected(row) == expected(other))
    if how == "full":
        matched = {row for row, _ in wanted}
        wanted += Counter((row["n"], None) for row in ROWS if row["n"] not in matched)
    if columns:
        assert Counter((row["n"], row["n_right"]) for row in found) == wanted
    else:
        number = lambda row: None if row is None else int(row["n"])  # noqa: E731
        assert Counter((number(left), number(right)) for _, (left, right) in found) == wanted
        assert {plain(key) for key, _ in found} == {expected(row) for row in (ROWS if how == "full" else others)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
def test_co_groups(form, key):
    given, expected = KEYS[key]

    def main(env):
        mine, city = FORMS[form](env.worker_id), ["a", "b"][env.worker_id :: 2]
        one = list(net.co_group(env, mine, FORMS[form](env.worker_id), key=given))
        return one, list(net.co_group(env, mine, city, keys=["city", lambda text: text]))

    found = run(main)
    sizes = Counter(map(expected, ROWS))
    assert {plain(key): len(left) for one, _ in found for key, (left, right) in one if len(left) == len(right)} == sizes
    two = {plain(key): (len(left), right) for _, two in found for key, (left, right) in two}
    assert two == {"a": (40, ["a"]), "b": (40, ["b"]), "c": (40, [])}


def test_the_first_column_of_arrow_is_the_key_when_none_is_given():
    def main(env):
        batch = FORMS["arrow"](env.worker_id).select(["size", "n"])
        return [call(env, batch, "range")["size"].to_pylist() for call in (net.partition, net.keyed_partition)]

    low, high = run(main)
    for lefts, rights in zip(low, high, strict=True):
        assert max(lefts) < min(rights)
        assert len(lefts) + len(rights) == 120


@pytest.mark.parametrize("wrong", [3, [], [3], ["city", len], b"city"])
@pytest.mark.parametrize("name", ["partition", "keyed_partition", "keyed_gather", "join", "co_group"])
def test_what_is_no_key_is_refused(name, wrong):
    def main(env):
        sides = [ROWS, ROWS] if name in ("join", "co_group") else [ROWS]
        getattr(net, name)(env, *sides, **{"left_key" if name == "join" else "key": wrong})

    with pytest.raises(OperatorError, match="is no key") as caught:
        run(main)
    assert "name of a column" in caught.value.remedy


def test_keys_of_co_groups_are_one_for_each_input():
    for keys in (["city"], "city", ["city"] * 3):
        with pytest.raises(OperatorError, match="one key for each of 2 inputs"):
            run(lambda env, keys=keys: net.co_group(env, ROWS, ROWS, keys=keys))
    with pytest.raises(OperatorError, match="a key for all inputs"):
        run(lambda env: net.co_group(env, ROWS, ROWS, key="city", keys=["city", "city"]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["partition", "keyed_partition", "keyed_gather"])
def test_a_name_that_records_have_not(form, name):
    with pytest.raises(OperatorError, match="nix"):
        run(lambda env: getattr(net, name)(env, FORMS[form](env.worker_id), key="nix"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["partition", "keyed_partition", "keyed_gather", "co_group"])
def test_a_function_that_raises_names_the_record(form, name):
    def key(row):
        return 1 // (int(row["n"]) - 7)

    with pytest.raises(UserCodeError) as caught:
        run(lambda env: getattr(net, name)(env, FORMS[form](env.worker_id), key=key))
    assert "7" in caught.value.details["record"]
