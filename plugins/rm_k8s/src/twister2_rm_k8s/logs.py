"""What pods wrote, through the API server."""

from __future__ import annotations

import codecs
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from twister2.spec.errors import ResourceError
from twister2.spec.rm import LogChunk
from twister2_rm_k8s.api import RefusedError
from twister2_rm_k8s.names import path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twister2_rm_k8s.api import Api

POLL_S = 0.3
SILENT_S = 24 * 3600.0
LAST_S = 10.0
"""How long after the end of a job, or after what came last, the rest of its logs is waited for: the stream of a pod
whose node has died does not end.
"""


class Source(NamedTuple):
    """What a container of a pod writes between two starts.

    :ivar start: how often it was started again before.
    """

    pod: str
    start: int = 0

    @classmethod
    def of(cls, body: dict[str, Any]) -> Source:
        """The pod's first container as it is now."""
        status = (body.get("status") or {}).get("containerStatuses") or [{}]
        return cls(body["metadata"]["name"], int(status[0].get("restartCount") or 0))


def kept(api: Api, namespace: str, source: Source, slot: int) -> Iterator[LogChunk]:
    """What a pod has written so far, of a container that was started again its last two lives, which are all that are
    kept; nothing when it has not started, or is gone.
    """
    if source.start:
        yield from _chunks(api, namespace, source.pod, slot, {"previous": "true"})
    yield from _chunks(api, namespace, source.pod, slot, {})


def _chunks(api: Api, namespace: str, pod: str, slot: int, query: dict[str, str]) -> Iterator[LogChunk]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    follow = "follow" in query
    try:
        for data in api.stream(path(namespace, "pods", pod) + "/log", query, timeout_s=SILENT_S if follow else None):
            if text := decoder.decode(data):
                yield LogChunk(slot, "stdout", text)
    except RefusedError as error:
        if error.status in (400, 404):  # not started yet, or gone
            return
        raise


class Follower:
    """Reads the logs of all pods of a job at once, each on a thread and connection of its own."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._heard: queue.SimpleQueue[LogChunk] = queue.SimpleQueue()
        self._threads: dict[Source, threading.Thread] = {}
        self._read: set[Source] = set()
        self._given: dict[Source, int] = {}
        """Characters of each that were given on."""

    def follow(self, pods: Callable[[], tuple[list[tuple[Source, int]], bool]]) -> Iterator[LogChunk]:
        """
        :param pods: the pods that have started, with their slots, and whether there will be no other.
        """
        heard = time.monotonic()
        while True:
            started, over = pods()
            if not over:
                heard = time.monotonic()
            for source, slot in started:
                if source not in self._read and source not in self._threads:
                    thread = threading.Thread(target=self._listen, args=(source, slot), name="pod-log", daemon=True)
                    self._threads[source] = thread
                    thread.start()
            for source, thread in [*self._threads.items()]:
                if not thread.is_alive():
                    del self._threads[source]
            all_read = not self._threads and all(source in self._read for source, _ in started)
            if over and (all_read or time.monotonic() - heard > LAST_S):
                while not self._heard.empty():
                    yield self._heard.get()
                return
            try:
                yield self._heard.get(timeout=POLL_S)
                while not self._heard.empty():
                    yield self._heard.get()
                heard = time.monotonic()
            except queue.Empty:
                continue

    def _listen(self, source: Source, slot: int) -> None:
        """A stream that breaks is read again from its beginning; what has been given of it is left out."""
        api, left = self._api.another(), self._given.get(source, 0)
        try:
            for chunk in _chunks(api, self._namespace, source.pod, slot, {"follow": "true"}):
                known = min(left, len(chunk.text))
                left -= known
                if text := chunk.text[known:]:
                    self._given[source] = self._given.get(source, 0) + len(text)
                    self._heard.put(attrs.evolve(chunk, text=text))
            self._read.add(source)
        except (ResourceError, RefusedError) as error:
            if isinstance(error, RefusedError) and error.status in (401, 403):
                self._heard.put(unread(source.pod, slot, error))
                self._read.add(source)


def unread(pod: str, slot: int, error: Exception) -> LogChunk:
    """What is said in place of a log."""
    return LogChunk(slot, "manager", f"the log of pod {pod} cannot be read: {error}\n")


def pods_with_logs(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose container has started."""
    return [
        body
        for body in pods
        if any(
            (status.get("state") or {}).keys() & {"running", "terminated"}
            for status in (body.get("status") or {}).get("containerStatuses") or []
        )
    ]
