"""Every way a plugin can be wrong is an error of its own, and none of them touches another plugin."""

from __future__ import annotations

import re
import sys

import pytest

from twister2.cli.main import COMMANDS
from twister2.host import PluginHost
from twister2.host.declarations import BUILT_IN_COMMANDS
from twister2.host.failures import not_found
from twister2.spec import errors
from twister2.spec.plugin import KINDS


def refused(kind, name):
    with pytest.raises(errors.PluginError) as caught:
        PluginHost().load(kind, name)
    error = caught.value
    assert error.what
    assert error.why
    assert error.remedy
    return error


def test_missing_names_the_installed_and_the_nearest(site, good_sched):
    site.install("acme-greedy", "sched", "greedy", good_sched)
    error = refused("sched", "gredy")
    assert type(error) is errors.PluginNotFoundError
    assert "greedy" in error.details["installed"]
    assert error.details["nearest"] == "greedy"
    assert error.remedy == "use 'greedy'"
    assert "install" not in error.details
    assert sys.executable in error.where
    assert re.search(r"host \S+", error.where)


@pytest.mark.parametrize(
    ("kind", "name", "distribution"),
    [
        ("rm", "slurm", "twister2-rm-slurm"),
        ("ops", "net", "twister2-net"),
        ("api", "tset", "twister2-tset"),
    ],
)
def test_a_published_plugin_comes_with_the_exact_command(kind, name, distribution):
    error = not_found(kind, name, [], pinned=False)
    assert error.remedy == error.details["install"] == f"{sys.executable} -m pip install {distribution}"


@pytest.mark.parametrize("kind", ["rm", "comm", "ops", "command", "api"])
def test_no_command_is_made_up_for_a_name_that_nobody_has_published(kind):
    error = refused(kind, "xyzzy")
    assert "install" not in error.details
    assert "pip" not in error.remedy
    assert "the distribution that provides it" in error.remedy


def test_a_misspelt_published_plugin_that_is_not_installed():
    error = not_found("rm", "slrum", [], pinned=False)
    assert error.remedy == f"use 'slurm', after {sys.executable} -m pip install twister2-rm-slurm"
    assert "install" not in error.details


@pytest.mark.parametrize("statement", ["import no_such_module_xyz", "1 / 0", "raise SystemExit(3)", "assert False"])
def test_an_import_that_fails_is_broken_not_missing(site, statement):
    site.install("acme-broken", "sched", "broken", statement)
    error = refused("sched", "broken")
    assert type(error) is errors.PluginBrokenError
    assert "acme-broken 1.0" in error.what
    assert error.__cause__ is not None
    assert type(error.__cause__).__name__ in error.what


def test_an_entry_point_that_names_an_absent_module_or_class_says_so(site, good_sched):
    site.install("acme-gone", "sched", "gone", None)
    error = refused("sched", "gone")
    assert type(error) is errors.PluginBrokenError
    assert "names a module which is not there: acme_gone" in error.what
    assert "correct its entry point" in error.remedy
    site.install("acme-other", "sched", "other", good_sched, attribute="Plugn")
    error = refused("sched", "other")
    assert type(error) is errors.PluginBrokenError
    assert "names a class which is not there: Plugn in module acme_other" in error.what
    assert "did you mean 'Plugin'" in error.why
    assert "correct its entry point" in error.remedy
    site.install("acme-inner", "sched", "inner", "import os\nos.no_such_thing")
    site.install("acme-half", "sched", "half", "import acme_half.backend")
    error = refused("sched", "half")
    assert "No module named 'acme_half.backend'" in error.what
    assert error.remedy.startswith("repair it: ")
    assert "failed to import: AttributeError" in refused("sched", "inner").what


@pytest.mark.parametrize(
    ("init", "clue"),
    [("self, size", "takes arguments: size"), ("self", "making a Plugin raised RuntimeError: no room")],
)
def test_a_plugin_class_that_cannot_be_made_says_why(site, good_sched, init, clue):
    source = good_sched.replace("api =", f"def __init__({init}): raise RuntimeError('no room')\n        api =")
    site.install("acme-init", "sched", "init", source)
    error = refused("sched", "init")
    assert type(error) is errors.PluginBrokenError
    assert clue in error.what
    assert "import" not in error.what
    assert "__init__" in error.remedy


@pytest.mark.parametrize(
    "kind", ["complex", "set[int]", "int | str", "tuple[int, int]", "list[bytes]", "dict[int, str]"]
)
def test_an_option_of_a_type_that_configuration_cannot_fill_is_named(site, good_sched, kind):
    options = f"""
    import attrs
    from twister2.spec.options import option

    @attrs.frozen
    class Inner:
        odd: {kind} = option(None, "Odd.")

    @attrs.frozen
    class Options:
        inner: Inner = option(Inner(), "Inner.")
    """
    source = options + good_sched.replace("api = (1, 0)", "api = (1, 0)\n        config_class = Options")
    site.install("acme-odd", "sched", "odd", source)
    error = refused("sched", "odd")
    assert type(error) is errors.PluginIncompleteError
    assert "field 'odd' of Inner has type" in error.why


