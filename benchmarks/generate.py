"""Make the inputs and the expected answers, under $BENCH_DATA (default: bench-data in the temporary folder).

    <venvs>/main/bin/python generate.py --size full|small

The answers come from the making of the inputs or from a plain numpy program, not from any contestant's code. The same
size gives the same bytes everywhere.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import numpy.typing as npt
from harness.contestants import DATA
from harness.sizes import KMEANS, SIZES, WORDCOUNT_BYTES

VOCABULARY = 100_000
ZIPF_EXPONENT = 1.05
WORDS_PER_LINE = 12
TOP = 20
LETTERS = np.frombuffer(b"etaoinshrdlcumwfgypbvkjxqz", dtype=np.uint8)
CHUNK_WORDS = 1_200_000


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
    """k-means the plain way, by all distances."""
    for _ in range(iterations):
        distances = ((points[:, np.newaxis, :] - centroids[np.newaxis, :, :]) ** 2).sum(axis=2)
        nearest = distances.argmin(axis=1)
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the inputs and the expected answers of the benchmarks.")
    parser.add_argument("--size", choices=SIZES, default="full")
    size = parser.parse_args().size
    DATA.mkdir(parents=True, exist_ok=True)
    make_text(size)
    make_points(size)


if __name__ == "__main__":
    main()
