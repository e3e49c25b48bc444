"""In what form the batches of sets are, as far as their steps say: where forms meet, all become records.

Operators that keep columns as they are take one form from all their inputs. The form of a batch is known when it runs,
and then only to the worker that has it; so it is the plan that says where records are made of columns, and the form of
what an operator delivers does not depend on how records lie.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twister2.spec.batch import Batch, is_array, is_arrow, python_values
from twister2.spec.declarations import Declarations
from twister2.spec.tasks import Compute, Emit
from twister2_tset.columns import same
from twister2_tset.forms import ARRAY, EMPTY, RECORDS, SAME, SELECTED, TUPLES, UNKNOWN, WHATEVER, fit, kind_of_form
from twister2_tset.nodes import ExchangeNode, MeetingNode, Node, SourceNode, StepNode, StoredNode, schema_behind
from twister2_tset.pair_steps import AsPairs

Forms = frozenset[str]
"""Those that batches of a set may have."""

_AS_THEY_COME = ("net.direct", "net.pipe", "net.union", "net.partition", "net.keyed_partition", "net.broadcast")
_BY_COLUMNS = ("net.sort", "net.distinct", "net.aggregate")
"""Operators that keep columns where their keys are columns, or the records themselves,"""
_BY_PAIRS = ("net.keyed_gather", "net.join")
"""and those that take a table of two columns for pairs."""
_OF_RECORDS = ("count_distinct", "list", "median")
"""Results of groups that hold records' values: no columns come out beside them."""

_known: weakref.WeakKeyDictionary[Node, Forms] = weakref.WeakKeyDictionary()


class AsRecords(Compute):
    """Python's own records of batches in any form. Lists stay what they are.

    :param named: rows of structured arrays become dicts, as those of tables do; else tuples.
    """

    narrow: ClassVar[bool] = True
    declares: ClassVar[Declarations] = Declarations(never_more=True, keeps_keys=True, schema=same, looks_at=())

    def __init__(self, *, named: bool) -> None:
        self._named = named

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hand on the records of a batch."""
        if is_arrow(batch):
            batch = python_values(batch)
        elif is_array(batch):
            names, rows = batch.dtype.names, batch.tolist()
            if names and self._named:
                batch = [dict(zip(names, row, strict=True)) for row in rows]
            else:
                batch = list(map(tuple, rows)) if batch.ndim > 1 else rows
        emit(batch)


def alike(nodes: tuple[Node, ...], operator: str, options: Mapping[str, Any], line: str) -> tuple[Node, ...]:
    """The inputs of an exchange; where they have several forms, and the operator takes one, as records."""
    if operator in _BY_PAIRS and "left_key" not in options:
        pairs = True
    elif operator in _BY_COLUMNS and _keeps_columns(operator, options):
        pairs = False
    else:
        return nodes
    each = [forms_of(node) for node in nodes]
    forms = frozenset[str]().union(*each)
    if fit(forms):
        return nodes
    # tuples have an order, dicts have names
    named = options.get("key") is not None or (operator == "net.distinct" and TUPLES not in forms)
    return tuple(
        node if set(map(kind_of_form, own)) == {RECORDS} else _as_records(node, line, named=named, pairs=pairs)
        for node, own in zip(nodes, each, strict=True)
    )


def _as_records(node: Node, line: str, *, named: bool, pairs: bool) -> StepNode:
    step = "as records"
    if pairs:
        return StepNode(step, line, f"{step}: pairs of columns", node, lambda: AsPairs(step))
    schema = schema_behind(node)
    return StepNode(step, line, f"{step}: rows of columns", node, lambda: AsRecords(named=named), schema=schema)


def forms_of(node: Node) -> Forms:
    """The forms that batches of a node may have, as its steps say it. What functions give to ``map_batches`` is taken
    for what they were given, and for a form of its own where that was records.
    """
    waiting = [node]
    while waiting:
        at = waiting[-1]
        if at in _known:
            waiting.pop()
            continue
        gives = _given(at)
        if gives not in (SAME, SELECTED, WHATEVER):
            _known[at] = frozenset({gives})
            continue
        before = (at.of,) if isinstance(at, StoredNode) else at.inputs
        missing = [one for one in before if one not in _known]
        if missing:
            waiting += missing
            continue
        forms = frozenset[str]().union(*(_known[one] for one in before))
        forms = forms - {EMPTY} or forms
        if isinstance(at, ExchangeNode):
            forms = _delivered(at, forms)
        if gives != SAME:
            forms = frozenset(map(kind_of_form, forms))
        _known[at] = _instead(forms, RECORDS, UNKNOWN) if gives == WHATEVER else forms
    return _known[node]


def note_update(stored: StoredNode, source: Node) -> None:
    """A stored set may have the records of another node from now on."""
    _known[stored] = forms_of(stored) | forms_of(source)


def _given(node: Node) -> str:
    """The form of what a node gives, or that it is the same as of what comes."""
    if isinstance(node, StoredNode):
        return SAME
    if isinstance(node, MeetingNode):
        return RECORDS
    if isinstance(node, ExchangeNode) and node.operator not in (*_AS_THEY_COME, *_BY_COLUMNS, *_BY_PAIRS):
        return RECORDS
    assert isinstance(node, (SourceNode, StepNode, ExchangeNode))
    made: Any = node.make if isinstance(node, SourceNode) else node.make()
    gives: str = getattr(made, "gives", RECORDS)
    return gives


def _delivered(node: ExchangeNode, forms: Forms) -> Forms:
    """The forms of what an operator makes of batches of several forms."""
    if node.operator in _BY_COLUMNS and not _keeps_columns(node.operator, node.options):
        return frozenset({RECORDS})
    kinds = frozenset(map(kind_of_form, forms))
    if node.operator == "net.join" or (node.operator == "net.keyed_gather" and node.options["grouped"]):
        return _instead(kinds, ARRAY, RECORDS)
    return kinds if node.operator == "net.aggregate" else forms


def _instead(forms: Forms, one: str, other: str) -> Forms:
    return forms - {one} | {other} if one in forms else forms


def _keeps_columns(operator: str, options: Mapping[str, Any]) -> bool:
    """Whether an operator looks at columns where there are such, not at single records."""
    key = options.get("key")
    if operator != "net.aggregate" and key is None:
        return options.get("comparator") is None
    named = [*key] if isinstance(key, (list, tuple)) else [key]
    results = options.get("aggregates") or {}
    named += [_column(what) for what in results.values() if what != "count"] if isinstance(results, Mapping) else [None]
    return options.get("comparator") is None and all(isinstance(one, str) for one in named)


def _column(what: Any) -> Any:
    """The column that a result of groups is made of; None where it is made of records."""
    pair = isinstance(what, Sequence) and len(what) == 2 and not isinstance(what, str)
    return what[0] if pair and what[1] not in _OF_RECORDS else None
