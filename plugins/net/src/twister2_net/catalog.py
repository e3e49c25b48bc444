"""The catalogue: what each operator is, and which class makes it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from twister2.spec.errors import OperatorError
from twister2.spec.ops import Operator, OperatorContext, OperatorInfo, Operators, OptionInfo
from twister2_net.combining import Allreduce, Reduce
from twister2_net.keyed import CountByValue, KeyedReduce
from twister2_net.routing import Barrier, Broadcast, Direct, Gather, KeyedPartition, Partition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2_net.base import LaneOperator
    from twister2_net.config import NetConfig

_PARTITIONER = OptionInfo(
    "hash, round_robin, range, or a function partitioner(record, n_targets) -> int", default="hash"
)
_KEY = OptionInfo("function from record to key; the record itself when not given")
_COLUMNS = OptionInfo("key columns of Arrow batches; the first column when not given")
_BOUNDS = OptionInfo("for range: n_targets - 1 ascending keys; from a sample of all records when not given")
_DESCENDING = OptionInfo("for range: the largest keys go to target 0", default=False)
_ORDERED = OptionInfo(
    "targets get the batches of source 0 first, then those of source 1...; held until a mark", default=False
)
_REDUCER = OptionInfo(
    "associative and commutative function of two values, or sum, prod, min, max, and, or", required=True
)
_INITIAL = OptionInfo("value that is combined in exactly once; the result when there are no records")

_ENTRIES: tuple[tuple[OperatorInfo, type[LaneOperator]], ...] = (
    (OperatorInfo("direct", "source i to target i, unchanged", "one_to_one"), Direct),
    (
        OperatorInfo(
            "partition",
            "each record to the target a selector chooses",
            "many_to_many",
            holds_records=True,
            options={
                "partitioner": _PARTITIONER,
                "key": _KEY,
                "columns": _COLUMNS,
                "bounds": _BOUNDS,
                "descending": _DESCENDING,
                "ordered": _ORDERED,
            },
        ),
        Partition,
    ),
    (
        OperatorInfo(
            "keyed_partition",
            "(key, value) pairs to the target of their key",
            "many_to_many",
            keyed=True,
            holds_records=True,
            options={
                "partitioner": _PARTITIONER,
                "columns": _COLUMNS,
                "bounds": _BOUNDS,
                "descending": _DESCENDING,
                "ordered": _ORDERED,
            },
        ),
        KeyedPartition,
    ),
    (
        OperatorInfo(
            "keyed_reduce",
            "combine the values of each key; pairs (key, result) at the target of the key",
            "many_to_many",
            keyed=True,
            combines=True,
            keeps_order=False,
            holds_records=True,
            options={"reducer": _REDUCER},
        ),
        KeyedReduce,
    ),
    (
        OperatorInfo(
            "count_by_value",
            "count equal records; pairs (record, count) at the target of the record",
            "many_to_many",
            combines=True,
            keeps_order=False,
            holds_records=True,
        ),
        CountByValue,
    ),
    (
        OperatorInfo(
            "reduce",
            "combine all records into one, at the only target",
            "many_to_one",
            combines=True,
            keeps_order=False,
            holds_records=True,
            delivers="value",
            options={"reducer": _REDUCER, "initial": _INITIAL},
        ),
        Reduce,
    ),
    (
        OperatorInfo(
            "allreduce",
            "combine all records into one, at every target",
            "many_to_many",
            combines=True,
            keeps_order=False,
            holds_records=True,
            delivers="value",
            options={"reducer": _REDUCER, "initial": _INITIAL},
        ),
        Allreduce,
    ),
    (OperatorInfo("gather", "everything to the only target", "many_to_one"), Gather),
    (OperatorInfo("broadcast", "every batch to every target", "one_to_many", delivers="all"), Broadcast),
    (OperatorInfo("barrier", "no records; targets end once all sources have finished", "many_to_many"), Barrier),
)
_INFOS = {info.name: info for info, _ in _ENTRIES}
_CLASSES = {info.name: cls for info, cls in _ENTRIES}


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
                remedy=_near(context.name, list(_INFOS)) or "use one of these",
                where=context.label,
            )
        check_options(info, context)
        return _CLASSES[context.name](info, context, self._config)


def check_options(info: OperatorInfo, context: OperatorContext) -> None:
    """Compare what an operator was given with what it declares.

    :raises OperatorError: unknown or missing options, a mode it does not do, no tasks.
    """
    label = f"{info.name} '{context.label}'"
    unknown = [name for name in context.options if name not in info.options]
    missing = [name for name, option in info.options.items() if option.required and name not in context.options]
    if unknown:
        raise OperatorError(
            f"{label} has no option {', '.join(map(repr, unknown))}",
            why=f"its options are {', '.join(info.options) or 'none'}",
            remedy=_near(unknown[0], list(info.options)) or "leave it out",
        )
    if missing:
        raise OperatorError(
            f"{label} needs the option {', '.join(map(repr, missing))}",
            why="; ".join(f"{name}: {info.options[name].help}" for name in missing),
            remedy="give it when the edge is connected",
        )
    if context.mode not in info.modes:
        raise OperatorError(
            f"{label} does not run in {context.mode} mode",
            why=f"it declares {', '.join(sorted(info.modes))}",
            remedy="use it in a graph of that mode",
        )
    if not context.sources or not context.targets:
        raise OperatorError(
            f"{label} joins {len(context.sources)} sources to {len(context.targets)} targets",
            why="both sides need at least one task",
            remedy="give both vertices a parallelism of at least 1",
        )


def _near(name: str, names: list[str]) -> str:
    found = get_close_matches(name, names, 1)
    return f"did you mean '{found[0]}'?" if found else ""
