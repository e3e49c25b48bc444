"""What a plugin can do, as its tests say it: closed by default, and a closed capability states why.

A conformance suite declares a subclass of :class:`Capabilities` with one boolean per capability. A plugin's tests open
what the plugin does and give a reason for the rest::

    class TestSlurm(ResourceManagerSuite):
        capabilities = RmCapabilities(
            restarts_slots=True,
            why={"resizes": "a Slurm allocation cannot grow"},
        )

Tests of the suite are marked with :func:`needs`. A closed capability skips them with that reason; a closed capability
without a reason fails them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import attrs
import pytest

F = TypeVar("F", bound=Callable[..., Any])

SKIP_PREFIX = "capability "
"""How the skip reason of a closed capability begins."""


@attrs.frozen(kw_only=True)
class Capabilities:
    """Base of the capabilities of one kind of plugin: boolean fields, all False by default.

    :ivar why: for closed capabilities, by name, the reason in one sentence; the name ``"*"`` gives one for all others.
    """

    why: Mapping[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        names = self.names()
        unknown = sorted(set(self.why) - set(names) - {"*"})
        if unknown:
            raise TypeError(f"{type(self).__name__}: why names no capability: {', '.join(unknown)}; they are {names}")
        for name in names:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{type(self).__name__}.{name} must be True or False")
            if getattr(self, name) and name in self.why:
                raise TypeError(f"{type(self).__name__}: {name} is open and has a reason for being closed")

    @classmethod
    def names(cls) -> list[str]:
        """Names of all capabilities, sorted."""
        return sorted(field.name for field in attrs.fields(cls) if field.name != "why")

    def is_open(self, name: str) -> bool:
        """Whether the plugin claims this capability."""
        if name not in self.names():
            raise KeyError(f"{type(self).__name__} has no capability {name!r}; it has {', '.join(self.names())}")
        return bool(getattr(self, name))

    def reason(self, name: str) -> str:
        """Why a capability is closed, empty when nobody said."""
        return self.why.get(name) or self.why.get("*", "")

    def require(self, name: str) -> None:
        """Skip the running test, with the plugin's reason, when this capability is closed.

        :raises AssertionError: it is closed and no reason is given.
        """
        if self.is_open(name):
            return
        reason = self.reason(name)
        if not reason:
            pytest.fail(f"capability {name} is closed without a reason: open it, or say why={{{name!r}: '...'}}", False)
        pytest.skip(f"{SKIP_PREFIX}{name} is closed: {reason}")


def needs(*names: str) -> Callable[[F], F]:
    """Mark a test method of a suite: it runs only where the plugin has all these capabilities open."""

    def mark(function: F) -> F:
        @functools.wraps(function)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            for name in names:
                self.capabilities.require(name)
            return function(self, *args, **kwargs)

        checked.needs_capabilities = names  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return mark


class ConformanceSuite:
    """Base of all suites. Subclasses of a suite in a plugin's tests have names that begin with ``Test``.

    :cvar capabilities: what the plugin under test can do.
    :cvar timeout_s: how long a single wait of the suite may take, in seconds.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    timeout_s: ClassVar[float] = 30.0
