"""Exchanges of batches for worker programs: the operators of the catalogue as single calls.

Every member of the group gives one batch and gets one back; each call is one numbered step. keyed_gather and join take
iterables too, and give back :class:`~twister2_net.spilling.queues.Records`, which may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from twister2.spec.batch import Batch, is_array, is_arrow, n_bytes, n_records
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import OperatorError
from twister2.spec.ops import OperatorContext
from twister2.spec.tracebacks import short
from twister2_net.calls.alike import described
from twister2_net.calls.collectives import is_masked
from twister2_net.calls.driving import operator
from twister2_net.exchange.parts import Collected, form_of
from twister2_net.spilling.queues import Records

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group
    from twister2_net.calls.collectives import Reducer

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
Key = str | Callable[[Any], Any]
Keys = Key | Sequence[str]
Partitioner = str | Callable[[Any, int], int]
Order = Callable[[Any], Any] | bool | None

_AT_ONCE = 8192
"""Records that are taken together,"""
_AT_ONCE_BYTES = 2 << 20
"""unless they are large: then so many bytes, about."""

_DATA = HeaderKind.DATA
_END = HeaderKind.END


def partition(
    env: WorkerEnvironment,
    batch: Batch,
    partitioner: Partitioner = "hash",
    *,
    key: Keys | None = None,
    bounds: Sequence[Any] | None = None,
    descending: bool = False,
    algorithm: Literal["direct", "chain"] = "direct",
    group: Group | None = None,
) -> Batch:
    """Send each record to the member that ``partitioner`` chooses; the records this member got, by rank of sender.

    :param batch: a list, a numpy array or an Arrow record batch; what comes back has the same form.
    :param partitioner: ``hash`` (by stable hash of the key), ``round_robin``, ``range`` (by ``bounds``, or by bounds
        found from a sample), or a function ``partitioner(record, n_members) -> int``.
    :param key: a function of a record, the name of a column (of dicts an item, of objects an attribute), or a list of
        names. None: the record itself, of Arrow batches the first column.
    :param descending: for ``range``: the largest keys go to rank 0.
    :param algorithm: ``chain``: members pass records on along a line.
    :raises OperatorError: the partitioner returned no index of a member; a wrong option.
    :raises KeyHashError: a key cannot be hashed. :raises UserCodeError: a function raised; names the record.
    """
    options = _selecting(partitioner, key, bounds, descending, algorithm)
    return _exchange(env, "partition", batch, options, group, lambda items: _whole(items, batch))


def keyed_partition(
    env: WorkerEnvironment,
    pairs: Batch,
    partitioner: Partitioner = "hash",
    *,
    key: Keys | None = None,
    bounds: Sequence[Any] | None = None,
    descending: bool = False,
    algorithm: Literal["direct", "chain"] = "direct",
    group: Group | None = None,
) -> Batch:
    """As :func:`partition`, for (key, value) pairs by their key: all pairs of a key meet on one member.

    :param key: as that of :func:`partition`; the first part of a pair when None.
    """
    options = _selecting(partitioner, key, bounds, descending, algorithm)
    return _exchange(env, "keyed_partition", pairs, options, group, lambda items: _whole(items, pairs))


def keyed_reduce(
    env: WorkerEnvironment, pairs: Iterable[tuple[K, V]], reducer: Reducer = "sum", *, group: Group | None = None
) -> dict[K, V]:
    """Combine the values of each key over all members; each key's result on the one member its hash chooses.

    :param reducer: as that of :func:`twister2_net.allreduce`.
    """
    return _exchange(env, "keyed_reduce", _batch(pairs, "keyed_reduce"), {"reducer": reducer}, group, _table)


def count_by_value(env: WorkerEnvironment, records: Iterable[K], *, group: Group | None = None) -> dict[K, int]:
    """Count equal records over all members; each record's count on the one member its hash chooses."""
    return _exchange(env, "count_by_value", _batch(records, "count_by_value"), {}, group, _table)


def keyed_gather(  # noqa: PLR0913 - each is an option of the operator
    env: WorkerEnvironment,
    pairs: Batch | Iterable[Any],
    *,
    grouped: bool = True,
    order: Order = None,
    key: Keys | None = None,
    partitioner: Partitioner = "hash",
    bounds: Sequence[Any] | None = None,
    ordered: bool = False,
    group: Group | None = None,
) -> Records:
    """All values of each key, on the one member that the key's hash (or ``partitioner``) chooses.

    :param pairs: (key, value) pairs: a list or any iterable, which is read as it is sent; an array of rows of two; an
        Arrow batch with key columns; with ``key`` any records, which are the values then.
    :param grouped: True: one pair ``(key, values)`` per key; values are a list, or when they do not fit into memory an
        iterable with a length that is read from disk. False: pairs ``(key, value)``, those of a key together.
    :param order: True: in the order of keys; a function of a key: in the order of its results.
    :param key: as that of :func:`partition`; the first part of a pair, of Arrow batches the first column, when None.
    :param bounds: for the partitioner ``range``.
    :param ordered: values come in the order of members; else those of each member in their order.
    :returns: what this member got; it may be iterated as often as wanted, goes to disk when memory gets short.
    :raises KeyHashError: a key cannot be hashed. :raises UserCodeError: a function raised.
    :raises SpillError: it does not fit into memory, and the disks are full.
    """
    options = {
        "grouped": grouped, "order": order, "key": key, "partitioner": partitioner, "bounds": bounds,
        "ordered": ordered,
    }  # fmt: skip
    members = (group or env.network.world).members
    return called(env, "keyed_gather", members, [pairs], options, group)


