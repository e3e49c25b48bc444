"""Count the words of text files: any paths, globs or URIs, plain or gzip.

twister2 submit standalone --workers 4 examples/wordcount.py 'books/*.txt' --top 10 --output counts
python examples/wordcount.py 'books/*.txt' --workers 4

With --output the full counts go to OUTPUT/parquet and OUTPUT/csv, most frequent words first.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import twister2
from twister2_tset import ReadReport, TSetContext


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    words = argparse.ArgumentParser(prog="wordcount.py", description="Count the words of text files.")
    words.add_argument("inputs", nargs="+", metavar="INPUT", help="path, glob or URI of text; gzip by its name")
    words.add_argument("--top", type=int, default=20, metavar="N", help="how many words to show (default: 20)")
    words.add_argument("--output", metavar="DIR", help="folder for the full counts as Parquet and CSV")
    words.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes, when run by python alone")
    return words


def rank(pair: tuple[str, int]) -> tuple[int, str]:
    """The order of the answer: frequent words first, equal ones by alphabet."""
    return -pair[1], pair[0]


def count_of(pair: tuple[str, int]) -> int:
    """The count of a word."""
    return pair[1]


def main(env: twister2.WorkerEnvironment) -> dict[str, object]:
    """Every worker calls this; all of them get the same answer, worker 0 shows it."""
    options = parser().parse_args(env.args)

    def say(text: str) -> None:
        if env.worker_id == 0:
            print(text, flush=True)

    context = TSetContext(env, name="wordcount")
    counts = context.read_text(options.inputs).flat_map(str.split).count_by_value()
    plan = counts.explain()
    say(f"counting with {env.n_workers} worker{'s' if env.n_workers != 1 else ''}")
    started = time.perf_counter()
    counts = counts.cache()
    seconds = time.perf_counter() - started
    total = counts.map(count_of).reduce("sum", initial=0)
    distinct = counts.count()
    top = counts.top(options.top, key=rank, largest=False)
    report = context.read_report()

    say(f"\n{table(top)}\n")
    say(f"{total:,} words, {distinct:,} different, in {rates(report, total, seconds)}")
    for skipped in report.skipped:
        say(f"skipped {skipped}")
    if options.output:
        ranked = counts.sort(key=rank).cache()
        ranked.write_parquet(os.path.join(options.output, "parquet"), column_names=["word", "count"])
        ranked.write_csv(os.path.join(options.output, "csv"), column_names=["word", "count"])
        say(f"all counts: {options.output}/parquet and {options.output}/csv")
    say(f"\nhow it was counted:\n{plan}")
    return {"total": total, "distinct": distinct, "top": top, "skipped": list(report.skipped)}


def table(top: list[tuple[str, int]]) -> str:
    """The words with their counts, and a bar for each."""
    if not top:
        return "no words"
    width = max(len("word"), *(len(shown(word)) for word, _ in top))
    digits = max(len("count"), len(f"{top[0][1]:,}"))
    lines = [f"{'word':<{width}}  {'count':>{digits}}"]
    for word, count in top:
        bar = "#" * max(1, round(40 * count / top[0][1]))
        lines.append(f"{shown(word):<{width}}  {count:>{digits},}  {bar}")
    return "\n".join(lines)


def shown(word: str, limit: int = 40) -> str:
    """A word on one line, cut."""
    text = word if word.isprintable() else ascii(word)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def rates(report: ReadReport, words: int, seconds: float) -> str:
    """How fast it was."""
    return (
        f"{seconds:.2f} s: {words / seconds:,.0f} words/s; "
        f"{report.records:,} lines read ({report.records / seconds:,.0f} records/s), "
        f"{report.n_bytes / 1e6:,.1f} MB of files ({report.n_bytes / seconds / 1e6:,.1f} MB/s)"
    )


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
