"""What a vertex says of itself, for rewriting rules: they read this and what operators declare, never names or code.

Everything is a promise of whoever makes the vertex. What is not declared is not known, and no rule applies.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from twister2.spec.tasks import Task

Predicate: TypeAlias = "tuple[tuple[str, str, Any], ...]"
"""Comparisons ``(column, relation, value)`` that must all hold, as in :class:`~twister2.spec.data.ReadRequest`."""


@attrs.frozen(eq=False)
class Declarations:
    """Declarations of one vertex; given to ``Graph.add_*`` as ``declares=``, or the attribute ``declares`` of ``make``.

    :ivar identity: of a source: sources of equal identity (and of as many tasks, with equal plans) give the same
        records, task by task, so that one is enough (rule ``share``). The same on every worker. None: not known.
    :ivar with_columns: of a source of columns: ``with_columns(names)`` gives a ``make`` in place of the vertex's, of
        tasks that read these columns only (rule ``columns``); None where it cannot be done. Of a compute that
        ``selects``: of tasks that hand on these, which are some of its own; always.
    :ivar reads: of a compute: the columns of what comes that it looks at. Nothing else of it reaches anybody behind.
        None: it may look at all.
    :ivar selects: of a compute that declares ``reads``: it hands on these columns of every row, as they are, and does
        nothing else.
    :ivar looks_at: of a compute: it hands on rows of those that come, with all their columns as they were, and looks
        at these columns only. None: not known.
    :ivar with_predicate: of a source of columns: ``with_predicate(predicate)`` gives a ``make`` in place of the
        vertex's, of tasks that give exactly the rows for which all comparisons ``(column, relation, value)`` hold, as
        those of :class:`~twister2.spec.data.ReadRequest` (rule ``predicates``); None where it cannot be done. What the
        vertex declares from then on is what the new ``make`` has as its attribute ``declares``.
    :ivar predicate: of a compute: it hands on the rows for which these comparisons hold, as they are, and does nothing
        else.
    :ivar folds: of a compute that gets lists of pairs (key, values): a reducer, or its name, such that it does the same
        when it gets the one value that the reducer makes of the values in place of all (rule ``combine``). The reducer
        is associative and commutative.
    :ivar n_bytes: of a source: the bytes of all its records, about; the same on every worker. None: not known.
    :ivar schema: of a source: the pyarrow schema of all batches; of a compute: ``schema(before)`` gives that of what
        it gives from that of what comes, both None where they are not known. None: not known.
    :ivar never_more: of a compute: it gives at most one record for each that it gets, of about its size.
    :ivar partitioned: of a source: task ``i`` gives the records of keys for which
        :func:`~twister2.spec.hashing.task_of_key` is ``i``: ``()`` of pairs, or the columns that have the keys of rows.
        None: not known.
    :ivar keeps_keys: of a compute that gets pairs: it gives pairs, each task only such whose keys it got; of one that
        gets rows: it gives rows of those it got, with their key columns as they were.
    :ivar passes_on: of a compute: it hands on what comes, as it is, and does nothing else; it neither blocks nor calls
        functions of users.
    :ivar by_record: of a compute: it handles one record after the other, so that small batches suit it as well.
    :ivar indifferent: of a compute or sink: all its tasks together do the same, however the records are spread over
        them. None: a narrow one is so.
    """

    identity: Hashable = None
    with_columns: Callable[[tuple[str, ...]], Callable[..., Task] | None] | None = None
    reads: tuple[str, ...] | None = None
    selects: bool = False
    looks_at: tuple[str, ...] | None = None
    folds: Any = None
    with_predicate: Callable[[Predicate], Callable[..., Task] | None] | None = None
    predicate: Predicate = ()
    n_bytes: int | None = None
    schema: Any = None
    never_more: bool = False
    partitioned: tuple[str, ...] | None = None
    keeps_keys: bool = False
    passes_on: bool = False
    indifferent: bool | None = None
    by_record: bool = False


NOTHING = Declarations()
"""Nothing is known."""
