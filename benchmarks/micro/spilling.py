"""keyed_gather and join of several times the memory budget: they finish, within the budget, in how much time.

    python benchmarks/micro/spilling.py --times 4 --memory 128 --budget 64

Two workers make pairs as they are sent, so that only the operators hold many. ``resident`` is the largest resident size
of a worker above its size before both, in MiB. The same data with memory for all is measured beside it, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import twister2

VALUE_BYTES = 1000
RECORD_BYTES = VALUE_BYTES + 180
"""About what a pair takes in memory, its place in a list and in a batch included."""


def resident(what: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since :func:`forget_peak`."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(what))


def forget_peak() -> None:
    """The largest resident size begins anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def pairs(n: int, n_keys: int, seed: int) -> Iterator[tuple[int, str]]:
    """Pairs whose keys meet on other workers, and come again."""
    more = "." * VALUE_BYTES
    for number in range(n):
        yield (number * 7919 + seed) % n_keys, f"{seed} {number:012d} {more}"


def program(env: Any) -> dict[str, Any]:
    """Gather and join, count what came."""
    from twister2_net import join, keyed_gather

    n = int(env.args[0])
    env.network  # noqa: B018 - formed before anything is measured
    keyed_gather(env, pairs(1000, 100, 0))  # everything is imported
    found: dict[str, Any] = {"budget": env.memory.use().budget}
    before = resident("VmRSS")
    for name in ("keyed_gather", "join"):
        spilled = env.memory.use().spilled
        forget_peak()
        begin = time.perf_counter()
        records = values = 0
        if name == "keyed_gather":
            got = keyed_gather(env, pairs(n, n // 4, env.worker_id))
            for _, some in got:
                records += 1
                values += len(some)
        else:
            left, right = pairs(n // 2, n, env.worker_id), pairs(n // 2, n, env.worker_id + 7)
            got = join(env, left, right, "full")
            records = values = len(got)
        got.close()
        found[name] = {
            "seconds": time.perf_counter() - begin,
            "records": records,
            "values": values,
            "spilled": env.memory.use().spilled - spilled,
            "resident": resident("VmHWM") - before,
        }
    return found


def measured(n: int, memory_mb: int) -> list[dict[str, Any]]:
    """What each of two workers reports. :param memory_mb: limit of a worker."""
    settings = [f"job.memory_mb={memory_mb}", "job.oversubscribe=true"]
    results: list[dict[str, Any]] = twister2.run(program, args=[str(n)], workers=2, settings=settings)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=float, default=4.0, help="data per worker, in memory budgets")
    parser.add_argument("--memory", type=int, default=160, help="memory limit of a worker, MiB")
    parser.add_argument("--budget", type=int, default=128, help="what of it is left for data, about, MiB")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one line of JSON per run")
    parser.add_argument("--only-short", action="store_true", help="leave out the runs with memory for all")
    given = parser.parse_args()
    n = int(given.times * given.budget * 2**20 / RECORD_BYTES)
    for _ in range(given.rounds):
        for name, memory_mb in (
            ("short", given.memory),
            ("plenty", given.memory + int(given.budget * given.times * 3)),
        ):
            if name == "plenty" and given.only_short:
                continue
            results = measured(n, memory_mb)
            if given.json:
                print(json.dumps({"memory": name, "n": n, "workers": results}), flush=True)
                continue
            for operator in ("keyed_gather", "join"):
                worst = {key: max(one[operator][key] for one in results) for key in results[0][operator]}
                print(
                    f"{operator:13} memory {name:6} budget {results[0]['budget'] >> 20:5} MiB, data "
                    f"{n * RECORD_BYTES >> 20} MiB: {worst['seconds']:.1f} s, resident {worst['resident'] >> 20} MiB, "
                    f"spilled {worst['spilled'] >> 20} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
