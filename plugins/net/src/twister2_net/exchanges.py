"""Exchanges of batches for worker programs: the operators of the catalogue as single calls.

Every member of the group gives one batch and gets one back; each call is one numbered step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twister2.spec.batch import Batch, is_array, is_arrow
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import OperatorError
from twister2.spec.ops import OperatorContext
from twister2_net.reducers import name_of
from twister2_net.split import Collected, form_of

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group
    from twister2_net.calls import Op

K = TypeVar("K")
V = TypeVar("V")
Partitioner = str | Callable[[Any, int], int]

_DATA = HeaderKind.DATA
_END = HeaderKind.END


def partition(
    env: WorkerEnvironment,
    batch: Batch,
    partitioner: Partitioner = "hash",
    *,
    key: Callable[[Any], Any] | None = None,
    columns: Sequence[str] = (),
    bounds: Sequence[Any] | None = None,
    descending: bool = False,
    group: Group | None = None,
) -> Batch:
    """Send each record to the member that ``partitioner`` chooses; the records this member got, by rank of sender.

    :param batch: a list, a numpy array or an Arrow record batch; what comes back has the same form.
    :param partitioner: ``hash`` (by stable hash of the key), ``round_robin``, ``range`` (by ``bounds``, or by bounds
        found from a sample), or a function ``partitioner(record, n_members) -> int``.
    :param key: key of a record, the record itself when None. :param columns: key columns of Arrow batches.
    :raises OperatorError: the partitioner returned no index of a member; a wrong option.
    :raises KeyHashError: a key cannot be hashed. :raises UserCodeError: a function raised; names the record.
    """
    options: dict[str, Any] = {"partitioner": partitioner}
    if key is not None:
        options["key"] = key
    if columns:
        options["columns"] = tuple(columns)
    if bounds is not None:
        options["bounds"] = list(bounds)
    if descending:
        options["descending"] = True
    return _whole(_exchange(env, "partition", batch, options, _name(partitioner), group), batch)


def keyed_partition(
    env: WorkerEnvironment,
    pairs: Batch,
    partitioner: Partitioner = "hash",
    *,
    columns: Sequence[str] = (),
    group: Group | None = None,
) -> Batch:
    """As :func:`partition`, for (key, value) pairs by their key: all pairs of a key meet on one member."""
    options: dict[str, Any] = {"partitioner": partitioner}
    if columns:
        options["columns"] = tuple(columns)
    return _whole(_exchange(env, "keyed_partition", pairs, options, _name(partitioner), group), pairs)


def keyed_reduce(
    env: WorkerEnvironment, pairs: Iterable[tuple[K, V]], reducer: Op = "sum", *, group: Group | None = None
) -> dict[K, V]:
    """Combine the values of each key over all members; each key's result on the one member its hash chooses.

    :param reducer: as ``op`` of :func:`twister2_net.allreduce`.
    """
    return dict(_records(_exchange(env, "keyed_reduce", _batch(pairs), {"reducer": reducer}, _name(reducer), group)))


def count_by_value(env: WorkerEnvironment, records: Iterable[K], *, group: Group | None = None) -> dict[K, int]:
    """Count equal records over all members; each record's count on the one member its hash chooses."""
    return dict(_records(_exchange(env, "count_by_value", _batch(records), {}, "", group)))


def _batch(values: Any) -> Batch:
    return values if isinstance(values, list) or is_array(values) or is_arrow(values) else list(values)


def _name(function: Any) -> str:
    return name_of(function) or getattr(function, "__name__", type(function).__name__)


def _records(items: Iterable[tuple[int, Batch]]) -> Iterable[Any]:
    for _, batch in items:
        yield from batch


def _whole(items: list[tuple[int, Batch]], like: Batch) -> Batch:
    """The batches by sender as one; empty as the caller's own when nothing came."""
    if not items:
        return like[:0]
    items.sort(key=lambda item: item[0])
    collected = Collected()
    for source, batch in items:
        form = form_of(batch)
        if not collected.fits(form):
            raise OperatorError(
                f"member {source} sent another form of batch than the members before it",
                why=f"it has the form {form!r}",
                remedy="give lists, or arrays of one dtype, or Arrow batches of one schema, on all members",
            )
        collected.add(batch, form)
    return collected.take()


def _exchange(
    env: WorkerEnvironment, name: str, batch: Batch, options: dict[str, Any], shape: str, group: Group | None
) -> list[tuple[int, Batch]]:
    network = env.network
    where = group or network.world
    me = where.rank_of(network.worker_id)
    if me < 0:
        raise OperatorError(
            f"worker {network.worker_id} called {name} on a group it is not in",
            why=f"the group's members are {list(where.members)}",
            remedy="call it on members only",
        )
    items: list[tuple[int, Batch]] = []
    with network.step(name, shape, group=where) as step:
        context = OperatorContext(
            name, 0, "", where.members, where.members, options, "batch", step, network, env.memory
        )  # fmt: skip
        operator = env.backend("ops", "net").create(context)
        try:
            sent = False

            def advance() -> bool:
                nonlocal sent
                moved = True
                while moved:
                    moved = False
                    if not sent and operator.send(me, batch):
                        sent = moved = True
                        operator.finish(me)
                    moved = operator.progress() or moved
                    while (item := operator.receive(me)) is not None:
                        moved = True
                        if item.kind == _DATA:
                            items.append((item.source, item.value))
                return bool(operator.is_complete)

            network.wait_until(advance, name)
        finally:
            operator.close()
    return items
