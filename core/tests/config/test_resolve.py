"""Layers, origins, profiles, and all problems at once."""

from __future__ import annotations

import json

import pytest

from twister2.config import Resolved
from twister2.config.job import JobConfig
from twister2.config.resolve import resolve_state_dirs
from twister2.spec.errors import ConfigError, PluginNotFoundError

LAYERS = ("site", "user", "project", "profile", "environment", "-o", "keyword")


@pytest.mark.parametrize("top", range(len(LAYERS) + 1))
def test_each_layer_wins_over_those_below_it_and_the_origin_says_so(layers, host, top):
    given = LAYERS[:top]
    arguments = {}
    for number, layer in enumerate(given, start=10):
        if layer in ("site", "user", "project"):
            arguments[layer] = f"[job]\nworkers = {number}\n"
        elif layer == "profile":
            arguments["project"] = arguments["project"] + f"[profile.mine.job]\nworkers = {number}\n"
            arguments["profile"] = "mine"
        elif layer == "environment":
            arguments["environ"] = {"TWISTER2__JOB__WORKERS": str(number)}
        elif layer == "-o":
            arguments["settings"] = [f"job.workers={number}"]
        else:
            arguments["overrides"] = {"job": {"workers": number}}
    found = layers(host, **arguments)
    assert found.job.workers == (9 + top if top else JobConfig().workers)
    origin = found.origins["job.workers"]
    assert (given[-1] if given else "default") in origin.replace("xdg", "user").replace("twister2.toml", "project")
    assert found.origins["job.name"] == "default"


def test_tables_merge_scalars_and_lists_replace(layers, host):
    found = layers(
        host,
        site='[job]\ncomm = ["tcp", "mpi"]\nrm = "slurm"\n[rm.slurm]\npartition = "a"\nlabels = {x = "1", y = "2"}\n',
        project='[job]\ncomm = ["mpi"]\n[rm.slurm]\nfast = true\nlabels = {y = "3"}\n',
    )
    slurm = found.plugin("rm", "slurm")
    assert found.job.comm == ("mpi",)
    assert (slurm.partition, slurm.fast, slurm.labels) == ("a", True, {"x": "1", "y": "3"})


def test_no_profile_of_that_name_is_an_installed_manager_with_its_defaults(layers, host):
    found = layers(host, profile="slurm")
    assert found.job.rm == "slurm"
    assert found.origins["job.rm"] == "profile slurm"


def test_a_profile_table_may_choose_another_manager_than_its_name(layers, host):
    found = layers(host, profile="slurm", project='[profile.slurm.job]\nrm = "standalone"\nworkers = 7\n')
    assert (found.job.rm, found.job.workers) == ("standalone", 7)


def test_a_profile_table_of_a_managers_name_chooses_it(layers, host):
    found = layers(host, profile="slurm", project='[profile.slurm.rm.slurm]\npartition = "debug"\n')
    assert found.plugin("rm", "slurm").partition == "debug"


def test_an_unknown_profile_names_profiles_managers_and_the_nearest(problems):
    (line,) = problems(profile="slrum", project="[profile.night.job]\nworkers = 1\n")
    assert "did you mean 'slurm'" in line
    assert "night" in line
    assert "standalone, slurm" in line or "slurm, standalone" in line


def test_five_mistakes_are_reported_at_once_each_with_its_origin(problems):
    lines = problems(
        project='[job]\nwrkers = 3\nrm = "slurm"\n[rm.slurm]\ntime_limit_s = 0\npartion = "x"\n',
        environ={"TWISTER2__JOB__CPUS": "many"},
        settings=["job.master=clint"],
    )
    text = "\n".join(lines)
    assert len(lines) == 5
    for clue in (
        "job.wrkers: unknown option; did you mean 'workers'?  [file",
        "rm.slurm.time_limit_s: must be > 0: 0  [file",
        "rm.slurm.partion: unknown option; did you mean 'partition'?  [file",
        "job.cpus: must be a number, is 'many'  [environment TWISTER2__JOB__CPUS]",
        "job.master: must be 'auto' or 'client' or 'allocation', is 'clint'; did you mean 'client'?  [-o]",
    ):
        assert clue in text


def test_the_error_text_holds_every_problem(layers, host):
    with pytest.raises(ConfigError) as caught:
        layers(host, settings=["job.workers=0", "job.cpus=-1"])
    assert "2 problems" in caught.value.what
    assert "job.workers: must be >= 1: 0" in str(caught.value)
    assert "job.cpus: must be > 0: -1.0" in str(caught.value)


def test_files_that_cannot_be_read_are_problems(problems, tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'[job]\nname = "\xe9"\n')
    lines = problems(project="[job", files=[tmp_path / "nosuch.toml", tmp_path / "latin.toml"])
    assert ["No such file" in lines[0], "not UTF-8" in lines[1], len(lines)] == [True, True, 2]
    (line,) = problems(project="[job")
    assert "is not TOML" in line
    assert "twister2.toml" in line


