"""The catalogue: what each operator is, and which class makes it. Classes are imported when they are first needed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import OperatorError
from twister2.spec.ops import Operator, OperatorContext, OperatorInfo, Operators, OptionInfo
from twister2_net.combining.columns_read import READS, ROWS_BY
from twister2_net.combining.reducers import NAMES
from twister2_net.exchange.algorithms import chosen
from twister2_net.options import check_options, near
from twister2_net.schemas import SCHEMAS

if TYPE_CHECKING:
    from twister2_net.config import NetConfig
    from twister2_net.exchange.lanes import LaneOperator

_PARTITIONER = OptionInfo(
    "hash, round_robin, range, skew (hash, but heavy keys go to several targets), a function "
    "partitioner(record, n_targets) -> int, or an object with prepare, next and commit",
    default="hash",
)
_KEYS = "function of a record, the name of a column (of dicts an item, of objects an attribute), or a list of "
_KEY = OptionInfo(f"{_KEYS}names; the record itself when not given, of Arrow batches the first column")
_KEYED_PARTITIONER = OptionInfo(
    "hash, range, a function partitioner(record, n_targets) -> int, or an object with prepare, next and commit",
    default="hash",
)
_PAIR_KEY = OptionInfo(f"{_KEYS}names; the first part of a pair, or the first column, when not given")
_BOUNDS = OptionInfo("for range: n_targets - 1 ascending keys; from a sample of all records when not given")
_DESCENDING = OptionInfo("for range: the largest keys go to target 0", default=False)
_ORDERED = OptionInfo(
    "targets get the batches of source 0 first, then those of source 1...; held until a mark", default=False
)
_REDUCER = OptionInfo(
    f"associative and commutative function of two values, a numpy ufunc, or {', '.join(NAMES)}", required=True
)
_INITIAL = OptionInfo("value that is combined in exactly once; the result when there are no records")

_INITIAL_ALGORITHM = "chosen by the number of workers when not given"
_TREES = OptionInfo(f"direct, tree or chain; {_INITIAL_ALGORITHM}")
_CHAINS = OptionInfo("direct, or chain: workers pass batches on along a line", default="direct")
_BOTH = frozenset({"batch", "stream"})
_SELECTING = {
    "partitioner": _PARTITIONER,
    "key": _KEY,
    "bounds": _BOUNDS,
    "descending": _DESCENDING,
    "ordered": _ORDERED,
    "algorithm": _CHAINS,
}
_COMBINING = {"reducer": _REDUCER, "initial": _INITIAL, "algorithm": _TREES}
_RINGS = OptionInfo(
    "as that of reduce, or ring: for large arrays, in batch mode; chosen by the number of workers and by the size of "
    "arrays when not given"
)
_RING = OptionInfo("direct, or ring: for large arrays, in batch mode", default="direct")

_ORDER = OptionInfo("True: by key, ascending; or a function of a key: by its result. NaN comes last", default=None)
_IN_PLACE = OptionInfo(
    "numbers of inputs, from 0, whose task i has only records for target i already: they go there without a look at "
    "their keys",
    default=(),
)
_GATHERING = {
    "in_place": _IN_PLACE,
    "grouped": OptionInfo(
        "True: pairs (key, values); False: pairs (key, value), those of a key together", default=True
    ),
    "order": _ORDER,
    "partitioner": _KEYED_PARTITIONER,
    "key": OptionInfo(f"{_PAIR_KEY.help}. Where it is given, and records are no columns, they are the values"),
    "bounds": _BOUNDS,
    "ordered": OptionInfo(
        "values of a key come by source: those of source 0 first; else as they arrived", default=False
    ),
}
_JOINING = {
    "in_place": _IN_PLACE,
    "broadcast": OptionInfo(
        "left or right: that side goes to all targets, the other stays (task i goes to target i modulo their number); "
        "right for inner, left, semi and anti, left for inner and right",
        default=None,
    ),
    "how": OptionInfo("inner; what is kept without a partner: left, right, full; or semi, anti", default="inner"),
    "algorithm": OptionInfo("hash, or sort: the result is in the order of keys", default="hash"),
    "order": _ORDER,
    "left_key": OptionInfo(f"of the left: {_PAIR_KEY.help}"),
    "right_key": OptionInfo("the same for the right"),
    "left_schema": OptionInfo("the pyarrow schema of the left, for when it gives no batch: its columns are null then"),
    "right_schema": OptionInfo("the same for the right"),
    "partitioner": _KEYED_PARTITIONER,
    "bounds": OptionInfo("for range: n_targets - 1 ascending keys"),
}

_LEFT, _RIGHT = ("left",), ("right",)
_BROADCASTS = {"inner": (*_RIGHT, *_LEFT), "left": _RIGHT, "right": _LEFT, "full": (), "semi": _RIGHT, "anti": _RIGHT}
"""Sides that may go to all targets, by the kind of join. Not one whose records are kept without a partner: every target
would find some without one."""
_RECORD_KEY = OptionInfo(f"{_KEYS}these; the record itself when not given")
_SORTING = {
    "key": _RECORD_KEY,
    "descending": OptionInfo("True: largest first; or one bool for each key. NaN and None come last", default=False),
    "comparator": OptionInfo("comparator(a, b) of two keys: negative, 0 or positive"),
    "bounds": OptionInfo("n_targets - 1 keys that cut ranges; from a sample of all records when not given"),
}
_CO_GROUPING = {
    "in_place": _IN_PLACE,
    "key": OptionInfo(f"of all inputs: {_KEYS}names; the first part of a pair when not given"),
    "keys": OptionInfo("instead of key: a list of one for each input"),
    "order": _ORDER,
    "partitioner": _KEYED_PARTITIONER,
    "bounds": OptionInfo("for range: n_targets - 1 ascending keys"),
}
_AGGREGATING = {
    "aggregates": OptionInfo(
        "a name (sum, min, max, count, mean, variance, std, count_distinct, list, median), or a dict of results: {"
        'name: (column or function, name), name: "count"}'
    ),
    "key": OptionInfo("as that of sort; without it there is one result of all records, at every target"),
    "pairs": OptionInfo("records are pairs (key, value): one result of the values of each key", default=False),
    "zero": OptionInfo("instead of aggregates: the state of no records, or a function that makes it"),
    "add": OptionInfo("add(state, record) gives the new state"),
    "merge": OptionInfo("merge(state, state) gives both as one"),
    "result": OptionInfo("result(state) is delivered; the state when not given"),
    "ddof": OptionInfo("of variances: 0 of all, 1 estimated from a sample", default=0),
    "in_place": _IN_PLACE,
}

Classes = str | Mapping[str, str]
"""The class of an operator, as ``module.Class`` of :mod:`twister2_net.operators`, or its classes by algorithm."""

_RELAYS = {"direct": "moving.Broadcast", "tree": "relaying.Relay", "chain": "relaying.ChainRelay"}

_ENTRIES: tuple[tuple[OperatorInfo, Classes], ...] = (
    (OperatorInfo("direct", "source i to target i, unchanged", "one_to_one", _BOTH), "moving.Direct"),
    (OperatorInfo("pipe", "source i to target i; batches flow on as they come", "one_to_one", _BOTH), "moving.Direct"),
    (
        OperatorInfo(
            "partition",
            "each record to the target a selector chooses",
            "many_to_many",
            _BOTH,
            holds_records=True,
            options=_SELECTING,
        ),
        {"direct": "partitioning.Partition", "chain": "partitioning.ChainPartition"},
    ),
    (
        OperatorInfo(
            "keyed_partition",
            "(key, value) pairs to the target of their key",
            "many_to_many",
            _BOTH,
            keyed=True,
            holds_records=True,
            options={**_SELECTING, "partitioner": _KEYED_PARTITIONER, "key": _PAIR_KEY, "in_place": _IN_PLACE},
            partitions="hash",
        ),
        {"direct": "partitioning.KeyedPartition", "chain": "partitioning.ChainKeyedPartition"},
    ),
    (
        OperatorInfo(
            "keyed_reduce",
            "combine the values of each key; pairs (key, result) at the target of the key",
            "many_to_many",
            _BOTH,
            keyed=True,
            combines=True,
            keeps_order=False,
            holds_records=True,
            options={"reducer": _REDUCER, "in_place": _IN_PLACE},
            partitions="hash",
        ),
        "keyed_reducing.KeyedReduce",
    ),
    (
        OperatorInfo(
            "keyed_gather",
            "all values of each key, at the target of the key; larger than memory, on disk",
            "many_to_many",
            _BOTH,
            keyed=True,
            keeps_order=False,
            holds_records=True,
            options=_GATHERING,
            folded="keyed_reduce",
            partitions="hash",
        ),
        "keyed_gathering.KeyedGather",
    ),
    (
        OperatorInfo(
            "join",
            "records of two inputs with equal keys: pairs (key, (left, right)) at the target of the key",
            "many_to_many",
            _BOTH,
            inputs=2,
            keyed=True,
            keeps_order=False,
            holds_records=True,
            options=_JOINING,
            partitions="hash",
            broadcasts=_BROADCASTS,
            schema_options=("left_schema", "right_schema"),
        ),
        "joining.Join",
    ),
    (
        OperatorInfo(
            "co_group",
            "of each key the values of every input: pairs (key, (values, values, ...)) at the target of the key",
            "many_to_many",
            _BOTH,
            inputs=0,
            keyed=True,
            keeps_order=False,
            holds_records=True,
            options=_CO_GROUPING,
            partitions="hash",
        ),
        "co_grouping.CoGroup",
    ),
    (
        OperatorInfo(
            "sort",
            "all records in order, within targets and from each to the next; larger than memory, on disk",
            "many_to_many",
            _BOTH,
            keeps_order=False,
            holds_records=True,
            options=_SORTING,
        ),
        "sorting.Sort",
    ),
    (
        OperatorInfo(
            "distinct",
            "of equal records, or of those with equal keys, the first of the first source",
            "many_to_many",
            _BOTH,
            keeps_order=False,
            holds_records=True,
            options={"key": _RECORD_KEY},
        ),
        "distinct.Distinct",
    ),
    (
        OperatorInfo(
            "aggregate",
            "sums, counts, means... of all records or of each key, by name or by functions",
            "many_to_many",
            _BOTH,
            combines=True,
            keeps_order=False,
            holds_records=True,
            options=_AGGREGATING,
            partitions="hash",
        ),
        "aggregating.Aggregate",
    ),
    (
        OperatorInfo(
            "cross",
            "every record of the left with every one of the right: pairs (left, right); one side goes to all targets",
            "many_to_many",
            _BOTH,
            inputs=2,
            keeps_order=False,
            holds_records=True,
            options={
                "broadcast": OptionInfo(
                    "left, right, or auto: the smaller side goes to all targets (not on streams)", default="auto"
                )
            },
        ),
        "crossing.Cross",
    ),
    (
        OperatorInfo(
            "zip",
            "records of two inputs side by side: pairs (left, right), task i of both at target i",
            "many_to_many",
            _BOTH,
            inputs=2,
            holds_records=True,
        ),
        "zipping.Zip",
    ),
    (
        OperatorInfo(
            "number",
            "pairs (index, record), counted over all sources in their order; source i to target i; in batch mode",
            "one_to_one",
            holds_records=True,
            options={"start": OptionInfo("index of the first record", default=0)},
        ),
        "numbering.Number",
    ),
    (
        OperatorInfo(
            "count_by_value",
            "count equal records; pairs (record, count) at the target of the record",
            "many_to_many",
            _BOTH,
            combines=True,
            keeps_order=False,
            holds_records=True,
        ),
        "keyed_reducing.CountByValue",
    ),
    (
        OperatorInfo(
            "reduce",
            "combine all records into one, at the only target",
            "many_to_one",
            _BOTH,
            combines=True,
            keeps_order=False,
            holds_records=True,
            delivers="value",
            options=_COMBINING,
        ),
        "reducing.Reduce",
    ),
    (
        OperatorInfo(
            "allreduce",
            "combine all records into one, at every target",
            "many_to_many",
            _BOTH,
            combines=True,
            keeps_order=False,
            holds_records=True,
            delivers="value",
            options={**_COMBINING, "algorithm": _RINGS},
        ),
        "allreducing.Allreduce",
    ),
    (
        OperatorInfo(
            "reduce_scatter",
            "combine batches of one record per target record by record; result i at target i",
            "many_to_many",
            _BOTH,
            keeps_order=False,
            holds_records=True,
            delivers="value",
            options={"reducer": _REDUCER, "initial": _INITIAL, "algorithm": _RING},
        ),
        "reducing.ReduceScatter",
    ),
    (
        OperatorInfo("gather", "everything to the only target", "many_to_one", _BOTH, options={"algorithm": _TREES}),
        {"direct": "moving.Gather", "tree": "relaying.TreeGather", "chain": "relaying.ChainGather"},
    ),
    (
        OperatorInfo(
            "allgather",
            "every batch of every source to every target; an item's source tells where it comes from",
            "many_to_many",
            _BOTH,
            delivers="all",
            options={"algorithm": _TREES},
        ),
        _RELAYS,
    ),
    (
        OperatorInfo(
            "broadcast",
            "every batch to every target",
            "one_to_many",
            _BOTH,
            delivers="all",
            options={"algorithm": _TREES},
        ),
        _RELAYS,
    ),
    (
        OperatorInfo(
            "union", "task k of each input to target k (modulo the number of targets)", "many_to_many", _BOTH, inputs=0
        ),
        "moving.Union",
    ),
    (
        OperatorInfo(
            "alltoall", "batches of one part per target: part i to target i, as a batch", "many_to_many", _BOTH
        ),
        "moving.AllToAll",
    ),
    (
        OperatorInfo("barrier", "no records; targets end once all sources have finished", "many_to_many", _BOTH),
        "moving.Barrier",
    ),
)
_RING_CLASSES = {"allreduce": "ringing.RingAllreduce", "reduce_scatter": "ringing.RingReduceScatter"}
_INFOS = {
    info.name: attrs.evolve(
        info, schema=SCHEMAS.get(info.name), reads=READS.get(info.name), rows_by=ROWS_BY.get(info.name)
    )
    for info, _ in _ENTRIES
}
_CLASSES = {info.name: classes for info, classes in _ENTRIES}


class NetOperators(Operators):
    """See :class:`twister2.spec.ops.Operators`."""

    def __init__(self, config: NetConfig) -> None:
        self._config = config

    def catalog(self) -> Mapping[str, OperatorInfo]:
        return _INFOS

    def create(self, context: OperatorContext) -> Operator:
        info = _INFOS.get(context.name)
        if info is None:
            raise OperatorError(
                f"there is no operator 'net.{context.name}'",
                why=f"the catalogue has {', '.join(sorted(_INFOS))}",
                remedy=near(context.name, list(_INFOS)) or "use one of these",
                where=context.label,
            )
        check_options(info, context)
        classes = _CLASSES[context.name]
        if context.options.get("algorithm") == "ring":
            classes = _RING_CLASSES.get(context.name, classes)
        if isinstance(classes, str):
            return _loaded(classes)(info, context, self._config)
        many = "tree" if "tree" in classes else "direct"
        label = f"{info.name} '{context.label}'" if context.label else info.name
        algorithm = chosen(context, label, list(classes), many, self._config.relay_above)
        return _loaded(classes[algorithm])(info, context, self._config)


def _loaded(where: str) -> type[LaneOperator]:
    module, name = where.split(".")
    found: type[LaneOperator] = getattr(import_module(f"twister2_net.operators.{module}"), name)
    return found
