"""The repository keeps its rules, and the check notices each one being broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RM = "plugins/rm_alpha"
MANIFEST = f"{RM}/pyproject.toml"
OPTION = """\
class AlphaConfig:
    laziness_s: float = option(1.0, "How often it is asked.", unit="s")
"""
READ = "def wait(config): return config.laziness_s\n"
SET = "SETTINGS = ['rm.alpha.laziness_s=0.1']\n"


def test_this_repository_keeps_every_rule(repository):
    repository.root = Path(__file__).resolve().parents[2]
    assert repository.problems() == []


def test_the_example_repository_keeps_every_rule(repository):
    assert repository.problems() == []


# name of the case: (what breaks the repository, what the one line about it must say)
BROKEN: dict[str, tuple[Callable[[object], object], tuple[str, ...]]] = {
    "distribution called otherwise": (
        lambda r: r.replace(MANIFEST, 'name = "twister2-rm-alpha"', 'name = "twister2-alpha"'),
        (RM, "twister2-rm-alpha"),
    ),
    "entry point called otherwise": (
        lambda r: r.replace(MANIFEST, 'alpha = "', 'beta = "'),
        (RM, "'alpha'", "twister2.rm"),
    ),
    "entry point in another group": (
        lambda r: r.replace(MANIFEST, "twister2.rm", "twister2.comm"),
        (RM, "'alpha'", "twister2.rm"),
    ),
    "group that does not exist": (
        lambda r: r.replace(MANIFEST, "twister2.rm", "twister2.rms"),
        (RM, "twister2.rms"),
    ),
    "plain name for a plugin chosen by configuration": (
        lambda r: r.replace("plugins/words/pyproject.toml", "twister2.api", "twister2.rm"),
        ("plugins/words", "'words'", "twister2.api"),
    ),
    "package called otherwise": (
        lambda r: (r.root / RM / "src/twister2_rm_alpha").rename(r.root / RM / "src/twister2_alpha"),
        (RM, "src/twister2_rm_alpha is missing"),
    ),
    "a second package": (lambda r: r.write(f"{RM}/src/extra/__init__.py"), (RM, "extra")),
    "entry point of another package": (
        lambda r: r.replace(MANIFEST, "twister2_rm_alpha.plugin:", "twister2_words.plugin:"),
        (RM, "twister2_words.plugin"),
    ),
    "entry point of a missing module": (lambda r: r.remove(f"{RM}/src/twister2_rm_alpha/plugin.py"), (RM, "not exist")),
    "empty shell": (lambda r: r.write("plugins/rm_beta/README.md"), ("plugins/rm_beta", "no pyproject.toml")),
    "manifest that is not TOML": (lambda r: r.write(MANIFEST, "[project"), (RM, "cannot be read")),
    "no readme": (lambda r: r.remove(f"{RM}/README.md"), (RM, "README.md is missing")),
    "no py.typed": (lambda r: r.remove(f"{RM}/src/twister2_rm_alpha/py.typed"), (RM, "py.typed is missing")),
    "no tests": (lambda r: r.remove(f"{RM}/tests"), (RM, "tests is missing")),
    "tests without a test": (lambda r: r.remove(f"{RM}/tests/test_it.py"), (RM, "no test_*.py")),
    "option that nothing reads": (
        lambda r: r.write(f"{RM}/src/twister2_rm_alpha/config.py", OPTION) or r.write(f"{RM}/tests/test_it.py", SET),
        (f"{RM}/src/twister2_rm_alpha/config.py", "AlphaConfig.laziness_s", "read nowhere"),
    ),
    "option without a test": (
        lambda r: (
            r.write(f"{RM}/src/twister2_rm_alpha/config.py", OPTION)
            or r.write(f"{RM}/src/twister2_rm_alpha/plugin.py", READ)
        ),
        (f"{RM}/src/twister2_rm_alpha/config.py", "AlphaConfig.laziness_s", "no test"),
    ),
    "licence": (lambda r: r.replace(MANIFEST, "Apache-2.0", "MIT"), (RM, "license", "MIT")),
    "version that is not static": (lambda r: r.replace(MANIFEST, '"0.1.0"', '"0.1.dev0"'), (RM, "project.version")),
    "build backend": (lambda r: r.replace(MANIFEST, "hatchling.build", "setuptools.build_meta"), (RM, "hatchling")),
    "no pin of the core": (lambda r: r.replace(MANIFEST, "twister2-core>=0.1,<0.2", "twister2-core"), (RM, "<0.2")),
    "required package not named": (
        lambda r: r.replace("core/pyproject.toml", '"pluggy", ', ""),
        ("core", "pluggy"),
    ),
    "module too long": (
        lambda r: r.write(f"{RM}/src/twister2_rm_alpha/plugin.py", "x = 1\n" * 501),
        (f"{RM}/src/twister2_rm_alpha/plugin.py", "501 lines"),
    ),
    "plugin that no extra offers": (
        lambda r: r.replace("pyproject.toml", 'api = ["twister2-words>=0.1,<0.2"]', "api = []"),
        ("twister2-words", "no dependency and no extra"),
    ),
    "extra left out of all": (
        lambda r: r.replace("pyproject.toml", 'all = ["twister2[api]"]', "all = []"),
        ("[all]", "[api]"),
    ),
    "umbrella promises what is not there": (
        lambda r: r.replace("pyproject.toml", 'api = ["', 'api = ["twister2-gone", "'),
        ("twister2-gone",),
    ),
    "umbrella without a pin": (
        lambda r: r.replace("pyproject.toml", '"twister2-rm-alpha>=0.1,<0.2"', '"twister2-rm-alpha"'),
        ("twister2-rm-alpha>=0.1,<0.2",),
    ),
    "core package outside the layers": (
        lambda r: r.write("core/src/twister2/helpers/__init__.py"),
        ("twister2.helpers", "layers"),
    ),
    "requirements out of step": (
        lambda r: r.write("requirements-dev.txt", "-e ./core\n"),
        ("requirements-dev.txt", "out of step"),
    ),
    "package not pinned": (
        lambda r: r.replace("constraints.txt", "pyzmq==1.0\n", ""),
        ("constraints.txt", "pyzmq", "core"),
    ),
    "address of an index": (
        lambda r: r.write(
            "constraints.txt", (r.root / "constraints.txt").read_text() + "x @ https" + "://example.org/x"
        ),
        ("constraints.txt", "address"),
    ),
    "no constraints": (lambda r: r.remove("constraints.txt"), ("constraints.txt: is missing",)),
    "test that skips without a server in a way of its own": (
        lambda r: r.write(f"{RM}/tests/test_it.py", "import pytest\n\nneeds = pytest.mark.skipif(not which('srun'))\n"),
        (f"{RM}/tests/test_it.py:3", "'srun'", "needs_slurm"),
    ),
    "test that imports what a server gives, or skips": (
        lambda r: r.write("tests/faults/test_kills.py", "from pytest import importorskip\nimportorskip('mpi4py')\n"),
        ("tests/faults/test_kills.py:2", "'mpi4py'", "needs_mpi"),
    ),
    "home of a user": (lambda r: r.write("README.md", "data in /" + "home/somebody/data\n"), ("README.md:1", "path")),
    "place of the checkout": (lambda r: r.write("notes.md", f"\nsee {r.root}/core\n"), ("notes.md:2", "path")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named_with_its_place(repository, case):
    break_it, words = BROKEN[case]
    break_it(repository)
    problems = repository.problems()
    assert any(all(word in line for word in words) for line in problems), f"{words} not in one of {problems}"


def test_an_option_that_is_read_and_tested_breaks_no_rule(repository):
    for path, text in (("src/twister2_rm_alpha/config.py", OPTION), ("src/twister2_rm_alpha/plugin.py", READ)):
        repository.write(f"{RM}/{path}", text)
    repository.write(f"{RM}/tests/test_it.py", SET)
    assert repository.problems() == []


def test_a_skip_for_what_no_server_gives_breaks_no_rule(repository):
    repository.write(f"{RM}/tests/test_it.py", "import pytest\n\nlz4 = pytest.importorskip('lz4.block')\n")
    assert repository.problems() == []


def test_a_new_plugin_folder_must_be_listed(repository):
    entry_points = '[project.entry-points."twister2.comm"]\nbeta = "twister2_comm_beta.plugin:Plugin"\n'
    repository.add_member("plugins/comm_beta", "twister2_comm_beta", ["twister2-core>=0.1,<0.2"], entry_points)
    assert {line.partition(":")[0] for line in repository.problems()} == {"pyproject.toml", "requirements-dev.txt"}
    repository.replace("pyproject.toml", 'api = ["', 'api = ["twister2-comm-beta>=0.1,<0.2", "')
    assert repository.tool("requirements").returncode == 0
    assert repository.problems() == []


def test_list_tells_the_default_plugins(repository):
    assert repository.tool("list").stdout.split() == ["core", "testkit", "plugins/rm_alpha", "plugins/words"]
    assert repository.tool("list", "--default").stdout.split() == ["core", "plugins/rm_alpha"]
