"""The end of the process of a command: quick, and nothing of an ordinary end is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = "import atexit, os, sys, threading, time\nfrom twister2.cli import main as cli\n"


def ended(code: str, words: str = "version") -> tuple[int, list[str], str]:
    """Exit code, lines of output and errors of an interpreter in which a command is the whole program."""
    script = f"{BEGIN}sys.argv = ['twister2', *{words.split()!r}]\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr


CALLED = "atexit.register(lambda: print('handler', flush=True))\n"
LEFT = """
class Kept:
    def __del__(self):
        os.write(1, b'taken down\\n')
kept = Kept()
"""


def test_a_command_takes_no_interpreter_down():
    code, lines, errors = ended(f"{LEFT}sys.exit(cli.main())")
    assert (code, errors) == (0, "")
    assert "taken down" not in lines


def test_exit_handlers_are_called_and_threads_joined():
    late = "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
    code, lines, errors = ended(f"code = cli.main()\n{CALLED}{late}print('last', end='')\nsys.exit(code)")
    assert (code, errors) == (0, "")
    assert lines[-2:] == ["lastthread", "handler"]


def test_handlers_of_before_are_called_too():
    code, lines, errors = ended(f"{CALLED}sys.exit(cli.main())")
    assert (code, errors) == (0, "")
    assert lines[-1] == "handler"


@pytest.mark.parametrize(("words", "expected"), [("nonsense", 2), ("submit", 2), ("status no-such-job", 3)])
def test_exit_codes_are_the_commands(words, expected):
    code, _, errors = ended("sys.exit(cli.main())", words)
    assert code == expected
    assert errors


def test_who_uses_the_command_line_in_a_program_lives_on():
    code, lines, _ = ended("cli.main(['version'])\nprint('on')\nsys.exit(7)")
    assert code == 7
    assert lines[-1] == "on"


def test_what_a_plugins_command_left_open_is_written_out(tmp_path):
    module = """
kept = []
def configure(parser): pass
def run(arguments):
    kept.append(open('left.txt', 'w'))
    kept[0].write('not flushed')
"""
    found = "(__import__('types').SimpleNamespace(configure=configure, run=run), '', 'the plugin')"
    code, _, errors = ended(
        f"os.chdir({str(tmp_path)!r})\n{module}\ncli._find_plugin = lambda name: {found}\nsys.exit(cli.main())", "keeps"
    )
    assert (code, errors) == (0, "")
    assert (tmp_path / "left.txt").read_text() == "not flushed"
