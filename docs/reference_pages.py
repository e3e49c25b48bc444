"""Reference pages of what programs use: classes and functions with their signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
import typing
from typing import TYPE_CHECKING, Any, NamedTuple

import twister2
import twister2_net
from twister2 import graph
from twister2.graph import typed
from twister2.spec import declarations, environment, placing, plan, running, sched, tasks
from twister2_tset import (
    Evaluation,
    Grouped,
    LazyEnd,
    ReadReport,
    SetContext,
    StoredSet,
    TSet,
    TSetContext,
    actions,
    ending,
    keyed_steps,
    narrow_steps,
    reading,
    set_steps,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROLE = re.compile(r":[a-z]+:`~?([^`<]*)`")
_FIELD = re.compile(r"(?:^|(?<=\s)):(param|raises|returns|ivar|cvar)\b ?([^:\n]*):(?=\s)", re.MULTILINE)
_SENTINEL = re.compile(r"<object object at [^>]*>|<function [^>]*>|<factory>")


class Entry(NamedTuple):
    """A class or function on a page.

    :ivar title: its heading, its name when empty. :ivar made: whether programs call the class themselves.
    :ivar without: public methods that are for other modules, not for programs.
    """

    what: Any
    title: str = ""
    made: bool = False
    without: tuple[str, ...] = ()
    text: str = ""


def markdown(documented: object) -> str:
    """A docstring (or the one of an object) as Markdown: roles become code, fields a list, ``::`` a block of code."""
    text = inspect.cleandoc(documented) if isinstance(documented, str) else inspect.getdoc(documented) or ""
    text = _ROLE.sub(lambda match: f"`{match.group(1).rpartition('.')[2]}`", text).replace("``", "`")
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    body, *fields = _FIELD.split(text)
    items = [
        f"* {_field(kind, name)}: {' '.join(said.split())}"
        for kind, name, said in zip(fields[::3], fields[1::3], fields[2::3], strict=True)
    ]
    return "\n\n".join(part for part in (body.strip(), "\n".join(items)) if part)


def _field(kind: str, name: str) -> str:
    if kind == "returns":
        return "returns"
    names = ", ".join(f"`{one.strip()}`" for one in name.split(","))
    return f"raises {names if name.strip() else ''}".strip() if kind == "raises" else names


class _Written:
    """An annotation as it stands in the source."""

    def __init__(self, annotation: Any) -> None:
        self._text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self._text


def signature(name: str, function: Callable[..., Any]) -> str:
    """``def name(...) -> ...`` without ``self``."""
    found = inspect.signature(function)
    parameters = [
        one.replace(annotation=one.empty if one.annotation is one.empty else _Written(one.annotation))
        for one in found.parameters.values()
        if one.name not in ("self", "cls")
    ]
    returns = (
        found.empty if found.return_annotation in (found.empty, "None", None) else _Written(found.return_annotation)
    )
    text = str(found.replace(parameters=parameters, return_annotation=returns))
    line = f"def {name}{_SENTINEL.sub('...', text)}"
    return textwrap.fill(line, 110, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _code(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _function(name: str, function: Callable[..., Any], level: str, title: str = "") -> Iterator[str]:
    yield f"{level} `{title or name}`"
    overloads = typing.get_overloads(function)
    yield _code([signature(name, one) for one in overloads or [function]])
    yield markdown(function)


def _class(entry: Entry) -> Iterator[str]:
    cls = entry.what
    yield entry.text or markdown(cls)
    if entry.made:
        yield _code([signature(cls.__name__, cls.__init__).removeprefix("def ")])
        if cls.__init__.__doc__ and "__attrs_attrs__" not in vars(cls):
            yield markdown(cls.__init__)
    for name, annotation, said in _attributes(cls):
        yield f"### `{name}`"
        yield _code([f"{name}: {annotation}"])
        yield said
    for name, member in vars(cls).items():
        if (name.startswith("_") and name != "__call__") or name in entry.without:
            continue
        if isinstance(member, property):
            returns = _Written(inspect.signature(member.fget).return_annotation)  # type: ignore[arg-type]
            yield f"### `{name}`"
            yield _code([f"{name}: {returns}"])
            yield markdown(member.fget)
        elif isinstance(member, (staticmethod, classmethod)):
            yield from _function(name, member.__func__, "###")
        elif inspect.isfunction(member):
            yield from _function(name, member, "###")


def _attributes(cls: type) -> Iterator[tuple[str, str, str]]:
    """Name, annotation and words of the attributes that have a string behind them."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for statement, behind in itertools.pairwise(tree.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(behind, ast.Expr):
            said = markdown(ast.literal_eval(behind.value))
            yield ast.unparse(statement.target), ast.unparse(statement.annotation), said