def test_explicit_files_replace_the_project_file_and_later_ones_win(layers, host, tmp_path):
    (tmp_path / "a.toml").write_text("[job]\nworkers = 5\ncpus = 2\n")
    (tmp_path / "b.toml").write_text("[job]\nworkers = 6\n")
    found = layers(host, project="[job]\ngpus = 9\n", files=[tmp_path / "a.toml", tmp_path / "b.toml"])
    assert (found.job.workers, found.job.cpus, found.job.gpus) == (6, 2.0, 0)


def test_tables_of_unselected_plugins_are_left_alone_and_their_plugins_not_loaded(layers, host):
    found = layers(host, project="[rm.slurm]\nno_such_option = 1\n[command.dashboard]\ndepth = 3\n")
    assert ("rm", "slurm") not in host.loaded
    assert ("command", "dashboard") not in host.loaded
    assert found.plugin("command", "dashboard").depth == 3
    with pytest.raises(ConfigError, match="a problem"):
        found.plugin("rm", "slurm")


def test_tables_of_unknown_plugins_and_kinds_are_problems(problems):
    lines = problems(project="[rm.slrm]\nx = 1\n[rn.slurm]\nx = 1\n", environ={"TWISTER2__STATE__FLIE__X": "1"})
    text = "\n".join(lines)
    assert len(lines) == 3
    assert "rm.slrm: no such rm plugin; did you mean 'slurm'?" in text
    assert "rn: unknown table; did you mean 'rm'?" in text
    assert "state.flie: no such state plugin; did you mean 'file'?" in text


@pytest.mark.parametrize("text", ["job = 3", "rm = 3", "profile = 3", "[rm]\nstandalone = 3", "[job]\nnetwork = 3"])
def test_a_value_where_a_table_belongs_is_a_problem(problems, text):
    (line,) = problems(project=text, profile="standalone")
    assert "table" in line
    assert "twister2.toml" in line


def test_one_missing_plugin_alone_is_its_own_error_with_the_place_that_chose_it(layers, host):
    with pytest.raises(PluginNotFoundError) as caught:
        layers(host, settings=["job.exec=thread"])
    assert caught.value.where.startswith("job.exec [-o]; ")


def test_a_missing_plugin_beside_other_mistakes_is_one_of_the_problems(problems):
    lines = problems(settings=["job.exec=thread", "job.workers=0"])
    assert any("no exec plugin is called 'thread'" in line for line in lines)
    assert len(lines) == 2


def test_requirements_that_are_not_met(problems):
    (line,) = problems(project='[job]\nrequires = ["twister2-x>=1"]\n')
    assert "twister2-x>=1 is not installed" in line


def test_a_former_name_is_accepted_with_a_warning_but_not_beside_the_present_one(layers, host, problems):
    project = '[job]\nrm = "slurm"\n[rm.slurm]\nwalltime = 60\n'
    found = layers(host, project=project)
    assert found.plugin("rm", "slurm").time_limit_s == 60
    assert "rm.slurm.walltime is now called rm.slurm.time_limit_s" in found.warnings[0]
    (line,) = problems(project=project + "time_limit_s = 70\n")
    assert "beside 'time_limit_s'" in line


@pytest.mark.parametrize("setting", ["job.workers", "workers=3", "=3", "job..x=3"])
def test_a_setting_of_the_wrong_form(problems, setting):
    assert "is not of the form" in problems(settings=[setting])[0]


def test_none_in_overrides_means_not_given(layers, host):
    found = layers(host, project="[job]\nworkers = 5\n", overrides={"job": {"workers": None, "name": "x"}})
    assert (found.job.workers, found.job.name) == (5, "x")


def test_selection_lists_every_selected_plugin_once(layers, host):
    found = layers(host, settings=["job.comm=tcp,mpi,tcp"])
    assert found.selection().count(("comm", "tcp")) == 1
    assert {("rm", "standalone"), ("comm", "mpi"), ("ops", "net"), ("state", "file")} <= set(found.selection())


def test_it_travels_as_json_and_workers_load_a_plugin_at_its_first_use(layers, host):
    project = """
        [job]
        rm = "slurm"
        [rm.slurm]
        place = "/x"
        colour = "blue"
        ports = [1, 2]
        labels = {a = "b"}
        token = "s3cret"
        inner = {depth = 4}
    """
    found = layers(host, project=project)
    data = json.loads(json.dumps(found.to_dict()))
    there = type(host)()
    again = Resolved.from_dict(data, there)
    assert there.loaded == []
    assert again.job == found.job
    assert again.plugin("rm", "slurm") == found.plugin("rm", "slurm")
    assert there.loaded == [("rm", "slurm")]
    assert again.origins == found.origins
    assert again.tables() == found.tables()


