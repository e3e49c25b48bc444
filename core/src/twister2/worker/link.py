"""The user process's line to its supervisor (or, with threads, straight to the master): aborts, steps, exchanges.

Everything a worker says that is not data goes over this line. It is cheap to ask for an abort (a flag in shared memory)
and cheap to enter a step (a write to shared memory that the supervisor reads when it beats), so that loops send
nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.environment import WorkerEvent
    from twister2.spec.errors import Twister2Error
    from twister2.spec.network import Fingerprint, Group


class Link(ABC):
    """One per attempt and worker. Used by the user process's main thread, ``post`` by any thread."""

    worker_id: int
    attempt: int

    @property
    @abstractmethod
    def aborted(self) -> bool:
        """Whether the attempt was aborted; a memory read, to be polled freely."""

    @abstractmethod
    def raise_if_aborted(self) -> None:
        """Raise the abort's cause: StepAbortedError, StepMismatchError, DeadlineError... on every call after an
        abort.
        """

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that polls readable when the supervisor has said something."""

    @abstractmethod
    def poll(self, timeout_s: float = 0.0) -> bool:
        """Take in what the supervisor said; returns whether anything came. Sets :attr:`aborted`."""

    @abstractmethod
    def next_step(self, group: int) -> int:
        """Number of the group's next step, from 1. All collective actions of a group draw from this one sequence."""

    @abstractmethod
    def enter_step(self, group: Group, number: int, fingerprint: Fingerprint) -> None:
        """Note that this worker is in a step. The master compares the notes of a group's members on every beat."""

    def begin_step(self, group: Group, fingerprint: Fingerprint) -> int:
        """:meth:`next_step` and :meth:`enter_step` in one, for calls in a loop."""
        number = self.next_step(group.number)
        self.enter_step(group, number, fingerprint)
        return number

    @abstractmethod
    def leave_step(self, group: Group, number: int) -> None:
        """The step ended normally here."""

    @abstractmethod
    def waiting(self, what: str) -> None:
        """Note what is waited for (empty: nothing), for ``twister2 status``."""

    def note_ways(self, text: str) -> None:
        """Note what lies in the ways to other workers (empty: nobody need look), for ``twister2 status``; not shown
        where this does nothing.
        """

    @abstractmethod
    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        """Send a message to the master: ``progress``, ``log``, ``mismatch``..."""

    @abstractmethod
    def exchange(
        self,
        kind: str,
        name: str,
        value: Any,
        deadline_s: float | None,
        progress: Callable[[], object] | None = None,
    ) -> list[Any]:
        """Barrier with a small JSON-able value through the master: returns everybody's, by worker id.

        :param kind: ``"barrier"``, ``"exchange"``, ``"network"``, ``"commit"``: a namespace for ``name``.
        :param progress: called every few milliseconds while it waits, for what must go on meanwhile.
        :raises DeadlineError: names the workers that did not come.
        :raises StepAbortedError: see :meth:`raise_if_aborted`.
        """

    @abstractmethod
    def request(
        self, kind: str, body: Mapping[str, Any], blob: bytes = b"", deadline_s: float | None = None
    ) -> bytes | None:
        """Ask the master for something (``state_get``, ``state_put``, ``whereabouts``) and wait for the answer.

        :param deadline_s: after so many seconds the answer is None; None: an abort ends the wait.
        :raises Twister2Error: the master's own error.
        """

    def heed(self) -> None:
        """Raise the interrupt that came in the middle of code of ours, if one has: called at the end of a program's
        calls that do not raise the abort's own error.
        """

    @abstractmethod
    def take_events(self) -> list[WorkerEvent]:
        """Events about workers since the last call."""

    @abstractmethod
    def fail(self, error: Twister2Error) -> None:
        """Report this worker's failure: the master aborts the attempt on all others. First cause wins."""
