"""Entry point of the plugin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twister2.spec.observe import JobFacts, ObserveSpec, Progress
from twister2.spec.plugin import hookimpl
from twister2_observe_progress.config import ProgressConfig

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEvent
    from twister2_observe_progress.displays import Display
    from twister2_observe_progress.view import JobView

_SHOWN: dict[str, tuple[JobView, Display]] = {}
"""Running jobs by id, as plugin objects keep no state."""


class ProgressPlugin(ObserveSpec):
    """How far a job is, on the standard error of its client."""

    api = (1, 1)
    config_class = ProgressConfig

    @hookimpl
    def observe_start(self, config: ProgressConfig, job: JobFacts) -> None:
        from twister2_observe_progress.displays import display_for
        from twister2_observe_progress.view import JobView

        view = JobView(job)
        _SHOWN[job.job_id] = (view, display_for(view, sys.stderr, config.display, config.interval_s, config.summary))

    @hookimpl
    def job_state(self, job_id: str, state: str, reason: str) -> None:
        view, display = _SHOWN[job_id]
        view.state, view.reason = state, reason
        if state in ("completed", "failed", "killed"):
            display.step_aside()  # the last line says it
        else:
            display.changed()

    @hookimpl
    def attempt_started(self, job_id: str, attempt: int, n_workers: int) -> None:
        view, display = _SHOWN[job_id]
        view.start_attempt(attempt, n_workers)
        display.changed()

    @hookimpl
    def worker_event(self, job_id: str, event: WorkerEvent) -> None:
        view, display = _SHOWN[job_id]
        if event.kind in ("joined", "restarted"):
            view.joined.add(event.worker_id)
        elif event.kind == "lost":
            view.joined.discard(event.worker_id)
        display.progressed()

    @hookimpl
    def progress(self, job_id: str, progress: Progress) -> None:
        view, display = _SHOWN[job_id]
        view.take(progress)
        display.progressed()

    @hookimpl
    def checkpoint_committed(self, job_id: str, number: int) -> None:
        view, display = _SHOWN[job_id]
        view.checkpoint = number
        display.progressed()

    @hookimpl
    def output(self, job_id: str, worker_id: int, stream: str, text: str) -> None:
        on_terminal = stream != "stdout" or (sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty())
        _SHOWN[job_id][1].output(text if on_terminal else "")

    @hookimpl
    def job_ended(self, job_id: str, state: str, reason: str, seconds: float) -> None:
        _view, display = _SHOWN.pop(job_id)
        display.end(state, reason, seconds)
