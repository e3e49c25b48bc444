"""The plot of k-means: a picture where matplotlib is, a clear word where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)
ARGS = ["--points", "600", "--clusters", "3", "--iterations", "4", "--seed", "11"]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_the_picture_shows_a_panel_per_iteration(jobs: Jobs, examples: Path) -> None:
    from matplotlib import image

    done = jobs.submit(examples / "kmeans.py", workers=2, args=[*ARGS, "--plot", "clusters.png"])
    assert done.code == 0, done
    assert "clusters of each iteration: clusters.png" in done.out
    picture = image.imread(jobs.folder / "clusters.png")
    height, width, _ = picture.shape
    assert (height, width) == (720, 1200)
    colours = picture[..., :3]
    coloured = colours.max(axis=2) - colours.min(axis=2) > 0.2
    panels = [coloured[y : y + 360, x : x + 400].mean() for y in (0, 360) for x in (0, 400, 800)]
    assert min(panels[:5]) > 0.005, panels  # before, and after each of the four iterations
    assert panels[5] == 0
    dark = (colours.max(axis=2) < 0.1)[:360]
    assert not np.array_equal(dark[:, :400], dark[:, 400:800])  # the centres have moved


def test_without_matplotlib_it_says_so_before_it_begins(jobs: Jobs, examples: Path) -> None:
    program = jobs.program(
        """
        import importlib.util

        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name == "matplotlib" else found(name, package)
        from kmeans import main
        """
    )
    (jobs.folder / "kmeans.py").write_text((examples / "kmeans.py").read_text(encoding="utf-8"), encoding="utf-8")
    done = jobs.submit(program, workers=2, args=[*ARGS, "--plot", "clusters.png"])
    assert done.code != 0, done
    assert "--plot needs matplotlib: pip install matplotlib" in done.err
    assert "iterations over" not in done.out
    assert not (jobs.folder / "clusters.png").exists()
