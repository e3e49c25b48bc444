"""The committed checkpoints of a job: which is the latest, which are dropped, and the store for workers without
access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.errors import StateError, Twister2Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.control.messages import Message
    from twister2.spec.state import StateStore


class Checkpoints:
    """Bookkeeping of one job; the store is made at its first use."""

    def __init__(self, job_id: str, keep: int, store: Callable[[], StateStore]) -> None:
        self._prefix, self._keep, self._store = f"checkpoints/{job_id}/", keep, store
        self.latest = 0
        self._begun = False

    def begin(self) -> None:
        """A worker is about to write its first objects."""
        self._begun = True

    def committed(self, number: int) -> None:
        """A checkpoint is complete; one that is no longer kept goes."""
        self.latest = number
        old = number - self._keep
        if old > 0:
            self._store().delete_all(f"{self._prefix}{old:08d}/")

    def remove_all(self) -> None:
        """The job is over, and nobody writes any more."""
        if self._begun or self.latest:
            self._store().delete_all(self._prefix)

    def serve(self, message: Message) -> tuple[dict[str, Any], bytes]:
        """Put or get an object for a worker; returns the body and attachment of the answer."""
        request, wanted, body = message.body["request"], message.body["kind"], message.body["body"]
        answer: dict[str, Any] = {"request": request, "found": True}
        data: bytes | None = b""
        try:
            if not str(body["key"]).startswith(self._prefix):
                raise StateError(
                    f"a worker asked for {body['key']}",
                    why="workers may use the checkpoints of their own job only",
                    remedy="use another name for the state variable",
                )
            if wanted == "state_put":
                self._store().put(body["key"], message.blobs[0])
            else:
                data = self._store().get(body["key"])
                answer["found"] = data is not None
        except Twister2Error as error:
            answer["error"] = error.to_dict()
        return answer, data or b""
