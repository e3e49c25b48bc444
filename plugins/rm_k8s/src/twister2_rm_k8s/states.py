"""From what Kubernetes says of pods and Jobs to states and plain words."""

from __future__ import annotations

import datetime
import itertools
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.rm import JobState
from twister2_rm_k8s import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_rm_k8s.config import KubernetesConfig

Object = dict[str, Any]

HOPELESS = {
    "ErrImageNeverPull": "the image is not on the node, and is never pulled there",
    "InvalidImageName": "the name of the image is not valid",
    "CreateContainerConfigError": "the container cannot be configured",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
}
PULLING = {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"}
PASSING = ("timeout", "timed out", "toomanyrequests", "too many requests", "eof", "reset by peer", "unavailable", "i/o")
"""Words of failures to pull that may be over in a moment."""
REFUSED_S = 10.0
"""How long the cluster refuses to make pods before that counts as its last word."""
WAITED_FOR = ("exceeded quota", "failed calling webhook", "etcdserver", "timed out", "timeout", "too many requests")
"""Words of refusals that may be over without anybody changing the job."""
STARTING = {"ContainerCreating": "its container is being made", "PodInitializing": "its first containers run"}
ENDED_WORDS = {"OOMKilled": "out of memory", "DeadlineExceeded": "it reached its deadline", "Evicted": "evicted"}
DISRUPTIONS = {
    "DeletionByTaintManager": "its node was lost",
    "EvictionByEvictionAPI": "evicted",
    "PreemptionByScheduler": "preempted by a more important pod",
    "TerminationByKubelet": "ended by its node",
    "DeletionByPodGC": "its node has gone",
}
GONE = "ended"
EXIT_UNKNOWN = 137
"""Said of pods whose exit code nobody has: they were deleted."""


@attrs.frozen
class Pod:
    """One pod, in our words.

    :ivar slot: of a worker; -1 for the master. :ivar start: number of the Job that it is of.
    :ivar state: QUEUED, STARTING, RUNNING, COMPLETED or FAILED. :ivar text: ``exited 137 (out of memory)``, or the
        reason why it waits. :ivar hopeless: waiting is of no use.
    """

    name: str
    slot: int
    start: int
    state: JobState
    text: str = ""
    code: int = 0
    hopeless: bool = False
    made: str = ""


def pod(body: Object, slot: int, start: int, config: KubernetesConfig) -> Pod:
    """A pod's object in our words."""
    metadata, status = body["metadata"], body.get("status") or {}
    phase = status.get("phase", "Pending")
    make = attrs.evolve(
        Pod(metadata["name"], slot, start, JobState.QUEUED), made=str(metadata.get("creationTimestamp", ""))
    )
    if phase in ("Succeeded", "Failed") or _ended(status) is not None:
        code, why = _exit(body)
        text = f"exited {code}" + (f" ({why})" if why else "")
        return attrs.evolve(make, state=JobState.FAILED if code else JobState.COMPLETED, text=text, code=code)
    if metadata.get("deletionTimestamp"):
        why = _lost(status)
        return attrs.evolve(make, state=JobState.RUNNING, text=why or "is being ended")
    if phase == "Running":
        return attrs.evolve(make, state=JobState.RUNNING, text=_lost(status) or "running")
    return _waiting(make, status, config)


def _ended(status: Object) -> Object | None:
    """How the first container ended, which is known before the pod itself is said to have."""
    for container in status.get("containerStatuses") or []:
        ended: Object | None = (container.get("state") or {}).get("terminated")
        return ended
    return None


def over(body: Object) -> bool:
    """Whether no process of a pod is left."""
    status = body.get("status") or {}
    containers = status.get("containerStatuses") or []
    return status.get("phase") in ("Succeeded", "Failed") or (
        bool(containers) and all((each.get("state") or {}).get("terminated") for each in containers)
    )


def _lost(status: Object) -> str:
    if (found := _disrupted(status)) is not None:
        return f"is being ended: {found.get('message') or ''} ({found.get('reason', '')})"
    return "its node does not answer (NodeLost)" if status.get("reason") == "NodeLost" else ""


def _exit(body: Object) -> tuple[int, str]:
    """Exit code and cause of a pod that has ended."""
    status = body.get("status") or {}
    ended = _ended(status)
    succeeded = status.get("phase") == "Succeeded"
    code = int(ended.get("exitCode", 0)) if ended else 0 if succeeded else EXIT_UNKNOWN
    reason = str((ended or {}).get("reason") or "")
    words = [ENDED_WORDS[reason]] if reason in ENDED_WORDS else []
    message = str(status.get("message") or "")
    if status.get("reason"):
        words.append(f"{ENDED_WORDS.get(status['reason'], status['reason'])}: {message}".rstrip(": "))
    what, told = disruption(status)
    if what and not status.get("reason"):
        words.append(f"{what}: {told}".rstrip(": "))
    if reason in ("ContainerCannotRun", "StartError") and ended:
        words.append(str(ended.get("message") or reason).strip().splitlines()[-1][:500])
    if not code and status.get("phase") == "Failed":
        code = EXIT_UNKNOWN
    return code, "; ".join(dict.fromkeys(words))


def disruption(status: Object) -> tuple[str, str]:
    """What ended a pod from outside, in our words and in the cluster's; empty when nothing did."""
    found = _disrupted(status)
    if found is None:
        return "", ""
    reason = str(found.get("reason") or "")
    return DISRUPTIONS.get(reason, reason), str(found.get("message") or "")


def ended_by(status: Object) -> str:
    """What ended a pod, or a container of it that was started again since, where that is more than an exit code."""
    what, _ = disruption(status)
    for container in status.get("containerStatuses") or []:
        for when in ("state", "lastState"):
            ended = (container.get(when) or {}).get("terminated") or {}
            what = what or ENDED_WORDS.get(str(ended.get("reason")), "")
    return what


def _disrupted(status: Object) -> Object | None:
    conditions: list[Object] = status.get("conditions") or []
    return next((it for it in conditions if it.get("type") == "DisruptionTarget" and it.get("status") == "True"), None)


def _waiting(made: Pod, status: Object, config: KubernetesConfig) -> Pod:
    """A pod that has not started."""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason, message = condition.get("reason", ""), str(condition.get("message") or "")
            if reason == "SchedulingGated":
                return attrs.evolve(made, text="waits to be admitted (SchedulingGated)")
            waited = _age(condition.get("lastTransitionTime"))
            late = 0 < config.unschedulable_s < waited
            text = f"no node has room for it: {message} ({reason})"
            return attrs.evolve(made, text=text, hopeless=late)
    if not status.get("conditions"):
        return attrs.evolve(made, text="waits for a node")
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in HOPELESS:
            return _stuck(made, HOPELESS[reason], message, reason)
        if reason in PULLING:
            passing = any(word in message.lower() for word in PASSING)
            begun = _age(status.get("startTime"))
            image = container.get("image") or config.image
            found = _stuck(made, f"the image {image} cannot be pulled", message, reason)
            return attrs.evolve(found, hopeless=not passing or begun > config.pull_s)
        if reason == "CrashLoopBackOff":
            return _stuck(made, "a container of it ends again and again", message, reason)
        return attrs.evolve(made, state=JobState.STARTING, text=STARTING.get(reason, reason or "is being started"))
    return attrs.evolve(made, state=JobState.STARTING, text="is being started")


def _stuck(made: Pod, what: str, message: str, reason: str) -> Pod:
    return attrs.evolve(made, state=JobState.STARTING, text=f"{what}: {message} ({reason})", hopeless=True)


def _age(stamp: str | None) -> float:
    return time.time() - _seconds(stamp) if stamp else 0.0


def _seconds(stamp: str | None) -> float:
    """Since 1970; 0 when there is no stamp."""
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() if stamp else 0.0


def index_of(body: Object) -> int:
    """Completion index of a pod of a Job."""
    metadata = body["metadata"]
    text = (metadata.get("annotations") or {}).get(names.INDEX) or (metadata.get("labels") or {}).get(names.INDEX)
    return int(text) if text is not None else 0


def workers(jobs: Sequence[Object], pods: Sequence[Object], config: KubernetesConfig) -> dict[int, Pod]:
    """The latest of every slot: its pod, or what its Job says of the index."""
    by_job: dict[str, dict[int, Object]] = {}
    for body in pods:
        owner = body["metadata"].get("labels", {}).get(names.OWNER, "")
        index = index_of(body)
        known = by_job.setdefault(owner, {}).get(index)
        if known is None or known["metadata"]["creationTimestamp"] <= body["metadata"]["creationTimestamp"]:
            by_job[owner][index] = body
    found: dict[int, Pod] = {}
    for job in sorted(jobs, key=start_of):
        name, status, start = job["metadata"]["name"], job.get("status") or {}, start_of(job)
        slots = names.expand((job["metadata"].get("annotations") or {}).get(names.SLOTS, ""))
        failed = set(names.expand(status.get("failedIndexes") or ""))
        done = set(names.expand(status.get("completedIndexes") or ""))
        for index, slot in enumerate(slots):
            if index in by_job.get(name, {}):
                found[slot] = pod(by_job[name][index], slot, start, config)
            elif index in failed or (reason := job_failed(job)):
                text = f"exited {EXIT_UNKNOWN} ({GONE if index in failed else reason})"
                found[slot] = Pod("", slot, start, JobState.FAILED, text, EXIT_UNKNOWN)
            elif index in done:
                found[slot] = Pod("", slot, start, JobState.COMPLETED, "exited 0")
            else:
                found[slot] = Pod("", slot, start, JobState.QUEUED, "has no pod yet")
    return found


def start_of(job: Object) -> int:
    """Which of the Jobs that started workers this is."""
    return int((job["metadata"].get("labels") or {}).get(names.START, 0))


def runs(body: Object) -> bool:
    """Whether a pod's first container runs, and is not being ended."""
    status = body.get("status") or {}
    containers = status.get("containerStatuses") or [{}]
    going = body["metadata"].get("deletionTimestamp")
    return status.get("phase") == "Running" and not going and "running" in (containers[0].get("state") or {})


def returning(made: Pod, body: Object) -> Pod:
    """The pod of a job master whose Job starts it again: that it has ended is not the end."""
    if made.state is JobState.FAILED:
        return attrs.evolve(made, state=JobState.STARTING, text=f"is being started again: it {made.text}", code=0)
    containers = (body.get("status") or {}).get("containerStatuses") or [{}]
    waiting = (containers[0].get("state") or {}).get("waiting")
    if made.state is JobState.RUNNING and (waiting or body["metadata"].get("deletionTimestamp")):
        why = (waiting or {}).get("message") or made.text
        return attrs.evolve(made, state=JobState.STARTING, text=f"is being started again: {why}")
    return made


def starts_again(job: Object) -> bool:
    """Whether a Job starts its pod's containers again, and has not given up."""
    policy = job["spec"]["template"]["spec"].get("restartPolicy")
    going = job["metadata"].get("deletionTimestamp")
    return policy == "OnFailure" and not going and not job_failed(job, ("Failed", "FailureTarget", "Complete"))


def job_failed(job: Object, kinds: tuple[str, ...] = ("Failed",)) -> str:
    """Why a Job has failed, empty when it has not.

    :param kinds: conditions that are looked for; ``FailureTarget``: its pods are being ended for that.
    """
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in kinds and condition.get("status") == "True":
            return f"{condition.get('message') or ''} ({condition.get('reason', '')})".strip()
    return ""


def without_pods(job: Object) -> bool:
    """Whether a Job has never had a pod."""
    status = job.get("status") or {}
    return not any(status.get(count) for count in ("active", "succeeded", "failed", "terminating"))


def cannot_be_made(event: Object) -> str:
    """An event of a Job without pods in our words."""
    return f"its pods cannot be made: {event.get('message', '')} ({event.get('reason', '')})"


def never_made(events: Sequence[Object]) -> str:
    """Why a Job's pods are never made, by what was said of it, oldest first; empty when they may be."""
    refusals = [event for event in events if event.get("reason") == "FailedCreate"]
    last = list(itertools.takewhile(lambda event: not _may_pass(event), reversed(refusals)))
    times = [_seconds(event.get(key)) for event in last for key in ("firstTimestamp", "lastTimestamp", "eventTime")]
    known = [at for at in times if at]
    return cannot_be_made(last[0]) if known and max(known) - min(known) >= REFUSED_S else ""


def _may_pass(refusal: Object) -> bool:
    return any(words in str(refusal.get("message")).lower() for words in WAITED_FOR)


def suspended(job: Object) -> bool:
    """Whether a queue holds a Job back."""
    return bool((job.get("spec") or {}).get("suspend"))