def join(  # noqa: PLR0913 - each is an option of the operator
    env: WorkerEnvironment,
    left: Batch | Iterable[Any],
    right: Batch | Iterable[Any],
    how: Literal["inner", "left", "right", "full", "semi", "anti"] = "inner",
    *,
    algorithm: Literal["hash", "sort"] = "hash",
    order: Order = None,
    left_key: Keys | None = None,
    right_key: Keys | None = None,
    left_schema: Any = None,
    right_schema: Any = None,
    partitioner: Partitioner = "hash",
    bounds: Sequence[Any] | None = None,
    broadcast: Literal["left", "right"] | None = None,
    group: Group | None = None,
) -> Records:
    """The records of two sides that have equal keys; each key's on the one member that its hash chooses.

    :param left, right: (key, value) pairs, or records of which ``left_key`` and ``right_key`` tell the key; Arrow
        batches with key columns. Iterables are read as they are sent.
    :param left_key, right_key: as ``key`` of :func:`keyed_gather`.
    :param how: sides whose records are kept without a partner; what is missing is None, null in Arrow batches.
        ``semi`` and ``anti``: the records of the left that have a partner, or have none, each once and as they are.
    :param algorithm: ``sort``: the result is in the order of keys (or of the function ``order``).
    :param left_schema, right_schema: the pyarrow schema of a side of which no member may give a batch.
    :param broadcast: a small side that goes to all members, while the records of the other stay where they are:
        ``right`` of the kinds inner, left, semi and anti, ``left`` of inner and right.
    :returns: pairs ``(key, (left, right))``, or Arrow batches with the columns of both sides: the key columns once, and
        a column of the right whose name the left has too with the suffix ``_right``.
    :raises: as :func:`keyed_gather`.
    """
    options = {
        "how": how, "algorithm": algorithm, "order": order, "left_key": left_key, "right_key": right_key,
        "left_schema": left_schema, "right_schema": right_schema, "partitioner": partitioner, "bounds": bounds,
        "broadcast": broadcast,
    }  # fmt: skip
    members = (group or env.network.world).members
    return called(env, "join", [members, members], [left, right], options, group)


def _selecting(
    partitioner: Partitioner,
    key: Keys | None,
    bounds: Sequence[Any] | None,
    descending: bool,
    algorithm: str,
) -> dict[str, Any]:
    """The options that were given."""
    options: dict[str, Any] = {"partitioner": partitioner, "algorithm": algorithm}
    if key is not None:
        options["key"] = key
    if bounds is not None:
        options["bounds"] = list(bounds)
    if descending:
        options["descending"] = descending
    return options


def _batch(values: Any, name: str) -> Batch:
    """What is given to an exchange that makes records of it: they may be views of a row, so rows are copied."""
    if is_array(values) and (values.ndim != 1 or values.dtype.names is not None):
        return values.copy()
    return values if isinstance(values, list) or is_array(values) or is_arrow(values) else list(walkable(values, name))


def _lent(batch: Batch) -> Batch:
    """A batch as it is lent to the system, which makes read-only what it is given: of an array a view."""
    if not is_array(batch) or not batch.flags.writeable or batch.base is not None:
        return batch  # a view of another array is copied by the system
    view = batch.view()
    view.flags.writeable = False
    return view


def _own(result: Batch, given: Batch) -> Batch:
    """A result that is the caller's own: never memory, nor the list, that it has given."""
    if result is given and isinstance(result, list):
        return list(result)
    if is_array(result) and is_array(given):
        import numpy

        if numpy.may_share_memory(result, given):
            return result.copy()
    return result


def _table(items: Iterable[tuple[int, Batch]]) -> dict[Any, Any]:
    return {key: value for _, batch in items for key, value in batch}


