"""The option ``key``: functions, names and lists of names, in all keyed calls and for all forms of batches."""

from __future__ import annotations

import datetime
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


def test_a_function_on_one_side_and_names_on_the_other():
    def main(env):
        left, right = FORMS["arrow"](env.worker_id), FORMS["arrow"](env.worker_id)
        found = net.join(env, left, right, left_key="n", right_key=lambda row: row["n"] + 1)
        return [(left["n"], right["n"]) for _, (left, right) in found]

    assert sorted(pair for part in run(main) for pair in part) == [(number, number - 1) for number in range(1, 120)]


@pytest.mark.parametrize("form", FORMS)
def test_both_sides_of_a_join_name_as_many_columns(form):
    def main(env):
        sides = [FORMS[form](env.worker_id) for _ in range(2)]
        net.join(env, *sides, left_key=["city", "size"], right_key="city")

    with pytest.raises(OperatorError, match="right_key") as caught:
        run(main)
    assert "2" in caught.value.why
    assert "as many columns" in caught.value.remedy


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


def test_fields_are_keys_as_python_has_them():
    """So that they meet those of lists and of columns, and go where partitions bring them."""
    days = [datetime.date(2024, 1, 1 + number) for number in range(20)]
    array = np.array([(day, number) for number, day in enumerate(days)], [("day", "M8[D]"), ("n", "i4")])

    def main(env):
        mine = array[env.worker_id :: 2].copy()
        rows = [{"day": day} for day in days[env.worker_id :: 2]]
        return (
            list(net.join(env, mine, rows, left_key="day", right_key="day")),
            list(net.keyed_gather(env, mine, key=["n", "day"])),
            {record["n"] for record in net.partition(env, mine, key="day")},
            {key for key, _ in net.co_group(env, mine, rows, key="day")},
        )

    for joined, gathered, numbers, grouped in run(main):
        assert {key for key, _ in joined} == grouped == {days[number] for number in numbers}
        assert all(left["n"] == days.index(right["day"]) for _, (left, right) in joined)
        assert {tuple(map(type, key)) for key, _ in gathered} == {(int, datetime.date)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["partition", "keyed_partition", "keyed_gather", "join", "co_group"])
def test_a_partitioner_gets_the_record(form, name):
    def main(env):
        mine = FORMS[form](env.worker_id)
        sides = [mine, FORMS[form](env.worker_id)] if name in ("join", "co_group") else [mine]
        keys = {"left_key": "n", "right_key": "n"} if name == "join" else {"key": "n"}
        if name == "partition":
            keys = {}  # it knows of no keys: the partitioner alone says where a record goes
        found = getattr(net, name)(env, *sides, partitioner=lambda row, n: int(row["n"]) % n, **keys)
        rows = rows_of(found) if name.endswith("partition") else found
        return {int(row["n"] if isinstance(row, dict) else row[0]) for row in rows}

    assert run(main) == [set(range(0, 120, 2)), set(range(1, 120, 2))]


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
    with pytest.raises(OperatorError, match="nix") as caught:
        run(lambda env: getattr(net, name)(env, FORMS[form](env.worker_id), key="nix"))
    assert name in caught.value.where


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["partition", "keyed_partition", "keyed_gather", "co_group"])
def test_a_function_that_raises_names_the_record(form, name):
    def key(row):
        return 1 // (int(row["n"]) - 7)

    with pytest.raises(UserCodeError) as caught:
        run(lambda env: getattr(net, name)(env, FORMS[form](env.worker_id), key=key))
    assert "7" in caught.value.details["record"]
