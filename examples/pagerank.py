"""PageRank at TSet level: links stay cached where they lie, ranks are joined to them, in a loop until they are steady.

twister2 submit standalone --workers 4 examples/pagerank.py --pages 5000
python examples/pagerank.py links.txt --workers 4

A file has a link per line: the page it is on, and the page it leads to. Without one, links are made up.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator

import twister2
from twister2_tset import TSetContext

DAMPING = 0.85


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="pagerank.py", description="Rank pages by the links that lead to them.")
    means.add_argument("inputs", nargs="*", metavar="INPUT", help="text with a link per line: FROM TO")
    means.add_argument("--pages", type=int, default=1000, help="how many pages to make up, without INPUT")
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--tolerance", type=float, default=1e-6, help="stop when all ranks together change by less")
    means.add_argument("--iterations", type=int, default=100, help="stop after so many")
    means.add_argument("--top", type=int, default=10, metavar="N", help="how many pages to show")
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def made_links(page: int, pages: int, seed: int) -> list[tuple[str, str]]:
    """The links of one page, mostly to pages with low numbers; every tenth page has none. Equal wherever it is made."""
    numbers = random.Random(seed * pages + page)
    count = 0 if page % 10 == 9 else numbers.randint(1, 8)
    return [(f"page{page}", f"page{int(pages * numbers.random() ** 3)}") for _ in range(count)]


def one_link(line: str) -> tuple[str, str]:
    """The link of a line of a file."""
    page, target = line.split()
    return page, target


def shares(pair: tuple[str, tuple[list[str], float]]) -> Iterator[tuple[str, tuple[float, float]]]:
    """What a page gives: ``(target, (share, 0))`` to each it links to, ``(page, (0, rank))`` to itself."""
    page, (targets, rank) = pair
    yield page, (0.0, rank)
    for target in targets:
        yield target, (rank / len(targets), 0.0)


def both(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Sums of what was given and of what there was."""
    return one[0] + other[0], one[1] + other[1]


def main(env: twister2.WorkerEnvironment) -> list[tuple[str, float]]:
    """Every worker runs the loop; all get the same answer."""
    options = parser().parse_args(env.args)
    context = TSetContext(env, name="pagerank")
    if options.inputs:
        edges = context.read_text(options.inputs).filter(str.strip).map(one_link)
    else:
        edges = context.parallelize(range(options.pages)).flat_map(
            lambda page: made_links(page, options.pages, options.seed)
        )
    ends = edges.flat_map(lambda edge: [(edge[0], [edge[1]]), (edge[1], [])])  # pages that link to nothing count, too
    links = ends.keyed_gather().map_values(lambda parts: sorted({target for part in parts for target in part})).cache()
    n_pages = links.count()
    if not n_pages:
        raise SystemExit("there are no links")
    ranks = links.map_values(lambda targets: 1 / n_pages).cache()
    given = links.join(ranks).flat_map(shares).keyed_reduce(both).lazy_cache()
    lost = 0.0  # the rank of pages without links, which goes to all pages alike

    def rank_of(shared: tuple[float, float]) -> float:
        return (1 - DAMPING) / n_pages + DAMPING * (shared[0] + lost / n_pages)

    iteration, change = 0, 1.0
    with context.evaluating(given) as give, context.evaluating(given.map_values(rank_of), into=ranks) as update:
        while change > options.tolerance and iteration < options.iterations:
            give()
            lost = 1 - given.sum(lambda pair: pair[1][0])
            change = given.sum(lambda pair: abs(rank_of(pair[1]) - pair[1][1]))  # the same number on every worker
            update()
            iteration += 1
            if env.worker_id == 0 and (iteration % 5 == 1 or change <= options.tolerance):
                print(f"iteration {iteration:3}: ranks changed by {change:.2e}")
    n_links = links.sum(lambda pair: len(pair[1]))
    top = ranks.top(options.top, key=lambda pair: (pair[1], pair[0]))
    if env.worker_id == 0:
        print(f"\n{n_pages:,} pages, {n_links:,} links; {options.top} pages with the highest ranks:\n\n{table(top)}")
    return top


def table(top: list[tuple[str, float]]) -> str:
    """A line and a bar for each page."""
    width = max((len(page) for page, _ in top), default=0)
    return "\n".join(f"{page:<{width}}  {rank:8.6f}  {'#' * round(40 * rank / top[0][1])}" for page, rank in top)


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
