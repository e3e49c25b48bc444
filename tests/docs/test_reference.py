"""The reference pages have all that programs use, each with words of its own."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import twister2_net
from twister2.graph import Graph, Stored, typed
from twister2.spec.environment import WorkerEnvironment
from twister2_tset import Grouped, StoredSet, TSet, TSetContext

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def headings(page: str) -> list[tuple[str, str]]:
    parts = re.split(r"^##+ (.*)$", page, flags=re.MULTILINE)
    return [(name.strip("`"), text) for name, text in zip(parts[1::2], parts[2::2], strict=True)]


def entries(page: str) -> dict[str, str]:
    """By heading, without its backquotes: the text below it, up to the next one."""
    return dict(headings(page))


def public(cls: type) -> list[str]:
    return [
        name
        for name, member in inspect.getmembers(cls)
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize(
    ("make", "classes"),
    [
        ("tset_page", [TSet, TSetContext, Grouped, StoredSet]),
        ("graph_page", [Graph, Stored, *(one for one in vars(typed).values() if inspect.isclass(one))]),
        ("program_page", [WorkerEnvironment]),
    ],
)
def test_every_method_is_there(pages, make, classes):
    found = entries(getattr(pages, make)())
    inside = {*pages._INSIDE, "fill", "partition", "need_one_each"}
    for cls in classes:
        if cls.__module__.split(".")[0] not in ("twister2", "twister2_tset") or cls.__name__.startswith("_"):
            continue
        missing = (
            {name for name in public(cls) if name in vars(cls) or cls in (TSet, TSetContext)} - set(found) - inside
        )
        assert not missing, f"{cls.__name__}: {missing}"


def test_every_operator_is_there(pages):
    found = entries(pages.operators_page())
    calls = [name for name in twister2_net.__all__ if callable(getattr(twister2_net, name))]
    assert set(calls) <= set(found)
    assert len(calls) > 20


@pytest.mark.parametrize("make", ["tset_page", "graph_page", "program_page", "operators_page"])
def test_everything_has_words_and_no_addresses(pages, make):
    page = getattr(pages, make)()
    assert page == getattr(pages, make)()
    assert " at 0x" not in page
    assert not re.search(r":(param|ivar|raises|returns)\b", page), "a field of a docstring was not understood"
    assert "``" not in page.replace("```", "")
    bare = [name for name, text in headings(page) if not re.sub(r"```.*?```", "", text, flags=re.DOTALL).strip()]
    assert not bare, f"without a docstring: {bare}"


def test_signatures_say_what_is_in_the_source(pages):
    assert pages.signature("top", TSet.top) == (
        "def top(n: int, key: Key | Callable[[T], Any] | None = None, *, largest: bool = True) -> list[T]"
    )
    found = entries(pages.tset_page())
    assert found["map"].count("\ndef map(") == 2, "both forms of a function"
    assert 'how: Literal["left"]' in found["join"] or "how: Literal['left']" in found["join"]
    assert "* raises `GraphError`: the set is empty and there is no `initial`." in pages.tset_page()
