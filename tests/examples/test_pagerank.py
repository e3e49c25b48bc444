"""PageRank as a whole job, against numpy's power iteration."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)


def power_iteration(edges: set[tuple[str, str]], tolerance: float) -> dict[str, float]:
    """Ranks by a dense matrix, one column per page."""
    pages = sorted({page for edge in edges for page in edge})
    matrix = np.zeros((len(pages), len(pages)))
    for page, target in edges:
        matrix[pages.index(target), pages.index(page)] = 1
    degrees = matrix.sum(axis=0)
    matrix[:, degrees == 0] = 1
    matrix /= matrix.sum(axis=0)
    ranks = np.full(len(pages), 1 / len(pages))
    while True:
        moved = 0.15 / len(pages) + 0.85 * matrix @ ranks
        if abs(moved - ranks).sum() <= tolerance:
            return dict(zip(pages, moved.tolist(), strict=True))
        ranks = moved


def shown_ranks(out: str) -> dict[str, float]:
    return {page: float(rank) for page, rank in re.findall(r"^(\S+) +(0\.\d{6})  #+$", out, re.MULTILINE)}


def test_ranks_are_those_of_a_power_iteration(
    jobs: Jobs, examples: Path, transport: tuple[str, ...], tmp_path: Path
) -> None:
    numbers = random.Random(3)
    edges = {(f"p{numbers.randrange(30)}", f"p{int(60 * numbers.random() ** 2)}") for _ in range(120)}
    lines = [f"{page} {target}" for page, target in sorted(edges)]
    (tmp_path / "a.txt").write_text("\n".join([*lines[:50], "", lines[0]]) + "\n")  # a blank line, and a link twice
    (tmp_path / "b.txt").write_text("\n".join(lines[50:]))
    args = [f"{tmp_path}/a.txt", f"{tmp_path}/b.txt", "--tolerance", "1e-9", "--top", "100"]
    done = jobs.submit(examples / "pagerank.py", *transport, workers=3, args=args)
    assert done.code == 0, done
    expected = power_iteration(edges, 1e-9)
    found = shown_ranks(done.out)
    assert found == pytest.approx(expected, abs=1e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert f"{len(expected)} pages, {len(edges)} links" in done.out


def test_by_python_alone_with_links_of_its_own(jobs: Jobs, examples: Path) -> None:
    done = jobs.python(examples / "pagerank.py", "--pages", "100", "--tolerance", "1e-3", "--top", "3")
    assert done.code == 0, done
    changes = [float(text) for text in re.findall(r"changed by (\S+)", done.out)]
    assert changes[-1] <= 1e-3 < changes[0]
    assert len(shown_ranks(done.out)) == 3


def test_no_links(jobs: Jobs, examples: Path, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n")
    done = jobs.submit(examples / "pagerank.py", args=[str(tmp_path / "none.txt")])
    assert done.code != 0, done
    assert "there are no links" in done.err