def _whole(items: list[tuple[int, Batch]], like: Batch) -> Batch:
    """The batches by sender as one; empty as the caller's own when nothing came."""
    if not items:
        return like[:0].copy() if is_array(like) else like[:0]
    items.sort(key=lambda item: item[0])
    collected = Collected()
    first = items[0]
    for source, batch in items:
        form = form_of(batch)
        if not collected.fits(form):
            raise OperatorError(
                f"members {first[0]} and {source} sent different forms of batch",
                why=f"member {first[0]} sent {_form(first[1])}, member {source} {_form(batch)}",
                remedy="give lists, or arrays of one dtype, or Arrow batches of one schema, on all members",
            )
        collected.add(batch, form)
    return _own(collected.take(), like)


def _form(batch: Batch) -> str:
    """The form of a batch in words."""
    if is_array(batch):
        return f"an array of {batch.dtype} with records of shape {batch.shape[1:]}"
    if is_arrow(batch):
        return f"an Arrow batch of ({', '.join(f'{field.name}: {field.type}' for field in batch.schema)})"
    return f"a {type(batch).__name__}"


def _exchange(
    env: WorkerEnvironment,
    name: str,
    batch: Batch,
    options: dict[str, Any],
    group: Group | None,
    made: Callable[[list[tuple[int, Batch]]], T],
) -> T:
    """One step of an operator. :param made: makes the result of the batches that came, with the index of their source;
    inside the step, so that its errors tell where it was called.
    """
    network = env.network
    where = group or network.world
    me = where.rank_of(network.worker_id)
    if me < 0:
        raise OperatorError(
            f"worker {network.worker_id} called {name} on a group it is not in",
            why=f"the group's members are {list(where.members)}",
            remedy="call it on members only",
        )
    _check_no_mask(batch, name)
    items: list[tuple[int, Batch]] = []
    with network.step(name, described(options), group=where) as step:
        context = OperatorContext(
            name, 0, "", where.members, where.members, options, "batch", step, network, env.memory
        )  # fmt: skip
        end = env.backend("ops", "net").create(context)
        try:
            sent = False
            lent = _lent(batch)

            def advance() -> bool:
                nonlocal sent
                moved = True
                while moved:
                    moved = False
                    if not sent and end.send(me, lent):
                        sent = moved = True
                        end.finish(me)
                    moved = end.progress() or moved
                    while (item := end.receive(me)) is not None:
                        moved = True
                        if item.kind == _DATA:
                            items.append((item.source, item.value))
                return bool(end.is_complete)

            network.wait_until(advance, name)
            return made(items)
        finally:
            end.close()


def called(
    env: WorkerEnvironment,
    name: str,
    sources: Any,
    given: Sequence[Batch | Iterable[Any]],
    options: dict[str, Any],
    group: Group | None,
    keep: Sequence[str] = (),
) -> Records:
    """Run an operator. :param keep: options that may be None; of others that means that they are not given."""
    where = group or env.network.world
    given_options = {option: value for option, value in options.items() if value is not None or option in keep}
    found = Records(env.memory, f"result of {name}")
    with operator(env, name, sources=sources, targets=where.members, group=group, **given_options) as op:
        feeds = {source: _batches(walkable(one, name)) for source, one in zip(op.local_sources, given, strict=True)}
        op.drive(feeds, lambda item: found.add(item.value) if item.kind == HeaderKind.DATA else None)
    return found


def walkable(given: Any, name: str) -> Any:
    """What a member gives as records.

    :raises OperatorError: it is neither a batch nor an iterable; a masked array.
    """
    _check_no_mask(given, name)
    if is_arrow(given) or (is_array(given) and given.ndim > 0) or hasattr(type(given), "__iter__"):
        return given
    if isinstance(given, Sequence):
        return given
    kind = "an array without axes" if is_array(given) else f"a value of type {type(given).__name__}"
    raise OperatorError(
        f"{name} was given {short(given)} as records",
        why=f"{kind} cannot be iterated over",
        remedy="give a list, an array whose first axis counts records, an Arrow batch, or an iterable of records",
    )


def _check_no_mask(given: Any, name: str) -> None:
    """
    :raises OperatorError: it is an array that is more than its memory, which is what is sent.
    """
    if is_array(given) and is_masked(given):
        raise OperatorError(
            f"{name} was given a masked array as records",
            why="an array is sent as memory: the mask would be lost, and what it hides would count",
            remedy="give array.compressed(), which leaves out what is masked, array.filled(value), or a list",
        )


def _batches(values: Any) -> Iterator[Batch]:
    """What a member gives, in batches."""
    if is_arrow(values) and not hasattr(values, "to_batches"):
        yield values
    elif is_arrow(values):
        yield from values.to_batches()
    elif is_array(values):
        yield values.copy()  # the result may be looked at long after the call, and have parts of it
    elif isinstance(values, Sequence):
        for start in range(0, n_records(values), _AT_ONCE):
            yield values[start : start + _AT_ONCE]
    else:
        walk = iter(values)
        count = 256
        while some := list(islice(walk, count)):
            count = max(1, min(_AT_ONCE, _AT_ONCE_BYTES * len(some) // max(1, n_bytes(some))))
            yield some
