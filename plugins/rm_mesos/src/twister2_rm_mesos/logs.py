"""What copies wrote: files of their sandboxes, read through the agents' API."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any, Literal

from twister2.spec.errors import ResourceError
from twister2.spec.rm import LogChunk
from twister2_rm_mesos.agents import places, state_of
from twister2_rm_mesos.api import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_rm_mesos.api import Api

Stream = Literal["stdout", "stderr"]
PIECE = 1 << 16


class LogReader:
    """Reads on in the sandboxes of all tasks of a job.

    :param slot: only this slot's, None for all.
    """

    def __init__(self, api: Api, slot: int | None) -> None:
        self._api, self._slot = api, slot
        self._agents: dict[str, tuple[str, str]] = {}
        self._boxes: dict[str, tuple[str, str]] = {}
        self._offsets: dict[tuple[str, Stream], int] = {}
        self._decoders: dict[tuple[str, Stream], codecs.IncrementalDecoder] = {}

    def read(self, tasks: Sequence[tuple[str, int, str]]) -> Iterator[LogChunk]:
        """What was written since the last call. What cannot be read now is tried again at the next.

        :param tasks: task, slot and agent of each.
        """
        streams: tuple[Stream, Stream] = ("stdout", "stderr")
        wanted = [each for each in tasks if self._slot is None or each[1] == self._slot]
        for agent in {agent for task, _, agent in wanted if task not in self._boxes}:
            self._find(agent)
        for task, slot, _ in wanted:
            for stream in streams:
                if task in self._boxes and (text := self._text(task, stream)):
                    yield LogChunk(slot, stream, text)

    def _find(self, agent: str) -> None:
        """Learn the sandboxes of an agent's tasks; a command task's executor has the task's id."""
        try:
            if agent not in self._agents:
                self._agents = places(self._api)
            base, _ = self._agents[agent]
            state = state_of(self._api, self._agents[agent])
        except (ResourceError, RefusedError, KeyError):
            return
        for framework in [*state.get("frameworks", ()), *state.get("completed_frameworks", ())]:
            for executor in [*framework.get("executors", ()), *framework.get("completed_executors", ())]:
                self._boxes[executor["id"]] = (base, executor["directory"])

    def _text(self, task: str, stream: Stream) -> str:
        base, folder = self._boxes[task]
        key = (task, stream)
        found: list[bytes] = []
        while True:
            at = self._offsets.get(key, 0)
            query = {"path": f"{folder}/{stream}", "offset": str(at), "length": str(PIECE)}
            try:
                answer: dict[str, Any] = self._api.get("/files/read", base, **query)
            except (ResourceError, RefusedError):  # not there yet, or its agent is gone
                break
            data = str(answer.get("data", "")).encode("utf-8", "surrogateescape")
            if not data:
                break
            self._offsets[key] = at + len(data)
            found.append(data)
        decoder = self._decoders.setdefault(key, codecs.getincrementaldecoder("utf-8")("replace"))
        return decoder.decode(b"".join(found))