DECLARES = """
    from twister2.spec.{module} import {spec}
    from twister2.spec.plugin import hookimpl

    class Plugin({spec}):
        api = (1, 0)
        summary = "does something"
        {line}

        @hookimpl
        def {hook}(self): ...
"""


@pytest.mark.parametrize(
    ("kind", "spec", "hook", "line", "clue"),
    [
        ("comm", "CommSpec", "comm_create", "pass", "has no facts"),
        ("comm", "CommSpec", "comm_create", "facts = 'fast'", "facts is 'fast'"),
        ("data", "DataSpec", "data_create", "schemes = ('',)", "has no formats"),
        ("data", "DataSpec", "data_create", "formats = ('csv',)", "has no schemes"),
        ("data", "DataSpec", "data_create", "formats = 'csv'; schemes = ('',)", "formats is 'csv'"),
        ("observe", "ObserveSpec", "job_ended", "where = 'worker'", "where is 'worker'"),
        ("command", "CommandSpec", "command_create", "pass", "'twister2 submit' is built in"),
    ],
)
def test_what_the_core_decides_by_is_checked_at_load(site, kind, spec, hook, line, clue):
    source = DECLARES.format(module=kind, spec=spec, hook=hook, line=line)
    site.install("acme-vague", kind, "submit", source)
    error = refused(kind, "submit")
    assert type(error) is errors.PluginIncompleteError
    assert clue in error.why


def test_the_names_of_built_in_commands_are_known():
    assert {*COMMANDS, "help"} == BUILT_IN_COMMANDS


def test_each_of_two_misspelt_hooks_gets_a_name_of_its_own(site):
    source = """
        from twister2.spec.observe import ObserveSpec
        from twister2.spec.plugin import hookimpl

        class Plugin(ObserveSpec):
            api = (1, 0)

            @hookimpl
            def job_state(self): ...

            @hookimpl
            def job_sttae(self): ...

            @hookimpl
            def job_endde(self): ...
    """
    site.install("acme-two", "observe", "two", source)
    error = refused("observe", "two")
    assert type(error) is errors.PluginHookError
    assert "'job_endde', 'job_sttae'" in error.what
    assert "rename 'job_endde' to 'job_ended'" in error.remedy
    assert "'job_state'" not in error.remedy, "that one is there already"


@pytest.mark.parametrize(
    ("api", "remedy"), [((2, 0), "twister2-core"), ((1, 99), "twister2-core"), ((0, 9), "acme-old")]
)
def test_another_interface_version_is_incompatible_with_both_numbers(site, good_sched, api, remedy):
    site.install("acme-old", "sched", "old", good_sched.replace("(1, 0)", str(api)))
    error = refused("sched", "old")
    assert type(error) is errors.PluginIncompatibleError
    assert f"sched {api[0]}.{api[1]}" in error.what
    assert "offers sched {}.{}".format(*KINDS["sched"].api) in error.what
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("change", "clue"),
    [
        (("api = (1, 0)", "pass"), "interface version"),
        (("api = (1, 0)", "api = '1.0'"), "interface version"),
        (("(SchedSpec)", "()"), "not a subclass of SchedSpec"),
        (("class Plugin(SchedSpec)", "Plugin = 3\n\n    class Other(SchedSpec)"), "not a subclass of SchedSpec"),
        (("api = (1, 0)", "api = (1, 0)\n        config_class = dict"), "does not declare its options"),
        (("@hookimpl\n        def sched_create", "def create_sched"), "does not implement sched_create"),
    ],
)
def test_incomplete(site, good_sched, change, clue):
    assert change[0] in good_sched
    site.install("acme-part", "sched", "part", good_sched.replace(*change))
    error = refused("sched", "part")
    assert type(error) is errors.PluginIncompleteError
    assert clue in error.what


def test_a_missing_hook_names_the_method_that_looks_like_it(site, good_sched):
    site.install(
        "acme-near", "sched", "near", good_sched.replace("@hookimpl\n        def sched_create", "def sched_creat")
    )
    error = refused("sched", "near")
    assert "sched_creat'" in error.why


@pytest.mark.parametrize(
    ("change", "clue"),
    [
        (("def sched_create", "def sched_craete"), "'sched_craete' that does not exist"),
        (("@hookimpl\n        def sched_create", "def sched_create"), "overrides sched_create without @hookimpl"),
        (("sched_create(self, config)", "sched_create(self, confg)"), "'confg' that the hook does not pass"),
        (("def sched_create", "async def sched_create"), "async def"),
    ],
)
def test_wrong_hooks(site, good_sched, change, clue):
    assert change[0] in good_sched
    site.install("acme-hook", "sched", "hook", good_sched.replace(*change))
    error = refused("sched", "hook")
    assert type(error) is errors.PluginHookError
    assert clue in error.what


