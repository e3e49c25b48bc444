"""Operations on whole sets of records for worker programs: sorting, distinct records, grouping, pairing, numbering,
aggregates. Each is one numbered step of the operator of the same name.

Every member of the group gives a batch or an iterable, which is read as it is sent, and gets
:class:`~twister2_net.spilling.queues.Records` back, which may be larger than memory; ``aggregate`` gives a value where
there is one of all records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from twister2_net.calls.exchanges import called

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twister2.spec.batch import Batch
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group
    from twister2_net.calls.exchanges import Key, Keys, Partitioner
    from twister2_net.spilling.queues import Records


def sort(
    env: WorkerEnvironment,
    records: Batch | Iterable[Any],
    key: Key | Sequence[Key] | None = None,
    *,
    descending: bool | Sequence[bool] = False,
    comparator: Callable[[Any, Any], int] | None = None,
    bounds: Sequence[Any] | None = None,
    group: Group | None = None,
) -> Records:
    """All records in order: those of rank 0 come before those of rank 1...

    Records with equal keys stay in the order of ranks, and those of a rank in their order, with ``descending`` too.
    NaN comes last, and None (null in columns) behind it.

    :param key: a function of a record, the name of a column (of dicts an item, of objects an attribute), or several of
        these, of which the first decides first. None: the records themselves.
    :param descending: of all keys, or of each.
    :param comparator: ``comparator(a, b)`` of two keys is negative, 0 or positive.
    :param bounds: one key less than there are members; chosen from a sample when None.
    :raises OperatorError: keys cannot be compared, a column is not there. :raises UserCodeError: a function raised.
    """
    options = {"key": key, "descending": descending, "comparator": comparator, "bounds": bounds}
    return _of_one(env, "sort", records, options, group)


def distinct(
    env: WorkerEnvironment,
    records: Batch | Iterable[Any],
    key: Key | Sequence[Key] | None = None,
    *,
    group: Group | None = None,
) -> Records:
    """Of records that are equal, or whose keys are, the first one of the lowest rank; each on one member.

    :param key: as that of :func:`sort`. :raises KeyHashError: a record cannot be hashed.
    """
    return _of_one(env, "distinct", records, {"key": key}, group)


def co_group(
    env: WorkerEnvironment,
    *inputs: Batch | Iterable[Any],
    key: Keys | None = None,
    keys: Sequence[Keys | None] | None = None,
    order: Callable[[Any], Any] | bool | None = None,
    partitioner: Partitioner = "hash",
    bounds: Sequence[Any] | None = None,
    group: Group | None = None,
) -> Records:
    """Pairs ``(key, (values of the first input, values of the second, ...))``, on the member that the key's hash (or
    ``partitioner``) chooses.

    :param inputs: pairs, or records of which ``key`` tells the key, as in :func:`keyed_gather`.
    :param keys: instead of ``key``: a list of one for each input.
    :param order: True: in the order of keys; a function of a key: in the order of its results.
    :param bounds: for the partitioner ``range``.
    """
    members = (group or env.network.world).members
    options = {"key": key, "keys": keys, "order": order, "partitioner": partitioner, "bounds": bounds}
    return called(env, "co_group", [members] * len(inputs), list(inputs), options, group)


def cross(
    env: WorkerEnvironment,
    left: Batch | Iterable[Any],
    right: Batch | Iterable[Any],
    *,
    broadcast: Literal["auto", "left", "right"] = "auto",
    group: Group | None = None,
) -> Records:
    """All pairs ``(left, right)``.

    :param broadcast: the side that goes to all members; the smaller one when ``auto``.
    """
    members = (group or env.network.world).members
    return called(env, "cross", [members, members], [left, right], {"broadcast": broadcast}, group)


def zip(
    env: WorkerEnvironment,
    left: Batch | Iterable[Any],
    right: Batch | Iterable[Any],
    *,
    group: Group | None = None,
) -> Records:
    """Pairs ``(left, right)`` of what lies side by side on each member.

    :raises OperatorError: a member gave more records of one side than of the other; says how many.
    """
    members = (group or env.network.world).members
    return called(env, "zip", [members, members], [left, right], {}, group)


def number(
    env: WorkerEnvironment, records: Batch | Iterable[Any], *, start: int = 0, group: Group | None = None
) -> Records:
    """Pairs ``(index, record)``: the records of rank 0 are counted first, then those of rank 1...

    :param start: index of the first.
    """
    return _of_one(env, "number", records, {"start": start}, group)


def aggregate(
    env: WorkerEnvironment,
    records: Batch | Iterable[Any],
    aggregates: str | Mapping[str, Any] | None = None,
    *,
    key: Key | Sequence[Key] | None = None,
    pairs: bool = False,
    group: Group | None = None,
    **functions: Any,
) -> Any:
    """One result of all records, the same on all members; or with ``key`` or ``pairs`` one for each key, on the member
    that its hash chooses.

    :param aggregates: a name (``sum``, ``min``, ``max``, ``count``, ``mean``, ``variance``, ``std``,
        ``count_distinct``, ``list``, ``median``), or a dict of results with what they are made of:
        ``{"total": ("price", "sum"), "rows": "count"}``.
    :param key: as that of :func:`sort`. :param pairs: records are pairs ``(key, value)``, values are aggregated.
    :param functions: instead of names: ``zero`` (a value, or a function that makes it), ``add(state, record)``,
        ``merge(state, other)``, and if need be ``result(state)``; ``ddof`` (0 or 1) of variances.
    :returns: the result; with keys :class:`~twister2_net.spilling.queues.Records` of pairs ``(key, result)``, and of
        rows with key columns and aggregates when keys are names and ``aggregates`` is a dict.
    """
    options = {"aggregates": aggregates, "key": key, "pairs": pairs, **functions}
    found = _of_one(env, "aggregate", records, options, group, keep=("zero",))
    if pairs or key is not None:
        return found
    (result,) = found
    found.close()
    return result


def _of_one(
    env: WorkerEnvironment,
    name: str,
    records: Any,
    options: dict[str, Any],
    group: Group | None,
    keep: Sequence[str] = (),
) -> Records:
    members = (group or env.network.world).members
    return called(env, name, members, [records], options, group, keep=keep)
