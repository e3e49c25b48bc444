"""Asking the planners of sources for facts from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.errors import Twister2Error, UserCodeError
from twister2.spec.tracebacks import user_traceback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.graph.model import Graph


def ask_planners(graph: Graph) -> Mapping[str, Any]:
    """What the planners of a graph's sources give, by vertex.

    :raises Twister2Error: one failed.
    """
    planned: dict[str, Any] = {}
    for vertex in graph.vertices.values():
        if vertex.planner is None:
            continue
        where = f"graph {graph.name!r}, source {vertex.name!r}"
        try:
            planned[vertex.name] = vertex.planner()
        except Twister2Error as error:
            error.where = error.where or where
            raise
        except Exception as error:
            raise UserCodeError(
                f"the planner of {vertex.name!r} failed: {type(error).__name__}: {error}",
                why="it raised while the graph was planned",
                remedy="see the traceback",
                where=where,
                details={"vertex": vertex.name, "traceback": user_traceback(error)},
            ) from error
    return planned
