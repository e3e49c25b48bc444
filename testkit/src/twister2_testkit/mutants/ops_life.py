"""Operators that wait for others, lose marks, or keep what they hold when they are closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twister2.spec.channel import HeaderKind
from twister2_testkit.mutants.ops_base import Sound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.batch import Batch
    from twister2.spec.channel import Item
    from twister2.spec.ops import Operator, OperatorContext


class _Waits(Sound):
    def wait_until(self, ready: Callable[[], bool]) -> None:
        self.context.network.wait_until(ready, f"{self.info.name} to go on")


class WaitsInProgress(_Waits):
    """``progress`` returns when something was done."""

    def progress(self) -> bool:
        self.wait_until(self.inner.progress)
        return True


class WaitsInReceive(_Waits):
    """``receive`` returns when something has come."""

    def receive(self, target: int) -> Item | None:
        found: list[Item] = []

        def came() -> bool:
            self.inner.progress()
            item = self.inner.receive(target)
            found.extend([] if item is None else [item])
            return bool(found)

        self.wait_until(came)
        return found[0]


class WaitsInSend(_Waits):
    """``send`` waits for room and never refuses."""

    def send(self, source: int, batch: Batch) -> bool:
        def taken() -> bool:
            self.inner.progress()
            return self.inner.send(source, batch)

        self.wait_until(taken)
        return True


class WaitsInClose(_Waits):
    """``close`` waits until everything was sent."""

    def close(self) -> None:
        def sent() -> bool:
            self.inner.progress()
            return self.inner.is_complete

        self.wait_until(sent)
        self.inner.close()


class IgnoresClose(Sound):
    """Keeps everything."""

    def close(self) -> None:
        """Nothing is done."""


class IgnoresCloseAfterAnError(Sound):
    """Keeps everything once a call has raised."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._failed = False

    def send(self, source: int, batch: Batch) -> bool:
        try:
            return self.inner.send(source, batch)
        except Exception:
            self._failed = True
            raise

    def close(self) -> None:
        if not self._failed:
            self.inner.close()


class LosesWatermarks(Sound):
    """Passes on all marks but watermarks: what counts by event time behind it waits for ever."""

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        if kind != HeaderKind.WATERMARK:
            self.inner.mark(source, kind, value)


WAITING: Final[Mapping[type[Sound], str]] = {
    WaitsInProgress: "test_progress_and_receive_wait_for_nobody",
    WaitsInReceive: "test_progress_and_receive_wait_for_nobody",
    WaitsInSend: "test_a_clogged_target_makes_its_sources_wait",
    WaitsInClose: "test_close_in_the_middle",
}
"""Operators that wait for ever where nobody does what they wait for, and the test that finds it out."""

KEEPING: Final[Mapping[type[Sound], str]] = {
    IgnoresClose: "test_close_in_the_middle",
    IgnoresCloseAfterAnError: "test_close_after_an_error",
}
"""Operators that do not give back what they have reserved, and the test that finds it out."""
