"""``twister2 plugins`` and ``twister2 config`` on plugins installed for the test, beside whatever else is installed."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import tomllib

import pytest

import twister2.cli.main as cli
from twister2.cli.main import main

SCHED = """
    import attrs
    from twister2.spec.options import option
    from twister2.spec.plugin import hookimpl
    from twister2.spec.sched import SchedSpec, TaskScheduler

    @attrs.frozen
    class Config:
        limit: int = option(3, "Most tasks.", unit="1")
        token: str = option("", "A secret.", secret=True)

    class Backend(TaskScheduler):
        def schedule(self, request): ...

    class Plugin(SchedSpec):
        "Greedy scheduler."
        api = (1, 0)
        config_class = Config

        @hookimpl
        def sched_create(self, config):
            return Backend()
"""
COMMAND = """
    import attrs
    from twister2.spec.command import Command, CommandSpec
    from twister2.spec.options import option
    from twister2.spec.plugin import hookimpl

    @attrs.frozen
    class Config:
        greeting: str = option("hello", "Greeting.")

    class Backend(Command):
        def __init__(self, config):
            self.config = config
        def configure(self, parser):
            parser.add_argument("who")
        def run(self, arguments):
            print(self.config.greeting, arguments.who)
            return 1

    class Plugin(CommandSpec):
        api = (1, 0)
        summary = "Greet."
        config_class = Config

        @hookimpl
        def command_create(self, config):
            return Backend(config)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution of one module by writing its files into a folder on ``sys.path``."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWISTER2_SITE_CONFIG", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    made = []

    def write(distribution, kind, name, source, requires="twister2-core>=0.1,<9"):
        module = distribution.replace("-", "_")
        made.append(module)
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\nRequires-Dist: {requires}\n"
        )
        (info / "entry_points.txt").write_text(f"[twister2.{kind}]\n{name} = {module}:Plugin\n")

    yield write
    for module in made:
        sys.modules.pop(module, None)


def rows(capsys, *words):
    code = main(["plugins", "list", "--json", *words])
    return code, {(row["kind"], row["name"], row["distribution"]): row for row in json.loads(capsys.readouterr().out)}


def test_listing_says_what_metadata_says_and_imports_nothing(install, capsys):
    install("acme-good", "sched", "greedy", SCHED)
    install("acme-bad", "sched", "bad", "1 / 0")
    install("acme-old", "sched", "old", SCHED, requires="twister2-core<0.1")
    install("acme-double", "sched", "greedy2", SCHED)
    install("acme-double2", "sched", "greedy2", SCHED)
    code, found = rows(capsys)
    assert code == 0
    assert found["sched", "greedy", "acme-good"]["state"] == "installed"
    assert found["sched", "bad", "acme-bad"]["state"] == "installed"
    assert found["sched", "old", "acme-old"]["state"] == "needs core <0.1"
    assert found["sched", "greedy2", "acme-double"]["state"] == "provided twice"
    assert not [name for name in sys.modules if name.startswith("acme_")]


def test_a_plugin_whose_module_is_not_there_is_not_told_to_be_installed(install, capsys, tmp_path):
    """Half of it was removed, its editable folder has moved, or the entry point is wrong."""
    for name in ("gone", "half"):
        install(f"acme-{name}", "sched", name, "")
        (tmp_path / "site" / f"acme_{name}.py").unlink()
    (tmp_path / "site" / "acme_half").mkdir()
    (tmp_path / "site" / "acme_half" / "__init__.py").write_text("1 / 0")
    entry = tmp_path / "site" / "acme_half-1.0.dist-info" / "entry_points.txt"
    entry.write_text("[twister2.sched]\nhalf = acme_half.plugin:Plugin\n")
    code, found = rows(capsys, "sched")
    assert code == 0
    assert found["sched", "gone", "acme-gone"]["state"] == "module acme_gone is missing"
    assert found["sched", "half", "acme-half"]["state"] == "module acme_half.plugin is missing"
    (tmp_path / "site" / "acme_half" / "plugin.py").touch()
    _, found = rows(capsys, "sched")
    assert found["sched", "half", "acme-half"]["state"] == "installed"
    assert not [name for name in sys.modules if name.startswith("acme_")]


