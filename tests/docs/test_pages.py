"""The documentation is true: programs on its pages run, print what the page says, and its options exist.

A page is read from top to bottom. A ``python`` block begins with its file's name in a comment and is written to it. A
``bash`` block is run; the ``text`` block behind it holds lines that must be in what it prints (``...`` stands for any
text), in any order, because workers print side by side. A ``toml`` block must be a valid configuration, and so must a
file that a ``console`` block shows; these show what needs more than this machine, and are not run.

Wherever options are named (``job.comm``, ``rm.slurm.partition``, ``TWISTER2__JOB__CPUS``) they must exist, and whatever
``twister2 submit`` shows must mean what it seems to: what follows the program is the program's.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from twister2.cli import submit
from twister2.config import JobConfig, resolve
from twister2.config.describe import describe
from twister2.host import PluginHost
from twister2.spec.plugin import KINDS
from twister2_testkit.jobs import Jobs

ROOT = Path(__file__).resolve().parents[2]
RUN_PAGES = ["README.md", "docs/*.md", "docs/guide/*.md", "plugins/*/README.md"]
NAMES = [path.relative_to(ROOT).as_posix() for each in RUN_PAGES for path in sorted(ROOT.glob(each))]
READ_NAMES = [*NAMES, *(f"docs/plugins/{path.name}" for path in sorted((ROOT / "docs/plugins").glob("*.md")))]
RUN_S = 60


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(*each) for each in found]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path) as jobs:
        jobs.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield jobs


@pytest.mark.parametrize("name", NAMES)
def test_a_page_does_what_it_says(name, jobs, tmp_path):
    page, written, output = blocks(ROOT / name), set(), None
    for language, text in page:
        if language == "python":
            file = re.match(r"# (\w+\.py)\n", text)
            assert file, f"a python block must begin with '# name.py':\n{text}"
            compile(text, file[1], "exec")
            (tmp_path / file[1]).write_text(text, encoding="utf-8")
            written.add(file[1])
        elif language == "bash":
            done = subprocess.run(
                ["bash", "-c", text],
                cwd=tmp_path,
                env=jobs.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=RUN_S,
                check=False,
            )
            output = done.stdout + done.stderr
            assert "Traceback" not in output or "Traceback" in "".join(each.text for each in page), output
            written -= {file for file in written if file in text}
        elif language == "text" and output is not None:
            missing = [line for line in text.splitlines() if line.strip() and not says(output, line)]
            assert not missing, f"not printed by the block above: {missing}\n{output}"
            output = None
        for configuration in configurations(language, text):
            check_toml(configuration, tmp_path)
    assert not written, f"no bash block runs {written}"


def says(output: str, wanted: str) -> bool:
    """Whether a line of the output is this one, but for the width of its blanks and what ``...`` stands for."""
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in wanted.split("..."))
    return any(re.fullmatch(pattern.replace(".*", " ?.* ?"), " ".join(line.split())) for line in output.splitlines())


SHOWN = r"^\$ cat \S+\.toml\n(.*?)(?=^\$ |\Z)"
TABLE = rf"^\[(?:profile|job|{'|'.join(KINDS)})[.\]]"


def configurations(language: str, text: str) -> list[str]:
    """The configuration files of a block; what has their tables must be where it is checked."""
    if language == "toml":
        return [text]
    shown = re.findall(SHOWN, text, re.DOTALL | re.MULTILINE) if language == "console" else []
    assert language == "bash" or shown or not re.search(TABLE, text, re.MULTILINE), f"a toml block, please:\n{text}"
    return shown


def check_toml(text: str, folder: Path) -> None:
    file = folder / "checked.toml"
    file.write_text(text, encoding="utf-8")
    for profile in (None, *tomllib.loads(text).get("profile", {})):
        resolve(host=PluginHost(), profile=profile, files=[file], environ={"TWISTER2_SITE_CONFIG": os.devnull})


WRONG_ON_PURPOSE = {"job.wrkers"}
FILES = ("csv", "json", "png", "py", "toml")


def named_options(page: str) -> Iterator[tuple[str, ...]]:
    """What a page names in inline code, behind ``-o`` and as environment variables, split at its dots."""
    tables = "|".join(["job", *KINDS])
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    dotted = rf"(?<![\w./\"-])((?:{tables})(?:\.[a-z_][a-z_0-9]*)+)(?![\w(-])"
    found = {name for span in spans for name in re.findall(dotted, span)}
    found |= set(re.findall(rf"-o ['\"]?((?:{tables})(?:\.[a-z_][a-z_0-9]*)+)", page))
    found |= {name.lower().replace("__", ".") for name in re.findall(r"\bTWISTER2__(\w+[A-Z])\b", page)}
    for name in sorted(found - WRONG_ON_PURPOSE):
        if not name.endswith(FILES):
            yield tuple(name.split("."))


@pytest.mark.parametrize("name", READ_NAMES)
def test_every_option_that_a_page_names_exists(name):
    page, host = (ROOT / name).read_text(encoding="utf-8"), PluginHost()
    job = {option.path for option in describe(JobConfig, "job")}
    shown = set(re.findall(r"plugins new --kind (\w+) --name (\w+)", page))
    for kind, plugin, *option in named_options(page):
        path = ".".join((kind, plugin, *option))
        if kind == "job":
            path = re.sub(r"^job\.groups\.\w+", "job.groups.NAME", path)
            assert any(f"{each}.".startswith(f"{path}.") for each in job), path
        elif (kind, plugin) in shown:
            assert not option or f"    {option[0]}: " in page, path
        else:
            assert plugin in {record.name for record in host.discover(kind)}, path
            known = describe(host.load(kind, plugin).config_class, f"{kind}.{plugin}") if option else ()
            assert not option or path in {each.path for each in known}, path


@pytest.mark.parametrize("name", READ_NAMES)
def test_options_of_submit_stand_before_the_program(name):
    parser = argparse.ArgumentParser(exit_on_error=False)
    submit.configure(parser)
    options = {text for action in parser._actions for text in action.option_strings}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        command = re.match(r"(?:\$ |    )?twister2 submit (.+)", line)
        if command is not None:
            words = shlex.split(command[1], comments=True)
            left = set(parser.parse_known_args(words)[0].args) & options
            assert not left, f"the program gets {left}: {line}"


def test_wrong_names_would_be_found():
    page = "`comm.tcp.windows` `-o job.comm=x` `rm.slrum` `comm.json`\nTWISTER2__JOB__CPU -o exec.threads.quanta=1"
    assert {".".join(name) for name in named_options(page)} == {
        "comm.tcp.windows", "job.comm", "rm.slrum", "job.cpu", "exec.threads.quanta"
    }  # fmt: skip


@pytest.mark.parametrize("name", READ_NAMES)
def test_links_between_pages_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target and "generated/" not in target:
            assert (page.parent / target).exists(), target


def test_every_subcommand_and_exit_code_is_on_the_page_about_running():
    from twister2.cli.main import COMMANDS, EXIT_CODES

    text = (ROOT / "docs" / "guide" / "running.md").read_text(encoding="utf-8")
    about_jobs = set(COMMANDS) - {"plugins", "config", "version"}
    assert not {name for name in about_jobs if f"`twister2 {name}" not in text}
    assert not {code for code in EXIT_CODES if not re.search(rf"^\| {code} \|", text, re.MULTILINE)}


def test_the_architecture_names_every_package_and_plugin_folder():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [path.name for path in (ROOT / "core/src/twister2").iterdir() if (path / "__init__.py").exists()]
    assert not [name for name in packages if f"{name}/" not in text]
    plugins = [path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")]
    assert not [name for name in plugins if name not in (ROOT / "README.md").read_text(encoding="utf-8")]


def test_files_that_the_architecture_points_to_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:core|plugins|testkit|tests|tools|docs)/[\w/.-]+)`", text))
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).exists()]
    core = ROOT / "core" / "src"
    modules = {name.replace(".", "/") for name in re.findall(r"`(twister2\.[a-z_]+(?:\.[a-z_]+)+)`", text)}
    packages = {name for name in modules if (core / "/".join(name.split("/")[:2])).is_dir()}
    assert not [name for name in packages if not (core / f"{name}.py").exists() and not (core / name).is_dir()]