def page(title: str, intro: str, entries: list[Entry]) -> str:
    """A page with a heading for each entry."""
    parts = [f"# {title}", intro]
    for entry in entries:
        name = getattr(entry.what, "__name__", "")
        if inspect.isclass(entry.what):
            parts.append(f"## {entry.title or f'`{name}`'}")
            parts += _class(entry)
        else:
            parts += _function(name, entry.what, "##", entry.title)
    return "\n\n".join(filter(None, parts)) + "\n"


_INSIDE = ("run_once", "run_leaf", "explain", "unique", "check_open", "fill_all")


def tset_page() -> str:
    """Sets, and where they begin."""
    entries = [
        Entry(TSetContext, made=True, without=_INSIDE),
        Entry(reading.Readers, "`TSetContext`: sets of files", text="Where sets begin that are read from files."),
        Entry(TSet),
        Entry(narrow_steps.NarrowSteps, "`TSet`: steps within partitions", text="They give a set, and run nothing."),
        Entry(keyed_steps.KeyedSteps, "`TSet`: steps of pairs", text="Of sets whose records are pairs `(key, value)`."),
        Entry(set_steps.SetSteps, "`TSet`: steps between partitions", text="Of records of any kind."),
        Entry(actions.Actions, "`TSet`: actions", text="They run one graph on all workers and give each its value."),
        Entry(ending.Endings, "`TSet`: what is kept, written and called", text="Ends of sets."),
        *map(Entry, (Grouped, StoredSet, Evaluation, LazyEnd, SetContext, ReadReport)),
    ]
    return page(
        "TSets", "Generated from `twister2_tset`; the [guide](../../guide/tset.md) shows how it is used.", entries
    )


def graph_page() -> str:
    """Task graphs, their tasks and schedulers."""
    entries = [
        Entry(graph.Graph, made=True),
        Entry(graph.Vertex),
        Entry(graph.Edge),
        Entry(graph.Stored, made=True, without=("fill", "partition", "need_one_each")),
        Entry(declarations.Declarations, made=True),
        *map(Entry, (running.Prepared, running.Running)),
        *map(Entry, (tasks.Task, tasks.Source, tasks.Compute, tasks.Sink, tasks.TaskContext)),
        *(
            Entry(member)
            for name, member in vars(typed).items()
            if inspect.isclass(member) and member.__module__ == typed.__name__ and not name.startswith("_")
        ),
        *map(Entry, (sched.TaskScheduler, sched.ScheduleRequest, plan.VertexPlan, plan.EdgePlan)),
        Entry(plan.Placement, made=True),
        *(
            Entry(function)
            for name, function in vars(placing).items()
            if inspect.isfunction(function) and not name.startswith("_")
        ),
    ]
    intro = (
        "Generated from `twister2.graph`, `twister2.spec.tasks`, `twister2.graph.typed`, `twister2.spec.sched` and "
        "`twister2.spec.placing`; the [guide](../../guide/taskgraph.md) shows how they are used."
    )
    return page("Task graphs", intro, entries)


def program_page() -> str:
    """What a worker program gets, and what starts one."""
    entries = [
        Entry(environment.WorkerEnvironment),
        *map(Entry, (environment.WorkerController, environment.WorkerInfo, environment.NodeFacts)),
        Entry(environment.StateVariable),
        *(
            Entry(getattr(twister2, name), f"twister2.{name}")
            for name in ("run", "register_serializer", "register_key", "register_comparator")
        ),
    ]
    intro = "Generated from `twister2`; the [guide](../../guide/worker-level.md) shows how it is used."
    return page("Programs", intro, entries)


def operators_page() -> str:
    """The calls of the operators."""
    calls = [Entry(getattr(twister2_net, name)) for name in twister2_net.__all__]
    intro = "Generated from `twister2_net`; the [guide](../../guide/operators.md) shows how they are used."
    return page("Operators", intro, [entry for entry in calls if callable(entry.what)])
