"""The observers of a job: any number, called one by one; one that fails is disabled and reported, the job goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from twister2.host.checks import hook_arguments, kind_of, spec_class, spec_hooks
from twister2.host.loading import LOAD_FAILURES
from twister2.spec.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twister2.host.host import LoadedPlugin, PluginHost
    from twister2.spec.environment import WorkerEvent
    from twister2.spec.observe import JobFacts, Progress

_log = logging.getLogger("twister2.observe")


class ObserverSet:
    """Calls the hooks of the kind ``observe`` from one thread, in order.

    :param observers: loaded plugins with their options. :param report: told once, in one sentence, when an observer
        is disabled; a warning in the log ``twister2.observe`` when None.
    """

    def __init__(
        self, observers: Iterable[tuple[LoadedPlugin, Any]], report: Callable[[str], None] | None = None
    ) -> None:
        self._observers = list(observers)
        self._report = report or _log.warning
        self._hooks = spec_hooks(spec_class(kind_of("observe")))

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
                observers._observers.append((loaded, config))
        return observers

    @property
    def names(self) -> list[str]:
        """Names of the observers that are still called."""
        return [loaded.record.name for loaded, _ in self._observers]

    def call(self, hook: str, **arguments: Any) -> None:
        """Call one hook on every observer.

        :raises TypeError: there is no such hook, or it has other arguments (a mistake of the caller).
        """
        if hook not in self._hooks:
            raise TypeError(f"there is no observer hook {hook!r}")
        wanted = set(hook_arguments(self._hooks[hook])) - {"config"}
        if set(arguments) != wanted:
            raise TypeError(f"{hook} takes {', '.join(sorted(wanted))}; got {', '.join(sorted(arguments))}")
        for observer in list(self._observers):
            loaded, config = observer
            given = {**arguments, "config": config} if hook == "observe_start" else arguments
            try:
                getattr(loaded.manager.hook, hook)(**given)
            except LOAD_FAILURES as error:
                self._observers.remove(observer)
                self._disable(loaded, hook, error)

    def _disable(self, loaded: LoadedPlugin, hook: str, error: BaseException) -> None:
        self._report(f"{loaded.record.label} is disabled for this job: {hook} raised {type(error).__name__}: {error}")
        _log.debug("%s: %s", loaded.record.label, hook, exc_info=error)

    # One method per hook, so that a type checker sees wrong calls.

    def start(self, job: JobFacts) -> None:
        """The job is about to be submitted."""
        self.call("observe_start", job=job)

    def job_state(self, job_id: str, state: str, reason: str) -> None:
        """The job changed its state."""
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
        """A line of a worker is about to be shown."""
        self.call("output", job_id=job_id, worker_id=worker_id, stream=stream, text=text)

    def job_ended(self, job_id: str, state: str, reason: str, seconds: float) -> None:
        """The last call."""
        self.call("job_ended", job_id=job_id, state=state, reason=reason, seconds=seconds)
