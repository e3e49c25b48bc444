"""The same steps and actions on a plain Python list: what sets are compared with."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import os
import statistics

EXAMPLES = int(os.environ.get("TWISTER2_EXAMPLES", "4"))
"""Of each operation: few, as there are many, each on several workers; more where there is time."""
REDUCERS = {"sum": operator.add, "prod": operator.mul, "min": min, "max": max}
NOTHING = object()


def column(key):
    return (lambda row: row[key]) if isinstance(key, str) else key


class PlainSet:
    """A list with the methods of a set. Steps give another one, actions give values."""

    def __init__(self, records):
        self.records = list(records)

    # steps within partitions

    def map(self, function):
        return PlainSet(function(x) for x in self.records)

    def flat_map(self, function):
        return PlainSet(y for x in self.records for y in function(x))

    def filter(self, predicate):
        return PlainSet(x for x in self.records if predicate(x))

    def map_values(self, function):
        return PlainSet((k, function(v)) for k, v in self.records)

    def flat_map_values(self, function):
        return PlainSet((k, w) for k, v in self.records for w in function(v))

    def key_by(self, key):
        return PlainSet((column(key)(x), x) for x in self.records)

    map_to_tuple = map

    def keys(self):
        return PlainSet(k for k, _ in self.records)

    def values(self):
        return PlainSet(v for _, v in self.records)

    def same(self, *_, **__):
        return self

    direct = pipe = keyed_direct = keyed_pipe = named = cache = lazy_cache = persist = lazy_persist = same
    partition = keyed_partition = same

    def map_partitions(self, function):
        return PlainSet(function(iter(self.records)))

    def select(self, *names):
        return PlainSet({name: x[name] for name in names} for x in self.records)

    def where(self, name, relation, value=None):
        if relation.endswith("null"):
            return PlainSet(x for x in self.records if (x[name] is None) == (relation == "is null"))
        tests = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
        tests |= {">=": operator.ge, "in": lambda a, b: a in b, "not in": lambda a, b: a not in b}
        return PlainSet(x for x in self.records if x[name] is not None and tests[relation](x[name], value))

    def sample(self, fraction, seed=0):
        assert fraction in (0, 1)
        return PlainSet(self.records * fraction)

    def limit(self, n):
        return PlainSet(self.records[:n])

    # steps between partitions

    def groups(self):
        found = {}
        for k, v in self.records:
            found.setdefault(k, []).append(v)
        return found

    def keyed_reduce(self, reducer, **_):
        function = REDUCERS.get(reducer, reducer)
        return PlainSet((k, functools.reduce(function, vs)) for k, vs in self.groups().items())

    def keyed_aggregate(self, zero, add, merge, **_):
        begin = zero if callable(zero) else lambda: type(zero)(zero)
        return PlainSet((k, functools.reduce(add, vs, begin())) for k, vs in self.groups().items())

    def keyed_gather(self, grouped=True, **_):
        if grouped:
            return PlainSet((k, vs) for k, vs in self.groups().items())
        return PlainSet((k, v) for k, vs in self.groups().items() for v in vs)

    def group_by_key(self, **_):
        return PlainGroups(self.groups())

    def group_by(self, *keys, **_):
        functions = [column(key) for key in keys]
        one = functions[0] if len(functions) == 1 else lambda x: tuple(f(x) for f in functions)
        return PlainGroups(self.key_by(one).groups())

    def count_by_value(self, **_):
        return self.map(lambda x: (x, 1)).keyed_reduce("sum")

    def distinct(self, *keys, **_):
        found = {}
        functions = [column(one) for key in keys for one in (key if isinstance(key, list) else [key])]
        for x in self.records:
            whole = tuple(sorted(x.items())) if isinstance(x, dict) else x
            found.setdefault(tuple(function(x) for function in functions) or whole, x)
        return PlainSet(found.values())

    def sort(self, *keys, descending=False, comparator=None, **_):
        downs = [descending] * max(1, len(keys)) if isinstance(descending, bool) else descending
        records = self.records
        if comparator is not None:
            one = column(keys[0]) if keys else lambda x: x
            return PlainSet(sorted(records, key=lambda x: functools.cmp_to_key(comparator)(one(x)), reverse=downs[0]))
        for key, down in reversed(list(zip(keys or [lambda x: x], downs, strict=True))):
            records = sorted(records, key=column(key), reverse=down)
        return PlainSet(records)

    def join(self, other, how="inner", **_):
        left, right = self.groups(), other.groups()
        if how in ("semi", "anti"):
            return PlainSet((k, v) for k in left if (k in right) == (how == "semi") for v in left[k])
        found = [(k, pair) for k in left if k in right for pair in itertools.product(left[k], right[k])]
        if how in ("left", "full"):
            found += [(k, (v, None)) for k in left if k not in right for v in left[k]]
        if how in ("right", "full"):
            found += [(k, (None, v)) for k in right if k not in left for v in right[k]]
        return PlainSet(found)

    def co_group(self, *others, **_):
        sides = [one.groups() for one in (self, *others)]
        keys = dict.fromkeys(k for side in sides for k in side)
        return PlainSet((k, tuple(side.get(k, []) for side in sides)) for k in keys)

    def union(self, *others, **_):
        return PlainSet(itertools.chain(self.records, *(other.records for other in others)))

    def cross(self, other):
        return PlainSet(itertools.product(self.records, other.records))

    def zip(self, other, strict=False):
        return PlainSet(zip(self.records, other.records, strict=strict))

    def zip_with_index(self):
        return PlainSet((x, i) for i, x in enumerate(self.records))

    # actions

    def collect(self):
        return self.records

    def count(self):
        return len(self.records)

    def sum(self, value=None):
        return sum(self._values(value))

    def mean(self, value=None):
        return statistics.fmean(self._values(value))

    def variance(self, value=None, ddof=0):
        values = self._values(value)
        if len(values) <= ddof:
            return math.nan
        return statistics.variance(values) if ddof else statistics.pvariance(values)

    def std(self, value=None, ddof=0):
        return math.sqrt(self.variance(value, ddof))

    def _values(self, value):
        return self.records if value is None else [y for x in self.records if (y := column(value)(x)) is not None]

    def reduce(self, reducer, initial=NOTHING):
        function = REDUCERS.get(reducer, reducer)
        return functools.reduce(function, self.records, *(() if initial is NOTHING else (initial,)))

    def aggregate(self, zero, add, merge=None):
        return functools.reduce(add, self.records, zero() if callable(zero) else type(zero)(zero))

    def top(self, n, key=None, largest=True):
        return sorted(self.records, key=None if key is None else column(key), reverse=largest)[:n]

    def min(self, key=None):
        return min(self.records, key=None if key is None else column(key))

    def max(self, key=None):
        return max(self.records, key=None if key is None else column(key))

    def take(self, n):
        return self.records[:n]

    def first(self, default=NOTHING):
        return self.records[0] if self.records else default

    def is_empty(self):
        return not self.records


class PlainGroups:
    """Groups by key."""

    def __init__(self, groups):
        self.found = groups

    def _each(self, function, value=None):
        return PlainSet((k, function(PlainSet(vs)._values(value))) for k, vs in self.found.items())

    def count(self):
        return self._each(len)

    def sum(self, value=None):
        return self._each(sum, value)

    def min(self, value=None):
        return self._each(min, value)

    def max(self, value=None):
        return self._each(max, value)

    def mean(self, value=None):
        return self._each(statistics.fmean, value)

    def median(self, value=None):
        return self._each(lambda vs: statistics.median(vs) if vs else None, value)

    def variance(self, value=None, ddof=0):
        return self._each(lambda vs: PlainSet(vs).variance(ddof=ddof) if len(vs) > ddof else None, value)

    def std(self, value=None, ddof=0):
        return self._each(lambda vs: PlainSet(vs).std(ddof=ddof) if len(vs) > ddof else None, value)

    def reduce(self, reducer):
        return self._each(lambda vs: functools.reduce(REDUCERS.get(reducer, reducer), vs))

    def aggregate(self, zero, add, merge):
        return self._each(lambda vs: PlainSet(vs).aggregate(zero, add))

    def gather(self, ordered=False):
        return self._each(list)

    def map_groups(self, function):
        return PlainSet(function(k, vs) for k, vs in self.found.items())
