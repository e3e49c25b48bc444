"""What an executor gives to run functions marked blocking somewhere else than in the thread that runs the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Call(ABC):
    """A function call under way in a pool."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether it has returned or raised."""

    @abstractmethod
    def result(self) -> Any:
        """What it returned; raises what it raised. Only once :attr:`done`."""


class Pool(ABC):
    """Runs calls in other threads. Used by the thread that runs the step."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], *args: Any) -> Call:
        """Begin a call."""

    @abstractmethod
    def wait(self, timeout_s: float) -> None:
        """Sleep until any call has ended since the last :meth:`wait`, or the time is over."""
