"""Results as text: who measured, and a table for each operation."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twister2_bench.units import shown_size, shown_time, significant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_bench.results import Results, Row

SHOWN_PAIRS = 6
SHOWN_HOSTS = 8
TIMES = ("min_s", "median_s", "p99_s", "max_s")
MEANING = {
    "latency": "one way, half a round trip",
    "bandwidth": "one way, windows of messages",
    "bidirectional": "both ways at the same time, windows of messages",
    "barrier": "no data",
    "broadcast": "size: the array",
    "reduce": "size: the array of each worker",
    "allreduce": "size: the array of each worker",
    "scan": "size: the array of each worker",
    "exscan": "size: the array of each worker",
    "reduce_scatter": "size: the array of each worker",
    "gather": "size: what each worker gives",
    "allgather": "size: what each worker gives",
    "scatter": "size: what each worker gets",
    "alltoall": "size: what each worker gives to each",
}


def text_of(results: Results) -> str:
    """Everything, as it is printed."""
    parts = ["\n".join(_circumstances(results))]
    for test in dict.fromkeys(row["operation"] for row in results.sweep):
        for between in dict.fromkeys(row["between"] for row in results.sweep):
            rows = [row for row in results.sweep if (row["operation"], row["between"]) == (test, between)]
            parts.append(_pair_test(test, rows, results))
    if results.pairs:
        parts.append(_pairs(results.pairs))
    for operation in dict.fromkeys(row["operation"] for row in results.collectives):
        parts.append(_collective(operation, [row for row in results.collectives if row["operation"] == operation]))
    if results.collectives:
        parts.append("A call of a collective takes as long as its slowest worker; the workers begin it together.")
    return "\n\n".join(parts)


def _circumstances(results: Results) -> Iterator[str]:
    facts = results.facts
    yield f"{len(facts)} workers, profile {results.profile}"
    hosts = Counter((each["host"], each["cpu"], each["cores"]) for each in facts)
    for (host, cpu, cores), count in list(hosts.items())[:SHOWN_HOSTS]:
        yield f"  host        {host}: {cpu}, {cores} core{'s' * (cores != 1)}, {count} worker{'s' * (count != 1)}"
    if len(hosts) > SHOWN_HOSTS:
        yield f"  host        ... and {len(hosts) - SHOWN_HOSTS} more"
    for (transport, same), pairs in results.routes.items():
        shown = ", ".join(pairs[:SHOWN_PAIRS]) + (f" and {len(pairs) - SHOWN_PAIRS} more" * (len(pairs) > SHOWN_PAIRS))
        yield f"  transport   {transport} {'inside a host' if same else 'between hosts'}: {shown}"
    for index, versions in enumerate(dict.fromkeys(tuple(each["versions"].items()) for each in facts)):
        yield f"  {'versions' if not index else '   others'}    {', '.join(f'{name} {of}' for name, of in versions)}"
    yield "  messages    between two workers pass through a port of the network, as those of operators do"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)]
    return "\n".join([title, *(f"  {line}" for line in lines)])


def _times(row: Row) -> list[str]:
    return [shown_time(row[name]) for name in TIMES]


def _rates(row: Row) -> list[str]:
    return [f"{significant(row['bytes_per_s'] / 1e6)} MB/s", f"{row['messages_per_s']:,.0f}/s"]


def _pair_test(test: str, rows: Sequence[Row], results: Results) -> str:
    hosts = [results.facts[int(worker)]["host"] for worker in rows[0]["between"].split("-")]
    where = "inside a host" if hosts[0] == hosts[1] else "between hosts"
    title = f"{test}: workers {rows[0]['between']} over {rows[0]['transport']} {where} ({MEANING[test]})"
    if test == "latency":
        cells = [[shown_size(row["size"]), *_times(row), str(row["calls"])] for row in rows]
        return _table(title, ("size", "min", "median", "p99", "max", "calls"), cells)
    heads = ("size", "bandwidth", "messages", "window", "min", "median", "p99", "max", "calls")
    cells = [
        [shown_size(row["size"]), *_rates(row), str(row["window"]), *_times(row), str(row["calls"])] for row in rows
    ]
    return _table(title, heads, cells)


def _pairs(rows: Sequence[Row]) -> str:
    cells = []
    for between in dict.fromkeys(row["between"] for row in rows):
        of = {row["operation"]: row for row in rows if row["between"] == between}
        latency, bandwidth = of.get("latency"), of.get("bandwidth")
        cells.append([
            between,
            next(iter(of.values()))["transport"],
            shown_time(latency["median_s"]) if latency else "-",
            shown_time(latency["p99_s"]) if latency else "-",
            _rates(bandwidth)[0] if bandwidth else "-",
        ])  # fmt: skip
    sizes = dict.fromkeys(f"{row['operation']} of {shown_size(row['size'])}" for row in rows)
    title = f"pairs of workers, one after another: {', '.join(sizes)}"
    return _table(title, ("workers", "transport", "latency", "p99", "bandwidth"), cells)


def _collective(operation: str, rows: Sequence[Row]) -> str:
    heads = ("size", "min", "median", "p99", "max", "fastest rank", "slowest rank", "calls")
    cells = []
    for row in rows:
        if "skipped" in row:
            cells.append([shown_size(row["size"]), *["-"] * 6, "skipped"])
            continue
        ranks = [shown_time(row["fastest_rank_s"]), shown_time(row["slowest_rank_s"])]
        cells.append([shown_size(row["size"]), *_times(row), *ranks, str(row["calls"])])
    notes = dict.fromkeys(row["skipped"] for row in rows if "skipped" in row)
    return "\n".join(
        [_table(f"{operation} ({MEANING[operation]})", heads, cells), *(f"  skipped: {it}" for it in notes)]
    )
