"""A configuration with nothing of this machine in it."""

from __future__ import annotations

import enum
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

import attrs
import pytest
from attrs.validators import gt, in_

from twister2.spec.errors import PluginNotFoundError
from twister2.spec.options import option


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen(kw_only=True)
class Inner:
    """Inner."""

    depth: int = option(1, "Depth.", unit="1", validator=gt(0))
    label: str = option("", "Label.")


@attrs.frozen(kw_only=True)
class Options:
    """Options of every kind of type."""

    partition: str | None = option(None, "Partition.")
    time_limit_s: int = option(3600, "Limit.", unit="s", validator=gt(0), was="walltime")
    ratio: float = option(0.5, "Ratio.", unit="1")
    fast: bool = option(False, "Fast.")
    place: Path = option(Path("/tmp"), "Place.")
    mode: Literal["sbatch", "srun"] = option("sbatch", "Mode.")
    colour: Colour = option(Colour.RED, "Colour.", validator=in_(Colour))
    names: list[str] = option([], "Names.")
    ports: tuple[int, ...] = option((), "Ports.", unit="1")
    labels: dict[str, str] = option({}, "Labels.")
    counts: dict[str, int] = option({}, "Counts.", unit="1")
    inner: Inner = option(Inner(), "Inner.")
    token: str = option("", "Token.", secret=True)


@attrs.frozen
class Empty:
    """No options."""


class FakeHost:
    """Knows two resource managers and one plugin of each other kind."""

    plugins: ClassVar = {
        "rm": {"standalone": Empty, "slurm": Options},
        "comm": {"shm": Empty, "tcp": Empty, "mpi": Empty},
        "ops": {"net": Empty},
        "sched": {"roundrobin": Empty},
        "exec": {"threads": Empty},
        "data": {"file": Empty},
        "state": {"file": Empty},
        "observe": {},
        "api": {},
        "command": {"dashboard": Inner},
    }

    def __init__(self):
        self.loaded = []
        self.published = ("k8s",)

    def discover(self, kind):
        return [SimpleNamespace(name=name) for name in self.plugins[kind]]

    def load(self, kind, name):
        self.loaded.append((kind, name))
        if name not in self.plugins[kind]:
            error = PluginNotFoundError(
                f"no {kind} plugin is called {name!r}", why="not here", remedy="install", where="h"
            )
            if name in self.published:
                error.details["install"] = f"python -m pip install twister2-{kind}-{name}"
            raise error
        return SimpleNamespace(config_class=self.plugins[kind][name])

    def missing_requirements(self, requirements):
        return [f"{requirement} is not installed" for requirement in requirements]


@pytest.fixture
def host():
    return FakeHost()


@pytest.fixture
def layers(tmp_path, monkeypatch):
    """Resolve with files of every layer: ``layers(site=..., user=..., project=..., environ=..., **arguments)``."""
    from twister2.config import resolve

    folder = tmp_path / "project" / "below"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)

    def run(host, *, site="", user="", project="", environ=None, **arguments):
        site_file, user_file = tmp_path / "site.toml", tmp_path / "xdg" / "twister2" / "config.toml"
        user_file.parent.mkdir(parents=True, exist_ok=True)
        site_file.write_text(site)
        user_file.write_text(user)
        (tmp_path / "project" / "twister2.toml").write_text(project)
        variables = {
            "TWISTER2_SITE_CONFIG": str(site_file),
            "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
            **(environ or {}),
        }
        return resolve(host=host, environ=variables, **arguments)

    return run


@pytest.fixture
def problems(layers, host):
    """Resolve what must fail; returns the lines."""
    from twister2.spec.errors import ConfigError

    def run(**arguments):
        with pytest.raises(ConfigError) as caught:
            layers(host, **arguments)
        return caught.value.details["problems"]

    return run
