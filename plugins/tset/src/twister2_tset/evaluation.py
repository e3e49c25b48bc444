"""Plans that are prepared once and executed many times: what loops over sets are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.errors import UsageError
from twister2_tset.alike import note_update
from twister2_tset.stored_sets import StoredSet, check_kept, keeping

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from twister2.spec.running import Prepared
    from twister2_tset.context import TSetContext
    from twister2_tset.sets import TSet


class Evaluation:
    """One plan of one set, kept prepared: calling it executes the plan and fills ``into``.

    :param into: the stored set that takes the result. The plan may read it: it sees what was there before, and the
        result takes its place as a whole once the execution has succeeded.
    """

    def __init__(self, context: TSetContext, source: TSet[Any], into: StoredSet[Any]) -> None:
        node = source.node if isinstance(source, StoredSet) and source is into else None
        made = node.of if node is not None else source._node
        if made.replicated != into.node.replicated:
            raise UsageError(
                f"{source!r} cannot update {into!r}",
                why="one of them has the same records on every worker, the other has its records spread",
                remedy="use replicate() or all_reduce() to make a set that is whole on every worker",
            )
        check_kept(into.node)
        context.fill_all(made)
        note_update(into.node, made)
        self._source, self._into = source, into
        self._prepared: Prepared = context.env.prepare(keeping(context, made, into.node.stored))

    def __call__(self) -> None:
        """Execute it once. Collective."""
        self._into.context.check_open("evaluating")
        check_kept(self._into.node)
        self._prepared.run()

    def explain(self) -> str:
        """Its plan."""
        return self._prepared.explain()

    def close(self) -> None:
        """Let go of what was prepared. Idempotent."""
        self._prepared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
