"""One options class: strict types, text parsed by type, and back."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.config.describe import describe, example, page, toml_value
from twister2.config.job import JobConfig
from twister2.config.structure import Report, structure, unstructure
from twister2.config.tree import Leaf, from_data, leaves, merge

_spec = importlib.util.spec_from_file_location("config_samples", Path(__file__).with_name("conftest.py"))
samples = importlib.util.module_from_spec(_spec)
sys.modules["config_samples"] = samples
_spec.loader.exec_module(samples)
Options, Inner, Colour = samples.Options, samples.Inner, samples.Colour

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
options = st.builds(
    Options,
    partition=st.none() | text,
    time_limit_s=st.integers(1, 10**9),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    fast=st.booleans(),
    place=st.sampled_from([Path("/a"), Path("b/c"), Path()]),
    mode=st.sampled_from(["sbatch", "srun"]),
    colour=st.sampled_from(list(Colour)),
    names=st.lists(text, max_size=3),
    ports=st.lists(st.integers(), max_size=3).map(tuple),
    labels=st.dictionaries(text, text, max_size=3),
    counts=st.dictionaries(text, st.integers(), max_size=3),
    inner=st.builds(Inner, depth=st.integers(1, 9), label=text),
    token=text,
)


def build(data, options=Options):
    report = Report()
    return structure(options, from_data(data, "test"), "x", report), [str(problem) for problem in report.problems]


def from_text(key, value):
    report = Report()
    found = structure(Options, {key: Leaf(value, "-o", text=True)}, "x", report)
    return getattr(found, key), [problem.text for problem in report.problems]


@given(options)
def test_there_and_back_through_json(value):
    found, problems = build(json.loads(json.dumps(unstructure(value))))
    assert problems == []
    assert found == value


@given(options)
def test_what_is_written_as_toml_reads_back(value):
    plain = {key: item for key, item in unstructure(value).items() if item is not None}
    text = "\n".join(f"{key} = {toml_value(item)}" for key, item in plain.items())
    assert build(tomllib.loads(text)) == (value, [])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("time_limit_s", "60", 60),
        ("ratio", "1", 1.0),
        ("fast", "Yes", True),
        ("fast", "0", False),
        ("place", "/x y", Path("/x y")),
        ("mode", "srun", "srun"),
        ("colour", "BLUE", Colour.BLUE),
        ("colour", "blue", Colour.BLUE),
        ("names", "a, b", ["a", "b"]),
        ("names", '["a,b"]', ["a,b"]),
        ("names", "", []),
        ("ports", "1,2", (1, 2)),
        ("labels", '{a = "b"}', {"a": "b"}),
        ("partition", "none", None),
        ("partition", "debug", "debug"),
        ("inner", "{depth = 3}", Inner(depth=3)),
    ],
)
def test_text_is_parsed_by_type(key, value, expected):
    assert from_text(key, value) == (expected, [])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time_limit_s", "1.5"),
        ("time_limit_s", "abc"),
        ("ratio", "nan"),
        ("ratio", "inf"),
        ("fast", "maybe"),
        ("mode", "srum"),
        ("colour", "green"),
        ("ports", "1,x"),
        ("labels", "a=b"),
        ("labels", "{a ="),
        ("inner", "3"),
    ],
)
def test_text_that_does_not_parse_is_one_problem_that_shows_it(key, value):
    _, problems = from_text(key, value)
    assert len(problems) == 1
    assert problems[0].startswith(("must be", "is not a TOML"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time_limit_s", "60"),
        ("time_limit_s", True),
        ("time_limit_s", 1.0),
        ("ratio", "0.5"),
        ("ratio", False),
        ("fast", 1),
        ("fast", "true"),
        ("place", 3),
        ("names", "a"),
        ("names", [1]),
        ("ports", [True]),
        ("labels", {"a": 1}),
        ("labels", 3),
        ("time_limit_s", {"a": 1}),
        ("inner", 3),
        ("partition", 3),
    ],
)
def test_toml_must_have_the_right_type(key, value):
    found, problems = build({key: value})
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"x.{key}")
    assert getattr(found, key) == getattr(Options(), key)


def test_a_whole_number_is_a_number():
    assert build({"ratio": 2})[0].ratio == 2.0


def test_problems_of_inner_tables_have_their_whole_path():
    _, problems = build({"inner": {"depth": 0, "lable": "x"}})
    assert sorted(problems) == [
        "x.inner.depth: must be > 0: 0  [test]",
        "x.inner.lable: unknown option; did you mean 'label'?  [test]",
    ]


@attrs.frozen
class Pair:
    """Checked as a whole."""

    low: int = 0
    high: int = 1

    def __attrs_post_init__(self):
        if self.low > 5 and self.high < self.low:
            raise ValueError("high must not be below low")


def test_checks_of_the_whole_class_are_problems_too():
    _, problems = build({"low": 7, "high": 6}, Pair)
    assert problems
    assert "high must not be below low" in problems[0]


trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=6
)
tables = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@given(tables, tables)
def test_the_upper_layer_wins_and_what_it_does_not_touch_stays(a, b):
    a, b = from_data(a, "a"), from_data(b, "b")
    merged, below, above = (dict(leaves(tree)) for tree in (merge(a, b), a, b))
    assert merge({}, a) == a == merge(a, {}) == merge(a, a)
    assert above.items() <= merged.items()
    assert merged.items() <= (below | above).items()
    for path, leaf in below.items():
        hidden = [other for other in above if f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")]
        assert hidden or merged.get(path) == leaf or _is_emptied(b, path.split("."))


def _is_emptied(tree, path):
    """Whether an empty table of the upper layer stands where the lower one has a value."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return isinstance(tree, dict)


def test_every_option_is_described_with_its_three_spellings():
    text = page(Options, "rm.slurm")
    assert "time_limit_s: a whole number [s] = 3600" in text
    assert "env TWISTER2__RM__SLURM__TIME_LIMIT_S    -o rm.slurm.time_limit_s=VALUE" in text
    assert "inner.depth: a whole number [1] = 1" in text
    assert "mode: 'sbatch' or 'srun' = \"sbatch\"" in text


@pytest.mark.parametrize("cls", [Options, JobConfig])
def test_the_example_file_is_toml_with_every_default_once_uncommented(cls):
    text = example(cls, "t")
    uncommented = "\n".join(line.removeprefix("#") if not line.startswith("# ") else line for line in text.splitlines())
    data = tomllib.loads(uncommented)["t"]
    if data.get("partition") == "":
        del data["partition"]  # TOML cannot write nothing
    assert build(data, cls) == (cls(), [])
    assert tomllib.loads(text)
    described = [option for option in describe(cls, "t") if ".NAME." not in option.path]
    assert len(described) == sum(line.startswith("#") and line[1] != " " for line in text.splitlines())
