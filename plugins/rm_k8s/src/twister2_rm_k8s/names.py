"""Names, labels and paths of a job's objects."""

from __future__ import annotations

PREFIX = "t2-"
MANAGED = "app.kubernetes.io/managed-by"
JOB = "twister2.org/job"
ROLE = "twister2.org/role"
GROUP = "twister2.org/group"
START = "twister2.org/start"
"""Number of the Job among those that started workers of the job."""
SLOTS = "twister2.org/slots"
"""Annotation of a Job: the slots of its indexes, in order, as ``0-3,7``."""
GROWN = "twister2.org/grown"
"""Annotation of a Job that made its job larger: the job runs without it until it is there."""
TITLE = "twister2.org/name"
SUBMISSION = "twister2.org/submission"
"""Annotation of what is created: which call made it."""
KILLED = "twister2.org/killed"
"""Annotation of the root object of a job that was killed."""
ENDED = "twister2.org/ended"
"""Annotation of the root object: how the job ended, as its master noted it."""
NOTE = "note"
"""Key of the root object: the master's note for a later life of it."""
TOLD = "twister2.org/ticket"
"""Annotation of pods, changed with the ticket: the kubelet then looks at mounted secrets at once."""
INDEX = "batch.kubernetes.io/job-completion-index"
OWNER = "batch.kubernetes.io/job-name"
"""Label of pods, from Kubernetes: the Job that made them."""
MASTER, WORKER = "master", "worker"

FOLDER = "/var/run/twister2"
"""Where a pod has its tickets: ``<job id>/ticket/ticket``, and ``<job id>/master/ticket`` of the job master."""
TICKET = "ticket"

CORE, BATCH = "/api/v1", "/apis/batch/v1"


def object_name(job_id: str) -> str:
    """Of the root ConfigMap, the Secret and the Service; the master's have ``-master`` behind it, Jobs a number."""
    return PREFIX + job_id


def path(namespace: str, kind: str, name: str = "") -> str:
    """Path of an object, or of a kind of them: ``pods``, ``jobs``, ``configmaps``, ..."""
    api = BATCH if kind == "jobs" else CORE
    return f"{api}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


def selector(job_id: str, **more: str) -> str:
    """Label selector of all objects of a job."""
    return ",".join([f"{MANAGED}=twister2", f"{JOB}={job_id}", *(f"{key}={value}" for key, value in more.items())])


def compress(slots: list[int]) -> str:
    """``0-3,7`` for ``[0, 1, 2, 3, 7]``, in the given order."""
    ranges: list[list[int]] = []
    for slot in slots:
        if ranges and slot == ranges[-1][1] + 1:
            ranges[-1][1] = slot
        else:
            ranges.append([slot, slot])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def expand(text: str) -> list[int]:
    """The slots of ``0-3,7``."""
    slots: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            slots += range(int(first), int(last or first) + 1)
    return slots
