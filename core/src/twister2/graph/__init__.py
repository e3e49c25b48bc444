"""Task graphs: build one with :class:`Graph`, execute it with ``env.run(graph)``.

Public to programming interfaces and programs. ``twister2.graph.runtime`` is for executors.
"""

from __future__ import annotations

from twister2.graph.catalog import Catalog
from twister2.graph.model import Graph, Outputs
from twister2.graph.records import walking
from twister2.graph.stored import Stored
from twister2.graph.vertices import Edge, Vertex

__all__ = ["Catalog", "Edge", "Graph", "Outputs", "Stored", "Vertex", "walking"]
