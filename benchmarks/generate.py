"""Make the inputs and the expected answers, under $BENCH_DATA (default: bench-data in the temporary folder).

    <venvs>/main/bin/python generate.py --size full|small|large|skew [INPUT...]    inputs: text, points, records, tables

The answers come from the making of the inputs or from a plain numpy program, not from any contestant's code. The same
size gives the same bytes everywhere.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
from harness.contestants import DATA
from harness.records import RECORD, checksum, columns
from harness.sizes import GROUPBY, JOIN, KMEANS, PARTS, RECORDS, WORDCOUNT_BYTES, TableSize

VOCABULARY = 100_000
ZIPF_EXPONENT = 1.05
WORDS_PER_LINE = 12
TOP = 20
LETTERS = np.frombuffer(b"etaoinshrdlcumwfgypbvkjxqz", dtype=np.uint8)
CHUNK_WORDS = 1_200_000
POINTS_AT_ONCE = 20_000


def vocabulary(random: np.random.Generator) -> list[bytes]:
    """Different made-up words; the first, which will be the frequent ones, are mostly short, as in prose."""
    words: set[bytes] = set()
    while len(words) < VOCABULARY:
        letters = np.minimum(random.geometric(0.13, int(random.integers(2, 11))) - 1, len(LETTERS) - 1)
        words.add(LETTERS[letters].tobytes())
    ordered = sorted(words)
    rank = np.array([len(word) for word in ordered]) + random.random(len(ordered)) * 6
    return [ordered[index] for index in np.argsort(rank, kind="stable")]


def make_text(size: str) -> None:
    """Lines of words drawn by Zipf's law, ASCII, one blank between words."""
    random = np.random.default_rng(7)
    words = vocabulary(random)
    lengths = np.array([len(word) + 1 for word in words])
    letters = np.frombuffer(b" ".join(words) + b" ", dtype=np.uint8)
    starts = np.cumsum(lengths) - lengths
    weights = 1.0 / np.arange(1, len(words) + 1) ** ZIPF_EXPONENT
    cumulated = np.cumsum(weights / weights.sum())
    counts = np.zeros(len(words), dtype=np.int64)
    written = 0
    with (DATA / f"words-{size}.txt").open("wb") as file:
        while written < WORDCOUNT_BYTES[size]:
            drawn = np.minimum(np.searchsorted(cumulated, random.random(CHUNK_WORDS)), len(words) - 1)
            counts += np.bincount(drawn, minlength=len(words))
            ends = np.cumsum(lengths[drawn])
            begins = ends - lengths[drawn]
            chunk = letters[np.arange(ends[-1]) + np.repeat(starts[drawn] - begins, lengths[drawn])]
            chunk[ends[WORDS_PER_LINE - 1 :: WORDS_PER_LINE] - 1] = ord("\n")
            file.write(chunk.tobytes())
            written += chunk.size
    top = sorted((-int(count), word.decode()) for word, count in zip(words, counts, strict=True))[:TOP]
    expected = {
        "top": [[word, -count] for count, word in top],
        "distinct": int((counts > 0).sum()),
        "total": int(counts.sum()),
    }
    (DATA / f"expected-wordcount-{size}.json").write_text(json.dumps(expected))


