"""A job's objects in the cluster: reading, and turning refusals into errors."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError, ResourcesExceededError, SubmissionRefusedError
from twister2_rm_k8s import names
from twister2_rm_k8s.api import Api, RefusedError
from twister2_rm_k8s.kubeconfig import find_access
from twister2_rm_k8s.names import path, selector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.spec.rm import JobHandle
    from twister2_rm_k8s.config import KubernetesConfig

Object = dict[str, Any]
CACHE_S = 0.5


class Cluster:
    """The cluster that the options mean, reached when it is first needed."""

    def __init__(self, config: KubernetesConfig, timeout_s: float) -> None:
        self._config, self._timeout_s = config, timeout_s
        self._api: Api | None = None
        self._seen: dict[str, tuple[float, list[Object]]] = {}

    @property
    def api(self) -> Api:
        if self._api is None:
            self._api = Api(find_access(self._config), self._timeout_s)
        return self._api

    @property
    def namespace(self) -> str:
        return self.api.access.namespace

    def namespace_of(self, handle: JobHandle) -> str:
        return str(handle.facts.get("namespace") or self.namespace)

    def close(self) -> None:
        self.forget()
        if self._api is not None:
            self._api.close()
            self._api = None

    def forget(self) -> None:
        """What was read before no longer holds."""
        self._seen.clear()

    def all(self, kind: str, handle: JobHandle, *, fresh: bool = False) -> list[Object]:
        """All objects of a kind that a job has; ``fresh``: not those of a moment ago."""
        where = path(self.namespace_of(handle), kind)
        key = f"{where}?{handle.job_id}"
        known = self._seen.get(key)
        if fresh or known is None or time.monotonic() - known[0] > CACHE_S:
            with refusals(f"the {kind} of job {handle.job_id} cannot be listed"):
                known = time.monotonic(), self.api.items(where, labelSelector=selector(handle.job_id))
            self._seen[key] = known
        return known[1]

    def create(self, where: str, body: Object, mark: str = "") -> Object:
        """Create an object; one that is there already is taken for it if this very call has made it: a request whose
        answer was lost is sent again.

        :param where: path of the kind of objects. :param mark: of the call; one of its own when empty.
        """
        mark = mark or uuid.uuid4().hex
        metadata = body["metadata"]
        annotations = {**metadata.get("annotations", {}), names.SUBMISSION: mark}
        body = {**body, "metadata": {**metadata, "annotations": annotations}}
        try:
            return self.api.create(where, body)
        except RefusedError as error:
            if error.status != 409:
                raise
            found = self.api.get(f"{where}/{metadata['name']}")
            if found is None or (found["metadata"].get("annotations") or {}).get(names.SUBMISSION) != mark:
                raise
            return found

    def root(self, handle: JobHandle, *, fresh: bool = False) -> Object | None:
        """The ConfigMap of a job, None when there is none (any more)."""
        found = self.all("configmaps", handle, fresh=fresh)
        return found[0] if found else None

    def plan(self, handle: JobHandle) -> Object:
        """What the root says of later starts.

        :raises ResourceError: there is no root.
        """
        root = self.root(handle)
        if root is None:
            raise ResourceError(
                f"the cluster has no job {handle.job_id} (any more)",
                why=f"there is no ConfigMap {names.object_name(handle.job_id)}: the job was cleaned, or deleted there",
                remedy="submit it again",
                where=f"namespace {self.namespace_of(handle)}",
            )
        plan: Object = json.loads(root["data"]["plan.json"])
        return plan

    def events(self, handle: JobHandle, kind: str, name: str) -> list[Object]:
        """What the cluster says of an object, oldest first; nothing where it does not let us look."""
        where, query = (
            path(self.namespace_of(handle), "events"),
            f"involvedObject.kind={kind},involvedObject.name={name}",
        )
        key = f"{where}?{query}"
        known = self._seen.get(key)
        if known is None or time.monotonic() - known[0] > CACHE_S:
            found: list[Object] = []
            with contextlib.suppress(RefusedError, ResourceError):
                found = self.api.items(where, fieldSelector=query)
            found.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
            known = self._seen[key] = time.monotonic(), found
        return known[1]


@contextlib.contextmanager
def refusals(what: str, *, submission: bool = False) -> Iterator[None]:
    """Turn the server's no into an error with a remedy.

    :raises SubmissionRefusedError: of a submission, or for want of rights. :raises ResourcesExceededError: it is a
        quota's no.
    :raises ResourceError: of anything else.
    """
    try:
        yield
    except RefusedError as error:
        raise error_of(what, error, submission=submission) from error


def error_of(what: str, error: RefusedError, *, submission: bool) -> ResourceError:
    """What a refusal means for users."""
    refused = submission or error.status in (401, 403)
    cls: type[ResourceError] = SubmissionRefusedError if refused else ResourceError
    if error.status == 401:
        return cls(
            "Kubernetes does not accept the credentials",
            why=f"{error.message or 'unauthorised'}: the token or certificate has expired, or is of another cluster",
            remedy="log in again, or get a new kubeconfig; 'twister2 plugins show rm k8s' tells whether it works",
        )
    if "exceeded quota" in error.message:
        return ResourcesExceededError(
            what, why=error.message, remedy="ask for less, or for a larger quota of the namespace"
        )
    if error.status == 403 and "is forbidden: User" in error.message:
        return cls(
            what,
            why=error.message,
            remedy="ask for these rights: 'python -m twister2_rm_k8s.rbac' prints all that are needed",
        )
    if error.status == 404 and error.message.startswith("namespaces "):
        return cls(
            what, why=error.message, remedy="name another one: rm.k8s.namespace, or make it (kubectl create namespace)"
        )
    if error.status in (403, 422):
        return cls(
            what, why=error.message, remedy="change what the cluster objects to; 'twister2 submit --dry-run' shows it"
        )
    return cls(what, why=str(error), remedy="try again; see the API server's own log when it goes on")
