"""Results as a picture: latency, bandwidth and collectives by size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2_bench.units import shown_size

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from twister2_bench.results import Results, Row

COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7f3c8d", "#000000", "#8c564b", "#999999", "#117733"),
)
"""Told apart by most people who see colours differently; the markers differ too."""
MARKERS = "osD^vP*X<>h"
INK = "#333333"
SHORT_AXIS = 1000.0
"""Ratio of the ends of an axis up to which there is room for more labels."""


def plot(results: Results, path: pathlib.Path) -> None:
    """Write the picture; its format is that of the file's suffix (PNG, SVG, PDF).

    :raises OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["latency", "bandwidth"], ["collectives", "collectives"]], height_ratios=(1, 1.35))
    hosts = len({facts["host"] for facts in results.facts})
    transports = ", ".join(sorted({transport for transport, _ in results.routes}))
    figure.suptitle(
        f"{len(results.facts)} workers on {hosts} host{'s' * (hosts != 1)} over {transports}, "
        f"{results.facts[0]['cpu']}, profile {results.profile}",
        fontsize=13,
        color=INK,
    )
    latency = _by(results.sweep, lambda row: row["operation"] == "latency", "between")
    _panel(panels["latency"], "latency, half a round trip (band: least to 99th percentile)", _time)
    _lines(panels["latency"], latency, "median_s", band=True)
    rates = _by(results.sweep, lambda row: "bytes_per_s" in row, "operation", "between")
    _panel(panels["bandwidth"], "bandwidth, windows of messages", lambda rate: f"{rate / 1e6:,.6g} MB/s")
    _lines(panels["bandwidth"], rates, "bytes_per_s")
    collectives = _by(results.collectives, lambda row: row["size"] > 0 and "skipped" not in row, "operation")
    barriers = [row["median_s"] for row in results.collectives if row["operation"] == "barrier"]
    _panel(panels["collectives"], "collectives, median time until the slowest worker has its part", _time)
    if collectives or not barriers:
        _lines(panels["collectives"], collectives, "median_s", beside=True)
    else:
        panels["collectives"].set(xticks=[], xlabel="", ylim=(min(barriers) / 10, max(barriers) * 10))
        _ticks(panels["collectives"])
    for seconds in barriers:
        panels["collectives"].axhline(seconds, color=INK, linestyle=":", linewidth=1.2, label="barrier")
        _legend(panels["collectives"], beside=True)
    figure.savefig(path, dpi=120)


def _time(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= 0.999 * unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds * 1e9:g} ns"


def _apart(sizes: Sequence[int]) -> list[int]:
    """Those whose labels do not touch, the largest among them."""
    kept: list[int] = []
    for size in reversed(sizes):
        if not kept or size * 4 <= kept[-1]:
            kept.append(size)
    return kept


def _by(rows: Sequence[Row], wanted: Any, *keys: str) -> dict[str, list[Row]]:
    """Rows by what they are called in the legend."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if wanted(row):
            name = " ".join(f"{row[key]} ({row['transport']})" if key == "between" else str(row[key]) for key in keys)
            found.setdefault(name, []).append(row)
    return found


def _panel(axes: Axes, title: str, shown: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("size", color=INK)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: shown_size(int(size))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, which="both")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _lines(axes: Axes, rows: dict[str, list[Row]], field: str, *, band: bool = False, beside: bool = False) -> None:
    sizes = sorted({row["size"] for of in rows.values() for row in of})
    if not sizes:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#888888")
        axes.set_axis_off()
        return
    axes.set_xticks(_apart(sizes), minor=False)
    axes.set_xticks([], minor=True)
    for index, (name, of) in enumerate(rows.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        x = [row["size"] for row in of]
        axes.plot(x, [row[field] for row in of], color=colour, marker=marker, markersize=5, linewidth=1.6, label=name)
        if band:
            axes.fill_between(
                x, [row["min_s"] for row in of], [row["p99_s"] for row in of], color=colour, alpha=0.15, linewidth=0
            )
    _ticks(axes)
    _legend(axes, beside=beside)


def _ticks(axes: Axes) -> None:
    """Labels at 1, 2 and 5 where the axis is short, else at powers of ten; none between them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < SHORT_AXIS else (1.0,)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, *, beside: bool) -> None:
    if beside:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10, labelcolor=INK)
    else:
        axes.legend(loc="upper left", frameon=False, fontsize=9, labelcolor=INK)
