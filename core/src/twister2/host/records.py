"""What is known of a plugin without importing it, and what the submitting side pins for the workers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import attrs

import twister2
from twister2.spec.plugin import KINDS
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen(order=True)
class PluginRecord:
    """One entry point of one installed distribution.

    :ivar kind: kind of plugin; :ivar name: entry-point name; :ivar target: ``module:Class``.
    :ivar distribution: name as its metadata spells it, empty when it has none; :ivar version: its version.
    :ivar requires_core: what it requires of ``twister2-core``, e.g. ``">=0.1,<0.2"``, empty when it says nothing.
    """

    kind: str
    name: str
    target: str
    distribution: str = ""
    version: str = ""
    requires_core: str = ""

    @property
    def provider(self) -> str:
        """Distribution and version for messages: ``"twister2-rm-slurm 0.1.0"``."""
        return f"{self.distribution} {self.version}".strip() or self.target

    @property
    def label(self) -> str:
        """The plugin for messages: ``"rm plugin 'slurm' (twister2-rm-slurm 0.1.0)"``."""
        return f"{self.kind} plugin {self.name!r} ({self.provider})"

    def to_dict(self) -> dict[str, str]:
        """Plain data; :meth:`from_dict` is the inverse."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PluginRecord:
        """Rebuild a record from :meth:`to_dict`; keys of later versions are ignored."""
        names = {field.name for field in attrs.fields(cls)}
        return cls(**{key: str(value) for key, value in data.items() if key in names})


def python_minor() -> str:
    """This interpreter's version without the patch level, e.g. ``"3.11"``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@attrs.frozen(eq=False, repr=False)
class Pins(Value):
    """The plugins of a job as the submitting side resolved them; travels in the job package.

    :ivar records: one per selected plugin. :ivar python: minor version of the submitting interpreter. :ivar core:
        version of its core.
    """

    records: tuple[PluginRecord, ...]
    python: str = attrs.field(factory=python_minor)
    core: str = twister2.__version__

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data; :meth:`from_dict` is the inverse."""
        return {"records": [record.to_dict() for record in self.records], "python": self.python, "core": self.core}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pins:
        """Rebuild pins from :meth:`to_dict`."""
        records = tuple(PluginRecord.from_dict(record) for record in data["records"])
        return cls(records, python=str(data["python"]), core=str(data["core"]))


def distribution_name(kind: str, name: str) -> str:
    """The distribution that the naming rule gives to a plugin: ``twister2-rm-slurm``, but ``twister2-net``."""
    named = kind in ("ops", "api", "command") or kind not in KINDS
    return "twister2-" + (name if named else f"{kind}-{name}").replace("_", "-")
