"""What is read of distributions without ``importlib.metadata`` is what that would say."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile

import pytest

from twister2.host.catalog import Catalog
from twister2.host.distributions import FolderDistribution, distributions

ENTRY_POINTS = """\
[console_scripts]
acme = acme.cli:main [extra]

# a comment
[twister2.rm]
  acme=acme.rm:Plugin
other = acme.rm:Other.Inner
"""


def facts(found):
    points = [(point.group, point.name, point.value) for point in found.entry_points]
    return found.read_text("METADATA"), points


def by_metadata():
    return sorted(map(facts, importlib.metadata.distributions()), key=repr)


def test_this_interpreter_s_distributions_are_the_same(site, good_sched):
    site.install("acme-good", "sched", "good", good_sched)
    assert sorted(map(facts, distributions()), key=repr) == by_metadata()


def test_entry_points_are_read_as_importlib_metadata_reads_them(site):
    info = site.install("acme", "rm", "acme", None)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    found = FolderDistribution(str(info))
    assert len(facts(found)[1]) == 3
    assert facts(found) == facts(importlib.metadata.PathDistribution(info))


def test_what_is_no_file_is_not_there(site):
    info = site.install("acme", "rm", "acme", None)
    (info / "entry_points.txt").unlink()
    (info / "METADATA").unlink()
    (info / "METADATA").mkdir()
    assert facts(FolderDistribution(str(info))) == (None, [])


@pytest.mark.parametrize("kind", ["archive", "egg-info", "egg"])
def test_distributions_elsewhere_are_found(kind, tmp_path, monkeypatch):
    files = {"entry_points.txt": "[twister2.rm]\nacme = acme:Plugin\n"}
    if kind == "archive":
        place = tmp_path / "acme.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for name, text in {**files, "METADATA": "Name: acme\nVersion: 1.0\n"}.items():
                archive.writestr(f"acme-1.0.dist-info/{name}", text)
    else:
        place, info = tmp_path, tmp_path / "acme.egg-info"
        if kind == "egg":
            place = tmp_path / "acme-1.0-py3.egg"
            info = place / "EGG-INFO"
        info.mkdir(parents=True)
        for name, text in {**files, "PKG-INFO": "Name: acme\nVersion: 1.0\n"}.items():
            (info / name).write_text(text)
    monkeypatch.syspath_prepend(str(place))
    assert "acme" in [record.name for record in Catalog().records("rm")]
    assert sorted(map(facts, distributions()), key=repr) == by_metadata()


def test_finders_of_other_packages_are_asked(monkeypatch, site):
    class Finder(importlib.metadata.DistributionFinder):
        def find_spec(self, name, path=None, target=None):
            return None

        def find_distributions(self, context=None):
            return [importlib.metadata.PathDistribution(info)]

    info = site.install("acme", "rm", "acme", None)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(site.folder)])
    assert "acme" not in [record.name for record in Catalog().records("rm")]
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert "acme" in [record.name for record in Catalog().records("rm")]


def test_a_host_that_loads_by_target_needs_neither_importlib_metadata_nor_stevedore(site):
    site.install(
        "acme-rm",
        "rm",
        "early",
        """
        from twister2.spec.rm import ResourceManagerSpec
        from twister2.spec.plugin import hookimpl

        class Plugin(ResourceManagerSpec):
            api = (1, 0)

            @hookimpl
            def rm_create(self, config, context): ...
        """,
    )
    code = (
        "from twister2.host import PluginHost\n"
        "print(PluginHost(by_target=True).load('rm', 'early').record.name)\n"
        "print(sorted({'stevedore', 'importlib.metadata', 'logging'} & set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; before = set(sys.modules); sys.path[:] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["early", "[]"], done.stderr
