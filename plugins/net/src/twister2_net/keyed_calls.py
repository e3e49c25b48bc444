"""keyed_gather and join as single calls of worker programs, on data that may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from twister2.spec.batch import is_array, is_arrow, n_bytes, n_records
from twister2.spec.channel import HeaderKind
from twister2_net.driving import operator
from twister2_net.holding import Records

if TYPE_CHECKING:
    from twister2.spec.batch import Batch
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group

Partitioner = str | Callable[[Any, int], int]
Order = Callable[[Any], Any] | bool | None

_AT_ONCE = 8192
"""Records that are taken together,"""
_AT_ONCE_BYTES = 2 << 20
"""unless they are large: then so many bytes, about."""


def keyed_gather(  # noqa: PLR0913 - each is an option of the operator
    env: WorkerEnvironment,
    pairs: Batch | Iterable[Any],
    *,
    grouped: bool = True,
    order: Order = None,
    partitioner: Partitioner = "hash",
    columns: Sequence[str] = (),
    bounds: Sequence[Any] | None = None,
    ordered: bool = False,
    group: Group | None = None,
) -> Records:
    """All values of each key, on the one member that the key's hash (or ``partitioner``) chooses.

    :param pairs: (key, value) pairs: a list or any iterable, which is read as it is sent; an array of rows of two; an
        Arrow batch with key columns.
    :param grouped: True: one pair ``(key, values)`` per key; values are a list, or when they do not fit into memory an
        iterable with a length that is read from disk. False: pairs ``(key, value)``, those of a key together.
    :param order: True: in the order of keys; a function of a key: in the order of its results.
    :param columns: key columns of Arrow batches. :param bounds: for the partitioner ``range``.
    :param ordered: values come in the order of members; else those of each member in their order.
    :returns: what this member got; it may be iterated as often as wanted, goes to disk when memory gets short.
    :raises KeyHashError: a key cannot be hashed. :raises UserCodeError: a function raised.
    :raises SpillError: it does not fit into memory, and the disks are full.
    """
    options = {
        "grouped": grouped, "order": order, "partitioner": partitioner, "columns": tuple(columns), "bounds": bounds,
        "ordered": ordered,
    }  # fmt: skip
    members = (group or env.network.world).members
    return _called(env, "keyed_gather", members, [pairs], options, group)


def join(  # noqa: PLR0913 - each is an option of the operator
    env: WorkerEnvironment,
    left: Batch | Iterable[Any],
    right: Batch | Iterable[Any],
    how: Literal["inner", "left", "right", "full"] = "inner",
    *,
    algorithm: Literal["hash", "sort"] = "hash",
    order: Order = None,
    left_key: Callable[[Any], Any] | None = None,
    right_key: Callable[[Any], Any] | None = None,
    left_columns: Sequence[str] = (),
    right_columns: Sequence[str] = (),
    partitioner: Partitioner = "hash",
    bounds: Sequence[Any] | None = None,
    group: Group | None = None,
) -> Records:
    """The records of two sides that have equal keys; each key's on the one member that its hash chooses.

    :param left, right: (key, value) pairs, or records of which ``left_key`` and ``right_key`` tell the key; Arrow
        batches with key columns. Iterables are read as they are sent.
    :param how: sides whose records are kept without a partner; what is missing is None, null in Arrow batches.
    :param algorithm: ``sort``: the result is in the order of keys (or of the function ``order``).
    :returns: pairs ``(key, (left, right))``, or Arrow batches with the columns of both sides: the key columns once, and
        a column of the right whose name the left has too with the suffix ``_right``.
    :raises: as :func:`keyed_gather`.
    """
    options = {
        "how": how, "algorithm": algorithm, "order": order, "left_key": left_key, "right_key": right_key,
        "left_columns": tuple(left_columns), "right_columns": tuple(right_columns), "partitioner": partitioner,
        "bounds": bounds,
    }  # fmt: skip
    members = (group or env.network.world).members
    return _called(env, "join", [members, members], [left, right], options, group)


def _called(
    env: WorkerEnvironment,
    name: str,
    sources: Any,
    given: Sequence[Batch | Iterable[Any]],
    options: dict[str, Any],
    group: Group | None,
) -> Records:
    where = group or env.network.world
    given_options = {option: value for option, value in options.items() if value is not None}
    found = Records(env.memory, f"result of {name}")
    with operator(env, name, sources=sources, targets=where.members, group=group, **given_options) as op:
        feeds = {source: _batches(one) for source, one in zip(op.local_sources, given, strict=True)}
        op.drive(feeds, lambda item: found.add(item.value) if item.kind == HeaderKind.DATA else None)
    return found


def _batches(values: Any) -> Iterator[Batch]:
    """What a member gives, in batches."""
    if is_arrow(values) and not hasattr(values, "to_batches"):
        yield values
    elif is_arrow(values):
        yield from values.to_batches()
    elif is_array(values):
        yield values
    elif isinstance(values, Sequence):
        for start in range(0, n_records(values), _AT_ONCE):
            yield values[start : start + _AT_ONCE]
    else:
        walk = iter(values)
        count = 256
        while some := list(islice(walk, count)):
            count = max(1, min(_AT_ONCE, _AT_ONCE_BYTES * len(some) // max(1, n_bytes(some))))
            yield some