def lloyd(
    points: npt.NDArray[np.float64], centroids: npt.NDArray[np.float64], iterations: int
) -> npt.NDArray[np.float64]:
    """k-means the plain way, by all distances (the square of each point is the same for all centroids)."""
    for _ in range(iterations):
        norms = (centroids * centroids).sum(axis=1)
        blocks = np.array_split(points, max(1, len(points) // POINTS_AT_ONCE))
        nearest = np.concatenate([(norms - 2 * block @ centroids.T).argmin(axis=1) for block in blocks])
        members = [points[nearest == cluster] for cluster in range(len(centroids))]
        centroids = np.array([m.mean(axis=0) if len(m) else c for m, c in zip(members, centroids, strict=True)])
    return centroids


def make_points(size: str) -> None:
    """Points around random centres, the first centroids (drawn from the points), and the centroids to arrive at."""
    shape = KMEANS[size]
    random = np.random.default_rng(11)
    centres = random.normal(0, 5, (shape.clusters, shape.dimensions))
    noise = random.normal(0, 2, (shape.points, shape.dimensions))
    points = centres[random.integers(0, shape.clusters, shape.points)] + noise
    centroids = points[random.choice(shape.points, shape.clusters, replace=False)]
    np.save(DATA / f"points-{size}.npy", points)
    np.save(DATA / f"centroids-{size}.npy", centroids)
    expected = lloyd(points, centroids, shape.iterations).tolist()
    (DATA / f"expected-kmeans-{size}.json").write_text(json.dumps(expected))


def write_table(path: str, table: pyarrow.Table) -> None:
    """A Parquet file as other systems read it fastest."""
    pyarrow.parquet.write_table(table, DATA / path, compression="none", use_dictionary=False)


def make_records(size: str) -> None:
    """Records of 100 bytes with random keys of ten: raw files, and the same as Parquet with columns for the key."""
    random = np.random.default_rng(13)
    per_part = RECORDS[size] // PARTS
    total = 0
    for part in range(PARTS):
        raw = np.empty((per_part, RECORD.itemsize), np.uint8)
        raw[:, :10] = random.integers(0, 256, (per_part, 10), np.uint8)
        numbers = np.arange(part * per_part, (part + 1) * per_part)
        raw[:, 10:18] = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)
        raw[:, 18:] = (ord("a") + numbers % 26).astype(np.uint8)[:, np.newaxis]
        records = raw.view(RECORD)[:, 0]
        total += checksum(records)
        raw.tofile(DATA / f"records-{size}-{part}.bin")
        made = columns(records)
        rest = pyarrow.FixedSizeBinaryArray.from_buffers(
            pyarrow.binary(90), per_part, [None, pyarrow.py_buffer(made["rest"].tobytes())]
        )
        table = pyarrow.table({"prefix": made["prefix"], "suffix": made["suffix"], "rest": rest.cast(pyarrow.binary())})
        write_table(f"records-{size}-{part}.parquet", table)
    expected = {"records": per_part * PARTS, "checksum": total % 2**64}
    (DATA / f"expected-terasort-{size}.json").write_text(json.dumps(expected))


def write_parts(name: str, size: str, made: dict[str, npt.NDArray[np.generic]]) -> None:
    """A table in parts: each as a Parquet file, and each column of it as an npy file."""
    rows = len(next(iter(made.values())))
    for part in range(PARTS):
        mine = slice(rows * part // PARTS, rows * (part + 1) // PARTS)
        some = {column: values[mine] for column, values in made.items()}
        write_table(f"{name}-{size}-{part}.parquet", pyarrow.table(some))
        for column, values in some.items():
            np.save(DATA / f"{name}-{size}-{column}-{part}.npy", values)


def keys_of(random: np.random.Generator, shape: TableSize) -> npt.NDArray[np.int64]:
    """A column of keys; the frequent ones are not neighbours."""
    if not shape.exponent:
        return random.integers(0, shape.keys, shape.rows)
    cumulated = np.cumsum(1.0 / np.arange(1, shape.keys + 1) ** shape.exponent)
    ranks = np.searchsorted(cumulated, random.random(shape.rows) * cumulated[-1])
    return random.permutation(shape.keys)[np.minimum(ranks, shape.keys - 1)]


def make_tables(size: str) -> None:
    """Two tables to join, one to group; the answers by counting and summing over all possible keys."""
    random = np.random.default_rng(17)
    shape = JOIN[size]
    rows, keys = shape.rows, shape.keys
    left, right = keys_of(random, shape), keys_of(random, TableSize(rows, keys))
    a, b = random.random(rows), random.random(rows)
    write_parts("left", size, {"k": left, "a": a})
    write_parts("right", size, {"k": right, "b": b})
    counts, others = (np.bincount(side, minlength=keys) for side in (left, right))
    of_a, of_b = np.bincount(left, a, keys), np.bincount(right, b, keys)
    expected = {
        "rows": int(counts @ others),
        "left": float(of_a @ others),
        "right": float(counts @ of_b),
        "product": float(of_a @ of_b),
    }
    (DATA / f"expected-join-{size}.json").write_text(json.dumps(expected))
    shape = GROUPBY[size]
    rows, keys = shape.rows, shape.keys
    grouped, values = keys_of(random, shape), random.random(rows)
    write_parts("rows", size, {"k": grouped, "v": values})
    sums = np.bincount(grouped, values, keys)
    expected = {
        "groups": int((np.bincount(grouped, minlength=keys) > 0).sum()),
        "sum": float(values.sum()),
        "weighted": float(np.arange(keys) @ sums),
        "largest": float(sums.max()),
    }
    (DATA / f"expected-groupby-{size}.json").write_text(json.dumps(expected))


MAKERS = {
    "text": (make_text, WORDCOUNT_BYTES),
    "points": (make_points, KMEANS),
    "records": (make_records, RECORDS),
    "tables": (make_tables, JOIN),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the inputs and the expected answers of the benchmarks.")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help=f"some of {', '.join(MAKERS)} (default: all)")
    sizes = sorted({size for _, shapes in MAKERS.values() for size in shapes})
    parser.add_argument("--size", choices=sizes, default="full", help="large: points only; skew: tables only")
    args = parser.parse_args()
    unknown = set(args.inputs) - set(MAKERS)
    if unknown:
        parser.error(f"there is no input {', '.join(sorted(unknown))}")
    DATA.mkdir(parents=True, exist_ok=True)
    for name in args.inputs or MAKERS:
        make, sizes = MAKERS[name]
        if args.size in sizes:
            make(args.size)


if __name__ == "__main__":
    main()