def test_secrets_are_shown_nowhere(layers, host):
    found = layers(host, settings=["job.rm=slurm", "rm.slurm.token=s3cret"])
    assert "s3cret" not in repr(found)
    assert "s3cret" not in repr(found.plugin("rm", "slurm"))
    assert "s3cret" not in str(found.tables(hide_secrets=True))
    assert found.tables()["rm"]["slurm"]["token"] == "s3cret"


def test_plugins_that_are_all_only_missing_are_one_error_with_one_command(layers, host):
    host.published = ("thread", "fil")
    with pytest.raises(PluginNotFoundError) as caught:
        layers(host, settings=["job.exec=thread", "job.state=fil"])
    assert caught.value.remedy == "python -m pip install twister2-exec-thread twister2-state-fil"
    assert "job.exec: no exec plugin is called 'thread'; not here  [-o]" in caught.value.why
    with pytest.raises(ConfigError) as mixed:
        layers(host, settings=["job.exec=thread", "job.workers=0"])
    assert mixed.value.remedy.startswith("python -m pip install twister2-exec-thread; correct it")


def test_a_profile_of_no_known_name_lists_what_there_is(problems):
    (line,) = problems(profile="xyzzy", project="[profile.night.job]\nworkers = 1\n")
    assert "there is no profile 'xyzzy' (profiles: night; installed resource managers: slurm, standalone)" in line


def test_a_file_that_cannot_be_read_is_the_only_problem_though_it_may_have_the_profile(problems):
    (line,) = problems(profile="night", project="[profile.night.job]\nworkers = = 1\n")
    assert "is not TOML" in line


def test_a_profile_that_is_a_manager_to_be_installed_is_a_missing_manager(layers, host):
    with pytest.raises(PluginNotFoundError) as caught:
        layers(host, profile="k8s", project="[profile.night.job]\nworkers = 1\n")
    assert caught.value.where == "job.rm [profile k8s]; h"
    assert "no rm plugin is called 'k8s'" in caught.value.what
    assert "profiles: night" in caught.value.why


def test_what_is_missing_can_be_looked_past_and_what_is_wrong_cannot(layers, host):
    found = layers(host, settings=["job.exec=thread"], accept_absent=True)
    assert "no exec plugin is called 'thread'" in found.warnings[0]
    assert found.absent == {("exec", "thread")}
    assert "exec" not in found.tables()
    assert found.tables()["rm"]
    with pytest.raises(ConfigError):
        layers(host, settings=["job.exec=thread", "job.workers=0"], accept_absent=True)


def test_the_site_file_that_the_environment_names_has_to_exist(problems, layers, host, tmp_path):
    gone = str(tmp_path / "gone.toml")
    assert problems(environ={"TWISTER2_SITE_CONFIG": gone}) == [
        f"cannot be read: No such file or directory  [file {gone}]"
    ]
    assert layers(host, environ={"TWISTER2_SITE_CONFIG": "/dev/null"}).job == JobConfig()


def test_a_folder_in_place_of_a_file_is_told(problems, tmp_path):
    (tmp_path / "project" / "below" / "twister2.toml").mkdir()
    assert problems() == ["cannot be read: Is a directory  [file twister2.toml]"]


def test_a_name_that_was_misspelt_is_not_listed_as_installed(layers, host):
    with pytest.raises(ConfigError) as caught:
        layers(host, settings=["job.rm=slrm", "rm.slrn.x=1"])
    (told,) = [text for text in caught.value.details["problems"] if text.startswith("rm.slrn")]
    assert "(installed: slurm, standalone)" in told


STATE_DIRS = """
[job]
wrkers = 3
state_dir = "/a"
[profile.lab.job]
state_dir = "/b"
cpus = "a mistake of a profile that is not used"
[profile.same.job]
state_dir = "/a"
[profile.other.rm.slurm]
partition = "p"
"""


@pytest.mark.parametrize(("environ", "expected"), [({}, ["/a", "/b"]), ({"TWISTER2__JOB__STATE_DIR": "/c"}, ["/c"])])
def test_state_folders_of_all_profiles(host, tmp_path, monkeypatch, environ, expected):
    """An environment's holds for every profile."""
    monkeypatch.chdir(tmp_path)
    site = tmp_path / "site.toml"
    environ = {"TWISTER2_SITE_CONFIG": str(site), "XDG_CONFIG_HOME": str(tmp_path), **environ}
    site.write_text(STATE_DIRS)
    with pytest.raises(ConfigError, match="did you mean 'workers'"):
        resolve_state_dirs(host=host, environ=environ)
    site.write_text(STATE_DIRS.replace("wrkers", "workers"))
    assert resolve_state_dirs(host=host, environ=environ) == expected
    site.write_text("")
    assert resolve_state_dirs(host=host, environ=environ) == ([""] if len(expected) > 1 else expected)