def test_a_misspelt_hook_or_argument_gets_the_right_name_as_remedy(site, good_sched):
    site.install("acme-a", "sched", "a", good_sched.replace("def sched_create", "def sched_craete"))
    assert "'sched_create'" in refused("sched", "a").remedy
    site.install("acme-b", "sched", "b", good_sched.replace("(self, config)", "(self, confg)"))
    assert "'config'" in refused("sched", "b").remedy


def test_a_misspelt_optional_hook_is_found_beside_a_right_factory(site):
    site.install(
        "acme-observer",
        "observe",
        "watch",
        """
        from twister2.spec.observe import ObserveSpec
        from twister2.spec.plugin import hookimpl

        class Plugin(ObserveSpec):
            api = (1, 0)

            @hookimpl
            def job_sate(self, job_id): ...
        """,
    )
    assert "'job_state'" in refused("observe", "watch").remedy


def test_two_providers_are_a_conflict_that_names_both(site, good_sched):
    site.install("acme-one", "sched", "twice", good_sched)
    site.install("acme-two", "sched", "twice", good_sched, version="2.5")
    error = refused("sched", "twice")
    assert type(error) is errors.PluginConflictError
    assert "acme-one 1.0" in error.what
    assert "acme-two 2.5" in error.what
    assert not {"acme_one", "acme_two"} & set(sys.modules), "a conflict is found before anything is imported"


@pytest.mark.parametrize(
    ("returned", "clue"),
    [
        ("None", "returned None, expected a TaskScheduler"),
        ("object()", "returned a object object, expected a TaskScheduler"),
        ("Backend", "returned a"),
    ],
)
def test_what_the_factory_returns_is_checked(site, good_sched, returned, clue):
    site.install("acme-back", "sched", "back", good_sched.replace("return Backend()", f"return {returned}"))
    with pytest.raises(errors.PluginIncompleteError) as caught:
        PluginHost().create("sched", "back")
    assert clue in caught.value.what
    assert "TaskScheduler" in caught.value.remedy


def test_a_backend_with_missing_methods_names_them(site, good_sched):
    site.install("acme-half", "sched", "half", good_sched.replace("def schedule(", "def plan("))
    with pytest.raises(errors.PluginIncompleteError, match="schedule"):
        PluginHost().create("sched", "half")
    duck = good_sched.replace("(TaskScheduler)", "()").replace("def schedule(", "def plan(")
    site.install("acme-duck", "sched", "duck", duck)
    with pytest.raises(errors.PluginIncompleteError, match="lacks schedule"):
        PluginHost().create("sched", "duck")


def test_a_factory_that_raises_is_broken_with_its_cause_but_errors_of_this_system_pass(site, good_sched):
    site.install("acme-raise", "sched", "raise", good_sched.replace("return Backend()", "import no_such_module_xyz"))
    with pytest.raises(errors.PluginBrokenError, match="no_such_module_xyz") as caught:
        PluginHost().create("sched", "raise")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    tool = "from twister2.spec.errors import MissingToolError; raise MissingToolError('x', why='y', remedy='z')"
    site.install("acme-tool", "sched", "tool", good_sched.replace("return Backend()", tool))
    with pytest.raises(errors.MissingToolError):
        PluginHost().create("sched", "tool")


def test_an_installed_plugin_that_is_not_selected_breaks_nothing(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched)
    site.install("acme-bad", "sched", "bad", "raise SystemExit('never imported')")
    site.install("acme-sad", "sched", "sad", "1 / 0")
    host = PluginHost()
    assert {"good", "bad", "sad"} <= {record.name for record in host.discover("sched")}
    assert host.create("sched", "good").schedule(None) == "scheduled"
    assert not {"acme_bad", "acme_sad"} & set(sys.modules)


def test_damaged_metadata_of_one_distribution_hides_no_other(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched)
    damaged = site.install("acme-damaged", "sched", "damaged", good_sched)
    (damaged / "METADATA").unlink()
    host = PluginHost()
    assert {"good", "damaged"} <= {record.name for record in host.discover("sched")}
    assert host.load("sched", "good")
    assert host.load("sched", "damaged")


def test_only_arguments_of_the_spec_are_passed_to_a_factory(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched)
    with pytest.raises(TypeError, match="sched_create takes config"):
        PluginHost().create("sched", "good", context=3)
    with pytest.raises(TypeError, match="NoOptions"):
        PluginHost().create("sched", "good", object())
