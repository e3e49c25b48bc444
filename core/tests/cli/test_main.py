"""The frame of the command line: help, exit codes, what gets imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from twister2.cli import main as cli
from twister2.host import PluginHost
from twister2.spec import errors

FORBIDDEN = (
    "numpy",
    "zmq",
    "mpi4py",
    "asyncio",
    "pyarrow",
    "cloudpickle",
    "stevedore",
    "importlib.metadata",
    "tomllib",
)


def loaded_by(code, *arguments):
    """Modules of interest that a fresh interpreter has loaded after ``code``."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint('\\n' + repr([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return set(re.findall(r"'([^']+)'", done.stdout.splitlines()[-1]))


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "twister2.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.startup
def test_import_twister2_loads_nothing_heavy():
    assert not loaded_by("import twister2") & {*FORBIDDEN, "attrs", "pluggy", "argparse"}


@pytest.mark.startup
def test_help_imports_no_subcommand_no_plugin_machinery_and_no_argument_parser():
    loaded = loaded_by("from twister2.cli.main import main; main(['--help'])")
    assert not loaded & {*FORBIDDEN, "pluggy", "argparse"}
    assert not [name for name in loaded if name.startswith("twister2.") and not name.startswith("twister2.cli")]
    assert {name for name in loaded if name.startswith("twister2.cli.")} <= {"twister2.cli.main"}


@pytest.mark.startup
def test_listing_plugins_imports_none():
    loaded = loaded_by("from twister2.cli.main import main; main(['plugins', 'list'])")
    assert not [name for name in loaded if name.startswith("twister2_")]
    assert not loaded & {"numpy", "zmq", "mpi4py", "asyncio", "stevedore"}


def test_help_names_every_command_and_exit_code(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, entry in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.summary)}$", text, re.MULTILINE)
    for code in cli.EXIT_CODES:
        assert re.search(rf"^ +{code}  ", text, re.MULTILINE)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: twister2 {name}" in capsys.readouterr().out


def test_without_a_command_the_help_goes_to_stderr(capsys):
    assert cli.main([]) == cli.EXIT_USAGE
    assert "usage: twister2" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["help", "version"], ["version", "--help"]])
def test_help_of_a_command(words, capsys):
    with pytest.raises(SystemExit):
        cli.main(words)
    assert "--json" in capsys.readouterr().out


def test_a_misspelt_command_names_the_nearest(capsys):
    assert cli.main(["sumbit"]) == cli.EXIT_USAGE
    text = capsys.readouterr().err
    assert "there is no command 'sumbit'" in text
    assert "try:     twister2 submit" in text


def test_a_command_whose_plugin_is_not_installed_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(PluginHost, "discover", lambda self, kind: [])
    assert cli.main(["bench", "comm"]) == cli.EXIT_USAGE
    text = capsys.readouterr().err
    assert "there is no command 'bench'" in text
    assert "is not installed" in text
    assert f"try:     {sys.executable} -m pip install twister2-bench\n" in text


def test_every_error_class_has_its_exit_code():
    expected = {
        errors.PluginNotFoundError: 2,
        errors.CapabilityError: 2,
        errors.ConfigError: 2,
        errors.UsageError: 2,
        errors.JobNotFoundError: 3,
        errors.SubmissionRefusedError: 4,
        errors.JobKilledError: 5,
        errors.UserCodeError: 1,
        errors.DataNotFoundError: 1,
    }
    for cls, code in expected.items():
        assert cli.exit_code(cls("x", why="y", remedy="z")) == code
    assert cli.exit_code(ValueError()) == cli.EXIT_BUG
    for cls in errors.error_codes().values():
        assert cli.exit_code(cls("x", why="y", remedy="z")) in cli.EXIT_CODES


@pytest.fixture
def command(monkeypatch, tmp_path):
    """A subcommand ``probe`` whose ``run`` has the given body."""

    def make(body):
        (tmp_path / "probe_command.py").write_text(
            f"def configure(parser): pass\ndef run(arguments):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(cli.COMMANDS, "probe", cli.Entry("probe_command", "probe"))

    yield make
    sys.modules.pop("probe_command", None)


RAISE = (
    "from twister2.spec.errors import UserCodeError\nraise UserCodeError('it broke', why='w', remedy='r', where='here'"
)


def test_an_error_is_shown_as_its_lines_without_a_traceback(command, capsys, monkeypatch):
    monkeypatch.delenv("TWISTER2_DEBUG", raising=False)
    command(f"{RAISE})")
    assert cli.main(["probe"]) == 1
    text = capsys.readouterr().err
    assert text == "[T2-J401] it broke\n  where:   here\n  because: w\n  try:     r\n"


def test_the_traceback_of_the_users_code_is_shown(command, capsys):
    command(f"{RAISE}, details={{'traceback': 'Traceback of the user'}})")
    assert cli.main(["probe"]) == 1
    assert "Traceback of the user" in capsys.readouterr().err


def test_debug_shows_the_traceback(command, capsys, monkeypatch):
    monkeypatch.setenv("TWISTER2_DEBUG", "1")
    command(f"{RAISE})")
    assert cli.main(["probe"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_mistake_of_our_own_saves_the_traceback(command, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("TWISTER2_DEBUG", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command("raise ZeroDivisionError('oops')")
    assert cli.main(["probe"]) == cli.EXIT_BUG
    text = capsys.readouterr().err
    assert "Traceback" not in text
    (saved,) = tmp_path.glob("twister2-*.traceback")
    assert str(saved) in text
    assert "ZeroDivisionError: oops" in saved.read_text()


def test_interrupted(command, capsys):
    command("raise KeyboardInterrupt")
    assert cli.main(["probe"]) == cli.EXIT_INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m twister2.cli.main config example | head -1; true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("# Options of a job")
    assert done.stderr == ""


def test_version_for_people_and_programs():
    import twister2

    assert f"twister2 {twister2.__version__}" in run("--version").stdout
    data = json.loads(run("version", "--json").stdout)
    assert data["core"] == twister2.__version__
    assert data["interpreter"] == sys.executable


NASTY = "\x1b[2J\x1b]0;title\x07 \x00 \x9b1A \r over \u202e back"


def test_control_characters_of_programs_do_not_reach_the_terminal(capsys):
    """Neither those of an exception's text nor of its traceback; what a program kept in the error stays as it was."""
    details = {"traceback": f"Traceback\n  File {NASTY}\tx"}
    error = errors.UserCodeError(f"ValueError: {NASTY}", why=NASTY, remedy=NASTY, where=NASTY, details=details)
    assert cli._report(error) == 1
    shown = capsys.readouterr().err
    assert all(char.isprintable() or char in "\n\t" for char in shown), shown
    assert shown.count("\\x1b[2J") == 5
    assert "\\u202e" in shown
    assert "\tx" in shown
    assert errors.from_dict(error.to_dict()).what == f"ValueError: {NASTY}"


def test_tables_do_not_move_the_cursor(capsys):
    from twister2.cli.output import print_table

    print_table(("A",), [(NASTY,)])
    shown = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in shown), shown
