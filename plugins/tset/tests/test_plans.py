"""Plans of actions: what an action would run is seen before, and nothing runs."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet
import pytest

from twister2.spec.errors import UsageError
from twister2_testkit.graphs import run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)

LARGE = [(k % 50, k) for k in range(5000)]
SMALL = [(k, str(k)) for k in range(5)]


def test_what_rules_do_for_an_action_alone(tmp_path):
    pyarrow.parquet.write_table(pa.table({"k": [1, 2], "v": [3, 4], "text": ["a", "b"]}), tmp_path / "a.parquet")

    def main(env):
        rows = TSetContext(env).read_parquet(str(tmp_path / "a.parquet"))
        return rows.explain(), rows.explain("sum", "v"), rows.explain("mean", value="v"), rows.explain("collect")

    plain, total, mean, all_of_it = run_workers(1, main)[0]
    assert "columns:" not in plain
    assert "columns:" not in all_of_it
    for text, step in ((total, "sum"), (mean, "mean")):
        assert "reads v only" in text
        assert f"{step} (test_plans.py:" in text
        assert "net.allreduce" in text


@pytest.mark.parametrize(
    ("action", "arguments", "broadcast"),
    [
        ("count", (), True),
        ("take", (3,), False),
        ("gather", (), False),
        ("cache", (), False),
        ("persist", (), False),
        ("write_text", ("out",), True),
        ("for_each", (print,), True),
    ],
)
def test_where_it_counts_how_records_lie(action, arguments, broadcast):
    def main(env):
        context = TSetContext(env)
        joined = context.parallelize(LARGE).join(context.parallelize(SMALL))
        return joined.explain(action, *arguments)

    first, other = run_workers(2, main)
    assert first == other
    assert ("broadcast_join: join" in first) == broadcast
    assert f"{action} (test_plans.py:" in first


def test_nothing_runs_and_one_worker_alone_may_ask(tmp_path):
    calls = []

    def main(env):
        context = TSetContext(env)
        kept = context.parallelize(range(10)).map(calls.append).lazy_cache()
        behind = kept.filter(bool)
        if env.worker_id:
            return []
        texts = [
            behind.explain(*call) for call in (("cache",), ("sum",), ("save", str(tmp_path / "a.csv")), ("top", 3))
        ]
        return [*texts, kept.explain("count"), behind.lazy_for_each(print).explain(), kept.is_filled]

    *texts, filled = run_workers(2, main)[0]
    assert not calls
    assert not filled
    assert not list(tmp_path.iterdir())
    assert all("parallelize (test_plans.py:" in text for text in texts)


def test_rules_do_not_look_through_a_set_that_is_kept_later(tmp_path):
    """To fill it and to read it are two runs: it has all columns of all rows."""
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"n": [1, 2, 3, 4], "v": [5, 6, 7, 8]}), path)

    def main(env):
        kept = TSetContext(env).read_parquet(str(path)).lazy_cache()
        chosen = kept.where("n", "<", 3)
        texts = [chosen.explain(), chosen.explain("sum", "v")]
        return texts, chosen.sum("v"), kept.count()

    for texts, total, count in run_workers(2, main):
        assert (total, count) == (11, 4)
        for text in texts:
            assert "kept when it is first needed" in text
            assert "predicates:" not in text
            assert "columns:" not in text


def test_the_plan_is_the_one_that_runs():
    def main(env):
        context = TSetContext(env)
        numbers = context.parallelize(range(10))
        text = numbers.explain("count")
        assert numbers.count() == 10
        return text, context.figures()

    text, figures = run_workers(1, main)[0]
    assert all(name.rpartition(":")[0] in text for name in figures)


@pytest.mark.parametrize("action", ["map", "lazy_cache", "explain", "_take", "context", "nothing", ""])
def test_what_is_no_action(action):
    def main(env):
        numbers = TSetContext(env).parallelize(range(10))
        with pytest.raises(UsageError, match=f"explain: '{action}' runs nothing"):
            numbers.explain(action, *([str] if action == "map" else []))

    run_workers(1, main)


def test_errors_of_the_action_are_told():
    def main(env):
        context = TSetContext(env)
        dropped = context.parallelize([1]).cache()
        dropped.drop()
        for wrong, said in (
            (lambda: context.parallelize([1]).explain("top", -1), "top: n is -1"),
            (lambda: dropped.map(str).explain("cache"), "the set was dropped"),
            (lambda: dropped.map(str).explain("count"), "the set was dropped"),
        ):
            with pytest.raises(UsageError, match=said):
                wrong()

    run_workers(1, main)


def test_what_is_shown_of_joins_and_groups():
    def main(env):
        context = TSetContext(env)
        one, other = (context.parallelize(pa.table({"k": [1], name: [2]})) for name in ("v", "w"))
        groups = one.join(other, on="k").group_by("v").agg(total=("w", "sum"), rows="count", odd=(len, "max"))
        return groups.explain()

    text = run_workers(1, main)[0]
    assert "agg: total=sum(w), rows=count, odd=max(len)" in text
    assert "how='inner', algorithm='hash', left_key=('k'), right_key=('k')" in text
    assert "Schema" not in text