def test_check_imports_and_keeps_ok_and_broken_apart(install, capsys):
    install("acme-good", "sched", "greedy", SCHED)
    code, found = rows(capsys, "sched", "--check")
    assert found["sched", "greedy", "acme-good"]["state"] == "ok"
    assert found["sched", "greedy", "acme-good"]["api"] == "1.0"
    install("acme-bad", "sched", "bad", "1 / 0")
    code, found = rows(capsys, "sched", "--check")
    assert code == 1
    assert found["sched", "bad", "acme-bad"]["state"] == "broken"
    assert "T2-P102" in found["sched", "bad", "acme-bad"]["problem"]
    assert found["sched", "greedy", "acme-good"]["state"] == "ok"
    assert main(["plugins", "list", "sched", "--check"]) == 1
    shown = capsys.readouterr()
    assert "DISTRIBUTION" in shown.out
    assert "ZeroDivisionError" in shown.err


def test_show_describes_options_with_all_spellings(install, capsys):
    install("acme-good", "sched", "greedy", SCHED)
    assert main(["plugins", "show", "sched", "greedy"]) == 0
    text = capsys.readouterr().out
    for clue in (
        "sched.greedy   from acme-good 1.0   plugin interface sched 1.0",
        "Greedy scheduler.",
        "limit: a whole number [1] = 3",
        "env TWISTER2__SCHED__GREEDY__LIMIT    -o sched.greedy.limit=VALUE",
    ):
        assert clue in text
    assert main(["plugins", "show", "sched", "greedy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"][0]["environment"] == "TWISTER2__SCHED__GREEDY__LIMIT"
    assert main(["plugins", "show", "sched", "gredy"]) == 2


RM = """
    import attrs
    from twister2.spec.options import option
    from twister2.spec.plugin import Probe, hookimpl
    from twister2.spec.rm import ResourceManagerSpec

    @attrs.frozen
    class Config:
        queue: str = option("", "Queue.")

    class Plugin(ResourceManagerSpec):
        "Queues."
        api = (1, 0)
        config_class = Config

        @hookimpl
        def rm_create(self, config, context): ...

        @hookimpl
        def rm_probe(self, config):
            if config.queue == "raises":
                1 / 0
            if not config.queue:
                return Probe(False, "there is no default queue", "set rm.queues.queue", {"queues": ["a", "b"]})
            return Probe(True, f"queue {config.queue} is open")
"""


def test_show_says_whether_a_plugin_can_be_used_here(install, capsys, monkeypatch):
    install("acme-queues", "rm", "queues", RM)
    assert main(["plugins", "show", "rm", "queues"]) == 0
    text = capsys.readouterr().out
    assert "here: cannot be used, there is no default queue\n  try: set rm.queues.queue\n" in text
    assert main(["plugins", "show", "rm", "queues", "--json"]) == 0
    here = json.loads(capsys.readouterr().out)["here"]
    assert (here["ok"], here["facts"]) == (False, {"queues": ["a", "b"]})
    monkeypatch.setenv("TWISTER2__RM__QUEUES__QUEUE", "night")
    assert main(["plugins", "show", "rm", "queues"]) == 0
    assert "here: queue night is open\n" in capsys.readouterr().out
    monkeypatch.setenv("TWISTER2__RM__QUEUES__QUEUE", "raises")
    assert main(["plugins", "show", "rm", "queues"]) == 0
    assert "here: cannot be used, rm_probe raised ZeroDivisionError" in capsys.readouterr().out
    monkeypatch.setenv("TWISTER2__RM__QUEUES__QUEEU", "a mistake elsewhere")
    assert main(["plugins", "show", "rm", "queues"]) == 0
    assert "here: cannot be used, there is no default queue" in capsys.readouterr().out


def test_show_is_silent_about_what_a_plugin_does_not_say(install, capsys):
    install("acme-good", "sched", "greedy", SCHED)
    assert main(["plugins", "show", "sched", "greedy"]) == 0
    assert "here:" not in capsys.readouterr().out
    assert main(["plugins", "show", "sched", "greedy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["here"] is None


def test_a_command_of_a_plugin_is_found_when_its_name_is_typed(install, capsys, monkeypatch):
    install("acme-command", "command", "greet", COMMAND)
    assert main(["greet", "you"]) == 1
    assert capsys.readouterr().out == "hello you\n"
    monkeypatch.setenv("TWISTER2__COMMAND__GREET__GREETING", "bye")
    assert main(["greet", "you"]) == 1
    assert capsys.readouterr().out == "bye you\n"


def test_a_command_that_fails_names_its_plugin_and_not_this_system(install, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("TWISTER2_DEBUG", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    install("acme-command", "command", "greet", COMMAND.replace("return 1", "return 1 // 0"))
    assert main(["greet", "you"]) == 70
    text = capsys.readouterr().err
    assert "command plugin 'greet' (acme-command 1.0) failed by a mistake of its own: ZeroDivisionError" in text
    assert "report it to the plugin's authors" in text
    assert "twister2 failed" not in text
    (saved,) = tmp_path.glob("twister2-*.traceback")
    assert "1 // 0" in saved.read_text()


def test_what_a_plugin_is_called_does_not_reach_the_terminal_as_it_is(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("TWISTER2_DEBUG", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    error = cli._PluginFailedError("command plugin 'x' (acme\x1b[2J)")
    error.__cause__ = ValueError("no")
    assert cli._report(error) == 70
    text = capsys.readouterr().err
    assert "acme" in text
    assert "\x1b" not in text


def test_listing_shows_groups_of_kinds_that_do_not_exist(install, capsys):
    install("acme-typo", "shed", "greedy", SCHED)
    code, found = rows(capsys)
    assert code == 0
    assert found["shed", "greedy", "acme-typo"]["state"] == "unknown kind, did you mean 'sched'?"
    code, found = rows(capsys, "--check")
    assert code == 1
    assert "acme_typo" not in sys.modules
    code, found = rows(capsys, "sched")
    assert ("shed", "greedy", "acme-typo") not in found


@pytest.fixture
def whole_job(install):
    """One plugin of every kind a job needs, called ``only``, and a configuration that selects them."""
    hooks = {
        "rm": ("rm", "ResourceManagerSpec", "rm_create"),
        "comm": ("comm", "CommSpec", "comm_create"),
        "ops": ("ops", "OpsSpec", "ops_create"),
        "exec": ("executor", "ExecSpec", "exec_create"),
        "data": ("data", "DataSpec", "data_create"),
        "state": ("state", "StateSpec", "state_create"),
    }
    declared = {
        "comm": "from twister2.spec.comm import TransportFacts; facts = TransportFacts()",
        "data": "formats = schemes = ('only',)",
    }
    for kind, (module, spec, hook) in hooks.items():
        install(
            f"acme-{kind}",
            kind,
            "only",
            f"""
            from twister2.spec.plugin import hookimpl
            from twister2.spec.{module} import {spec}

            class Plugin({spec}):
                api = (1, 0)
                {declared.get(kind, "pass")}
                @hookimpl
                def {hook}(self, config): ...
            """,
        )
    install("acme-good", "sched", "only", SCHED)
    with open("twister2.toml", "w", encoding="utf-8") as file:
        file.write(
            '[job]\nrm = "only"\ncomm = ["only"]\nops = ["only"]\nsched = "only"\nexec = "only"\ndata = ["only"]\n'
            'state = "only"\n[sched.only]\ntoken = "s3cret"\n[profile.big.job]\nworkers = 64\n'
        )


def test_config_show_with_origins_and_without_secrets(whole_job, capsys):
    assert main(["config", "show", "--origin", "-o", "sched.only.limit=7", "big"]) == 0
    text = capsys.readouterr().out
    lines = {line.partition(" = ")[0]: line for line in text.splitlines()}
    assert lines["job.workers"].split("  # ") == [
        lines["job.workers"].split("  # ")[0],
        "profile big, file twister2.toml",
    ]
    assert lines["sched.only.limit"].startswith("sched.only.limit = 7 ")
    assert lines["sched.only.limit"].endswith("# -o")
    assert lines["job.cpus"].endswith("# default")
    assert "s3cret" not in text
    assert main(["config", "show", "--json", "--origin"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["options"]["sched"]["only"] == {"limit": 3, "token": "***"}
    assert data["origins"]["job.rm"] == "file twister2.toml"


def test_config_show_reports_all_mistakes(whole_job, capsys):
    assert main(["config", "show", "-o", "job.wokers=1", "-o", "job.cpus=x", "-o", "sched.only.lmit=1"]) == 2
    text = capsys.readouterr().err
    for clue in ("did you mean 'workers'", "must be a number, is 'x'", "did you mean 'limit'", "3 problems"):
        assert clue in text


def test_config_example_is_toml_and_broken_plugins_are_a_comment(install, capsys):
    install("acme-good", "sched", "greedy", SCHED)
    install("acme-bad", "sched", "bad", "1 / 0")
    assert main(["config", "example"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text)["sched"]["greedy"] == {}
    assert "#limit = 3" in text
    assert "# [sched.bad]:" in text
    assert main(["config", "example", "sched.greedy"]) == 0
    assert capsys.readouterr().out.startswith("[sched.greedy]")
    assert main(["config", "example", "greedy"]) == 2


def test_new_needs_the_test_kit_and_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "twister2_testkit", None)
    monkeypatch.delitem(sys.modules, "twister2_testkit.template", raising=False)
    assert main(["plugins", "new", "--kind", "rm", "--name", "x", str(tmp_path)]) == 2
    assert f"{sys.executable} -m pip install twister2-testkit" in capsys.readouterr().err
