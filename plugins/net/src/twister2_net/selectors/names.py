"""What the option ``partitioner`` may be, and the selector it means. A new selector is listed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twister2.spec.tracebacks import short
from twister2_net.problems import wrong_option
from twister2_net.selectors.custom import Custom, TwoPhase, is_two_phase
from twister2_net.selectors.hashing import Hash
from twister2_net.selectors.ranges import Range
from twister2_net.selectors.round_robin import RoundRobin
from twister2_net.selectors.skew import Skewed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2_net.selectors.base import Key, Selector

NAMES = ("hash", "round_robin", "range", "skew")

KEYED_NAMES = ("hash", "range")
"""Selectors that bring all records of a key to one target."""


_READ = {"hash": {"key"}, "range": {"key", "bounds", "descending"}, "skew": {"key"}}
"""What selectors look at of these options of an operator. Those of a program look at the record alone."""


class Given(NamedTuple):
    """The other options of an operator that its selectors look at."""

    key: Key | None = None
    columns: Sequence[str] = ()
    bounds: Sequence[Any] = ()
    descending: bool = False


def selector(partitioner: Any, n: int, label: str, task: int, given: Given) -> Selector:
    """The selector of one local source, for a partitioner that :func:`check_partitioner` has found right.

    :param n: number of targets. :param label, task: for messages.
    """
    if partitioner == "hash":
        return Hash(n, label, task, given.key, given.columns)
    if partitioner == "round_robin":
        return RoundRobin(n, label, task)
    if partitioner == "range":
        return Range(n, label, task, given.key, given.bounds, given.columns, descending=given.descending)
    if partitioner == "skew":
        return Skewed(n, label, task, given.key, given.columns)
    if is_two_phase(partitioner):
        return TwoPhase(n, label, task, partitioner)
    return Custom(n, label, task, partitioner)


def check_partitioner(partitioner: Any, label: str, names: Sequence[str] = NAMES) -> None:
    """Whether an option ``partitioner`` can mean anything.

    :param names: the selectors that the operator takes.

    :raises OperatorError: an unknown name, or nothing that can be called.
    """
    if isinstance(partitioner, str):
        if partitioner not in names:
            why = "it would spread a key over several targets" if partitioner in NAMES else "there is no such selector"
            raise wrong_option(label, "partitioner", f"{partitioner!r}: {why}", f"give one of {', '.join(names)}")
    elif not callable(partitioner) and not is_two_phase(partitioner):
        raise wrong_option(
            label,
            "partitioner",
            f"{short(partitioner)} is neither a name nor a function",
            f"give one of {', '.join(names)}, a function partitioner(record, n_targets), or an object with prepare, "
            "next and commit",
        )


def check_read(partitioner: Any, options: Mapping[str, Any], label: str) -> None:
    """Whether the selector that a partitioner means looks at these options, as far as they are given.

    :raises OperatorError: it does not, and nobody else would.
    """
    read = _READ.get(partitioner, set()) if isinstance(partitioner, str) else set()
    for name, given in options.items():
        if given is not None and given is not False and name not in read:
            by = repr(partitioner) if isinstance(partitioner, str) else "a partitioner of the program"
            readers = " or ".join(other for other in _READ if name in _READ[other])
            raise wrong_option(label, name, f"{by} does not look at it", f"leave it out, or give partitioner {readers}")
