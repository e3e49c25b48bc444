"""The observers that want to be called in the job master."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twister2.control.observing import observe
from twister2.host import ObserverSet, PluginHost
from twister2.spec.observe import JobFacts

if TYPE_CHECKING:
    from twister2.config import Resolved
    from twister2.master.job import Job
    from twister2.master.journal import Journal


class MasterObservers:
    """Loads them, lets them hear what clients are told, and tells them the end."""

    def __init__(self, host: PluginHost, resolved: Resolved, job: Job, journal: Journal, program: str) -> None:
        """An observer that fails is disabled; event log and clients are told so."""
        chosen = [(name, resolved.plugin("observe", name)) for name in resolved.job.observe]
        self._job, self._journal = job, journal
        self._set = ObserverSet.load(host, chosen, "master", self._report)
        if self._set.names:
            facts = job.facts
            self._set.start(JobFacts(facts.job_id, facts.name, facts.n_workers, resolved.job.rm, program))
            self._set.job_state(facts.job_id, job.state.value, job.reason)
            job.clients.listeners.append(partial(self._hear, facts.job_id))

    def _report(self, text: str) -> None:
        self._journal.event("observer", why=text)
        text = f"in the job master: {text}"
        self._job.clients.tell("output", {"worker": -1, "stream": "log", "text": f"warning: {text}\n"})

    def _hear(self, job_id: str, kind: str, body: dict[str, Any]) -> None:
        observe(self._set, job_id, kind, body)
        if kind == "ended":
            reason = body["error"]["what"] if body["error"] else ""
            self._set.job_ended(job_id, body["state"], reason, body["seconds"])
            self._set.close()  # before the clients hear of the end: what is reported here reaches them

    def close(self) -> None:
        """Call them no more; idempotent. They close themselves when the job ends: this is for one that never began."""
        self._set.close()
