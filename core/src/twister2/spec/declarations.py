"""What a vertex says of itself, for rewriting rules: they read this and what operators declare, never names or code.

Everything is a promise of whoever makes the vertex. What is not declared is not known, and no rule applies.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from twister2.spec.tasks import Task


@attrs.frozen(eq=False)
class Declarations:
    """Declarations of one vertex; given to ``Graph.add_*`` as ``declares=``, or the attribute ``declares`` of ``make``.

    :ivar identity: of a source: sources of equal identity (and of as many tasks, with equal plans) give the same
        records, task by task, so that one is enough (rule ``share``). The same on every worker. None: not known.
    :ivar with_columns: of a source of columns: ``with_columns(names)`` gives a ``make`` in place of the vertex's, of
        tasks that read these columns only (rule ``columns``); None where it cannot be done.
    :ivar reads: of a compute: the columns of what comes that it looks at. Nothing else of it reaches anybody behind.
        None: it may look at all.
    :ivar folds: of a compute that gets lists of pairs (key, values): a reducer, or its name, such that it does the same
        when it gets the one value that the reducer makes of the values in place of all (rule ``combine``). The reducer
        is associative and commutative.
    """

    identity: Hashable = None
    with_columns: Callable[[tuple[str, ...]], Callable[..., Task] | None] | None = None
    reads: tuple[str, ...] | None = None
    folds: Any = None


NOTHING = Declarations()
"""Nothing is known."""
