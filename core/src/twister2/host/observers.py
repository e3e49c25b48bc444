"""The observers of a job: any number, each called in a thread of its own, so that a slow one holds up nothing; one
that fails or is too slow is disabled and reported, the job goes on.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from twister2.host.checks import hook_arguments, kind_of, spec_class, spec_hooks
from twister2.host.loading import LOAD_FAILURES
from twister2.spec.errors import PluginError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from twister2.host.host import LoadedPlugin, PluginHost
    from twister2.spec.environment import WorkerEvent
    from twister2.spec.observe import JobFacts, Progress

SLOW_S = 5.0
"""An observer whose call lasts longer is disabled; a machine that stands still for a moment makes none so slow."""
END_S = 1.0
"""How long observers may take in, at the end, what they were told."""
IN_VAIN_S = 1.0
"""How long an observer is waited for in vain, in all."""
BACKLOG = 10_000
"""An observer that is so many calls behind is disabled."""


def _log() -> logging.Logger:
    """Made when something is logged: a submission has no use for logging otherwise, and is sooner without."""
    import logging

    return logging.getLogger("twister2.observe")


def _warn(text: str) -> None:
    _log().warning(text)


class _Observer:
    """One observer and the calls that wait for it. Its thread starts with the first call, not before: a client forks
    its job master only while it has a single thread.
    """

    def __init__(self, loaded: LoadedPlugin, config: Any) -> None:
        self.loaded, self._config = loaded, config
        self._calls: queue.Queue[tuple[str, dict[str, Any], threading.Event | None] | None] = queue.Queue(BACKLOG)
        self._thread: threading.Thread | None = None
        self._now: tuple[str, float] | None = None
        self._trouble = ""
        self._disabled = False
        self._late: threading.Event | None = None
        """The end of the last call that was not waited for to its end."""
        self._in_vain_s = 0.0

    def put(self, hook: str, arguments: dict[str, Any], wait_s: float) -> None:
        """Have a hook called, if the observer has it; wait for the end of the call, but not while the observer is late
        with an earlier one, nor when it was late too often.
        """
        if not getattr(self.loaded.manager.hook, hook).get_hookimpls():
            return
        if hook == "observe_start":
            arguments = {**arguments, "config": self._config}
        done = threading.Event() if wait_s and self._in_vain_s < IN_VAIN_S else None
        try:
            self._calls.put_nowait((hook, arguments, done))
        except queue.Full:
            self._trouble = f"it is {BACKLOG:,} calls behind"
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"observer-{self.loaded.record.name}", daemon=True)
            self._thread.start()
        if done is not None:
            self._await(done, wait_s)

    def _await(self, done: threading.Event, wait_s: float) -> None:
        if self._late is None or self._late.is_set():
            if done.wait(wait_s):
                return
            self._in_vain_s += wait_s
        self._late = done

    def _run(self) -> None:
        while (call := self._calls.get()) is not None and not self._disabled:
            hook, arguments, done = call
            self._now = hook, time.monotonic()
            try:
                getattr(self.loaded.manager.hook, hook)(**arguments)
            except LOAD_FAILURES as error:
                self._trouble = f"{hook} raised {type(error).__name__}: {error}"
                _log().debug("%s: %s", self.loaded.record.label, hook, exc_info=error)
            else:
                self._trouble = self._slow()
            self._now = None
            if done is not None:
                done.set()
            if self._trouble:
                return

    def _slow(self) -> str:
        now = self._now
        if now is None or time.monotonic() - now[1] <= SLOW_S:
            return ""
        return f"{now[0]} took longer than {SLOW_S:g} s"

    def trouble(self) -> str:
        """Why it must be called no more, empty as long as all is well."""
        return self._trouble or self._slow()

    def disable(self) -> None:
        """Call nothing more; a call that is under way cannot be ended, and ends alone."""
        self._disabled = True
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return  # its thread looks at the mark before each call

    def close(self, deadline: float) -> None:
        """Let what waits be called until ``deadline`` (monotonic), then no more."""
        if self._thread is None:
            return
        try:
            self._calls.put(None, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            self._trouble = f"it is {BACKLOG:,} calls behind"
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive() and not self._trouble:
            now = self._now
            self._trouble = f"{now[0] if now else 'a call'} had not returned at the end of the job"
        self._disabled = True


class ObserverSet:
    """Calls the hooks of the kind ``observe``: each observer in a thread of its own, in order.

    All methods are called from one thread; reports come from it, too.

    :param observers: loaded plugins with their options. :param report: told once, in one sentence, when an observer
        is disabled; a warning in the log ``twister2.observe`` when None.
    """

    def __init__(
        self, observers: Iterable[tuple[LoadedPlugin, Any]], report: Callable[[str], None] | None = None
    ) -> None:
        self._observers = [_Observer(loaded, config) for loaded, config in observers]
        self._report = report or _warn
        self._hooks = spec_hooks(spec_class(kind_of("observe")))
        self._state: Any = None

    @classmethod
    def load(
        cls,
        host: PluginHost,
        selected: Iterable[tuple[str, Any]],
        where: str,
        report: Callable[[str], None] | None = None,
    ) -> ObserverSet:
        """Load the selected observers (name, options) that want to be called in ``where``: client or master.

        An observer that cannot be loaded is reported and left out: it must not stop a job.
        """
        observers = cls((), report)
        for name, config in selected:
            try:
                loaded = host.load("observe", name)
            except PluginError as error:
                observers._report(f"observer {name!r} is left out: {error.what}; {error.why}")
                continue
            if getattr(loaded.plugin, "where", "client") == where:
                observers._observers.append(_Observer(loaded, config))
        return observers

    @property
    def names(self) -> list[str]:
        """Names of the observers that are still called."""
        return [observer.loaded.record.name for observer in self._observers]

    def call(self, hook: str, wait_s: float = 0.0, **arguments: Any) -> None:
        """Have one hook called on every observer; returns at once.

        :param wait_s: wait for the end of the calls, but no longer than this for an observer.
        :raises TypeError: there is no such hook, or it has other arguments (a mistake of the caller).
        """
        if hook not in self._hooks:
            raise TypeError(f"there is no observer hook {hook!r}")
        wanted = set(hook_arguments(self._hooks[hook])) - {"config"}
        if set(arguments) != wanted:
            raise TypeError(f"{hook} takes {', '.join(sorted(wanted))}; got {', '.join(sorted(arguments))}")
        if hook == "job_state":  # a client hears of a state from more than one side
            if arguments == self._state:
                return
            self._state = arguments
        self._disable_troubled()
        for observer in list(self._observers):
            observer.put(hook, arguments, wait_s)
        self._disable_troubled()

    def close(self, deadline_s: float = END_S) -> None:
        """Let the observers take in what they were told, for at most ``deadline_s``; then nothing is called any more.

        Idempotent.
        """
        deadline = time.monotonic() + deadline_s
        for observer in self._observers:
            observer.close(deadline)
        self._disable_troubled()
        self._observers = []

    def _disable_troubled(self) -> None:
        for observer in list(self._observers):
            if (why := observer.trouble()) and observer in self._observers:  # a report may lead to another call
                self._observers.remove(observer)
                observer.disable()
                self._report(f"{observer.loaded.record.label} is disabled for this job: {why}")

    # One method per hook, so that a type checker sees wrong calls.

    def start(self, job: JobFacts) -> None:
        """The job was submitted."""
        self.call("observe_start", job=job)

    def job_state(self, job_id: str, state: str, reason: str) -> None:
        """The job changed its state; the same twice is told once."""
        self.call("job_state", job_id=job_id, state=state, reason=reason)

    def attempt_started(self, job_id: str, attempt: int, n_workers: int) -> None:
        """All workers of an attempt have joined."""
        self.call("attempt_started", job_id=job_id, attempt=attempt, n_workers=n_workers)

    def worker_event(self, job_id: str, event: WorkerEvent) -> None:
        """A worker joined, was lost, restarted, or the job was scaled."""
        self.call("worker_event", job_id=job_id, event=event)

    def progress(self, job_id: str, progress: Progress) -> None:
        """A worker reports how far it is."""
        self.call("progress", job_id=job_id, progress=progress)

    def checkpoint_committed(self, job_id: str, number: int) -> None:
        """A checkpoint is complete."""
        self.call("checkpoint_committed", job_id=job_id, number=number)

    def output(self, job_id: str, worker_id: int, stream: str, text: str) -> None:
        """Text of a worker is about to be shown."""
        self.call("output", job_id=job_id, worker_id=worker_id, stream=stream, text=text)

    def job_ended(self, job_id: str, state: str, reason: str, seconds: float) -> None:
        """The last call."""
        self.call("job_ended", job_id=job_id, state=state, reason=reason, seconds=seconds)
