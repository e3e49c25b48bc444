from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from harness.kmeans import moved, part_of_points, step
from harness.wordcount import byte_ranges, count_range, merged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORDS = st.lists(st.text("abc", max_size=3), max_size=12)


@given(lines=st.lists(WORDS.map(" ".join), max_size=20), parts=st.integers(1, 5))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_parts_of_a_text_make_the_whole(tmp_path: Path, lines: list[str], parts: int) -> None:
    path = tmp_path / "text"
    path.write_text("\n".join(lines))
    expected = Counter(" ".join(lines).split())
    answer = merged([count_range(str(path), begin, end) for begin, end in byte_ranges(str(path), parts)])
    assert answer["total"] == expected.total()
    assert answer["distinct"] == len(expected)
    assert answer["top"] == [
        [word, n] for word, n in sorted(expected.items(), key=lambda pair: (-pair[1], pair[0]))[:20]
    ]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_step_in_parts_is_a_step(tmp_path: Path, parts: int) -> None:
    random = np.random.default_rng(1)
    points, centroids = random.normal(size=(20_001, 2)), random.normal(size=(4, 2))
    centroids[3] = 1000  # far from all points
    path = tmp_path / "points.npy"
    np.save(path, points)
    after = moved(centroids, sum(step(part_of_points(str(path), part, parts), centroids) for part in range(parts)))
    nearest = np.linalg.norm(points[:, None] - centroids[None], axis=2).argmin(axis=1)
    assert np.allclose(after[:3], [points[nearest == cluster].mean(axis=0) for cluster in range(3)])
    assert np.array_equal(after[3], centroids[3])
