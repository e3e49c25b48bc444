"""What a plot shows when only some operations were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twister2_bench.results import Results

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.filterwarnings("error")

TIMES = {"transport": "shm", "min_s": 1e-6, "median_s": 2e-6, "p99_s": 3e-6, "max_s": 4e-6, "right": True}
BARRIER = {"operation": "barrier", "size": 0, "between": "all", **TIMES}
ALLREDUCE = {"operation": "allreduce", "size": 8, "between": "all", **TIMES}
LATENCY = {"operation": "latency", "size": 8, "between": "0-1", "purpose": "sweep", **TIMES}
BANDWIDTH = {**LATENCY, "operation": "bandwidth", "bytes_per_s": 1e9}
SKIPPED = {"operation": "alltoall", "size": 8, "between": "all", "transport": "shm", "skipped": "too large"}
PANELS = ("latency", "bandwidth", "collectives")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """``drawn(rows)``: labels of the lines in each panel, None where it says that nothing was measured."""
    from matplotlib.figure import Figure

    from twister2_bench.plot import plot

    figures: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *to, **how: (figures.append(self), save(self, *to, **how)))

    def labels(axes: Any) -> list[str] | None:
        found = [line.get_label() for line in axes.get_lines()]
        nothing = "not measured" in [text.get_text() for text in axes.texts]
        assert nothing == (not found) == (not axes.axison)
        return found or None

    def draw(*rows: dict[str, Any]) -> dict[str, list[str] | None]:
        workers = [
            {"facts": {"host": "h", "routes": {1 - one: "shm"}, "cpu": "c"}, "rows": () if one else rows}
            for one in range(2)
        ]
        plot(Results.of("standalone", workers), tmp_path / "comm.png")
        assert (tmp_path / "comm.png").read_bytes().startswith(b"\x89PNG")
        return dict(zip(PANELS, map(labels, figures.pop().axes), strict=True))

    return draw


def test_panels_of_what_was_not_measured_have_no_axes(drawn: Any) -> None:
    assert drawn(LATENCY) == {"latency": ["0-1 (shm)"], "bandwidth": None, "collectives": None}
    assert drawn(BANDWIDTH) == {"latency": None, "bandwidth": ["bandwidth 0-1 (shm)"], "collectives": None}
    assert drawn(ALLREDUCE) == {"latency": None, "bandwidth": None, "collectives": ["allreduce"]}
    assert drawn() == drawn(SKIPPED) == dict.fromkeys(PANELS)


def test_a_barrier_is_a_line_of_its_own_or_beside_others(drawn: Any) -> None:
    assert drawn(BARRIER) == {"latency": None, "bandwidth": None, "collectives": ["barrier"]}
    assert drawn(BARRIER, ALLREDUCE)["collectives"] == ["allreduce", "barrier"]
    assert drawn(BARRIER, SKIPPED)["collectives"] == ["barrier"]
