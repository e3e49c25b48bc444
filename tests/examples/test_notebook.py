"""The notebook: every cell does what its stored output shows.

Cells are run as a notebook runs them, one after the other in a ``__main__`` that has no file, but without a kernel: its
28 packages would be needed for this test alone.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"),
]

RUNNER = """
import ast, contextlib, io, json, sys

def run_cells():
    scope = sys.modules["__main__"].__dict__
    for source in json.load(open(sys.argv[1])):
        tree, shown = ast.parse(source), io.StringIO()
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(shown):
            exec(compile(tree, "<cell>", "exec"), scope)
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), scope) if last else None
        yield shown.getvalue() + ("" if value is None else repr(value))

print(json.dumps(list(run_cells())))
from matplotlib import pyplot
pyplot.gcf().savefig("picture.png")
"""


def test_cells_give_what_the_notebook_shows(jobs: Jobs, examples: Path) -> None:
    notebook = json.loads((examples / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    stored = []
    for cell in cells:
        assert {output["output_type"] for output in cell["outputs"]} <= {"stream", "execute_result", "display_data"}
        texts = (output.get("text") or output["data"].get("text/plain", []) for output in cell["outputs"])
        stored.append("".join(line for text in texts for line in text))
    sources = jobs.folder / "cells.json"
    sources.write_text(json.dumps(["".join(cell["source"]) for cell in cells]))
    jobs.environment["MPLBACKEND"] = "agg"
    done = jobs.python("-", sources, stdin=RUNNER, timeout_s=90)
    assert done.code == 0, done
    found = json.loads(done.out)
    pictures = [
        at for at, cell in enumerate(cells) if any("image/png" in each.get("data", {}) for each in cell["outputs"])
    ]
    assert len(pictures) == 1
    for at, (text, wanted) in enumerate(zip(found, stored, strict=True)):
        assert at in pictures or text == wanted
    assert (jobs.folder / "picture.png").read_bytes().startswith(b"\x89PNG")
