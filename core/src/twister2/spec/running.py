"""Graphs that are prepared once and run often, and runs that go on beside the program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from twister2.graph import Outputs


class Running(ABC):
    """A run under way. The network advances it whenever it progresses: in any call of the program that waits, and in
    :meth:`test` and :meth:`wait`. Every worker waits for it, as its end is collective.
    """

    @abstractmethod
    def test(self) -> bool:
        """Progress; whether all records have been handled on this worker. Never blocks.

        :raises UserCodeError, StepAbortedError: as ``env.run``.
        """

    @abstractmethod
    def wait(self, deadline_s: float | None = None) -> Outputs:
        """Until it is complete; commits its sinks. Collective.

        :returns: as ``env.run``; the same again when it is called again.
        :raises DeadlineError: the deadline passed; the run goes on. Otherwise as ``env.run``.
        """

    @abstractmethod
    def drain(self) -> None:
        """Stop the sources of this worker; what is under way still arrives, and :meth:`wait` gives what there is."""


class Prepared(ABC):
    """A graph that is checked, planned and placed, with its operators: only its tasks are made anew for each run."""

    @abstractmethod
    def run(self) -> Outputs:
        """As ``env.run`` of the graph."""

    @abstractmethod
    def start(self) -> Running:
        """As ``env.start`` of the graph."""

    @abstractmethod
    def explain(self) -> str:
        """The plan as text."""

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """What the vertices did on this worker in all runs so far: by vertex of the plan the sums of ``records``,
        ``bytes``, ``busy_s``, ``waiting_s`` and ``blocked_s``, those that are not zero, and ``runs``.
        """
        return {}

    @abstractmethod
    def close(self) -> None:
        """Let go of what was prepared. Idempotent; the end of the attempt closes it too."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
