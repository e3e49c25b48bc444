"""The backend: a job is a root ConfigMap, a Job for the master, and Indexed Jobs for the workers."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import threading
import time
import uuid
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twister2.spec.errors import CapabilityError, ResourceError
from twister2.spec.rm import (
    Allocation,
    JobHandle,
    JobState,
    JobStatus,
    LogChunk,
    ResourceGroup,
    ResourceManager,
    ResourceOffers,
    RmContext,
)
from twister2_rm_k8s import manifests, names, quota, rbac, states
from twister2_rm_k8s.api import RefusedError
from twister2_rm_k8s.cluster import Cluster, refusals
from twister2_rm_k8s.ending import Ending
from twister2_rm_k8s.forward import forwarded
from twister2_rm_k8s.logs import Follower, Source, kept, pods_with_logs, unread
from twister2_rm_k8s.manifests import Manifests
from twister2_rm_k8s.names import MASTER, ROLE, path, selector
from twister2_rm_k8s.sizes import Sizes
from twister2_rm_k8s.status import Looker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_rm_k8s.config import KubernetesConfig

NAME = "k8s"
Object = dict[str, Any]
SECRET_LIMIT = 1_000_000
"""Kubernetes takes 1 MiB in a Secret."""
LEFT_OUT = f"""\
# Not shown: the tickets in the Secrets, and the Jobs in the ConfigMap, which are those below. Added when it is
# submitted: the owner of all other objects, which is the ConfigMap (ownerReferences; where rm.k8s.keep_s is set its own
# is the job master's Job), and an annotation that tells which call made an object ({names.SUBMISSION}).
"""
TELL_AGAIN_S = (0.7, 3.0)
"""When pods are told of a new ticket once more: a kubelet may hear of that before it hears of the secret itself."""


class KubernetesManager(ResourceManager):
    """See :class:`twister2.spec.rm.ResourceManager`."""

    def __init__(self, config: KubernetesConfig, context: RmContext) -> None:
        self._config, self._context = config, context
        self._cluster = Cluster(config, context.call_timeout_s)
        self._ending = Ending(self._cluster, context.call_timeout_s)
        self._looker = Looker(self._cluster, config)
        self._sizes = Sizes(self._cluster, config, self._ending)
        self._timers: list[threading.Timer] = []
        self.offers = ResourceOffers(
            supervised=True,
            master_in_client=True,
            master_in_allocation=True,
            restarts_slots=True,
            restarts_master=config.master_restarts > 0,
            resizes=True,
            outlives_client=True,
            ticket_limit=SECRET_LIMIT,
            python="python3",
            limits=frozenset({"memory", "disk", "walltime", *(["cpus"] if config.cpu_limits else [])}),
            why={
                "worlds": "pods have no process manager in common",
                "in_process": "workers run in pods, not in the client",
                "same_host": "pods are other hosts than the client's",
                "restarts_master": "rm.k8s.master_restarts is 0",
                "renews": "a time limit (job.walltime_s) is one of all attempts together",
                "shared_files": "pods see no files of the client",
            },
        )

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        import yaml

        made = Manifests(allocation, self._config, self._namespace_to_show())
        objects = made.all(hide=True)
        objects[0]["data"] = {"plan.json": "(the Jobs below, for later attempts)"}
        text: str = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=120)
        return f"# {allocation.summary}\n# {self._call_to_show()}\n{LEFT_OUT}{text}"

    def _call_to_show(self) -> str:
        with suppress(ResourceError):
            access = self._cluster.api.access
            return f"made one by one by POST to {access.server}, with the credentials of {access.source}"
        return "made one by one by POST; no cluster is known here (KUBECONFIG, rm.k8s.kubeconfig)"

    def _namespace_to_show(self) -> str:
        with suppress(ResourceError):
            return self._cluster.namespace
        return self._config.namespace or "default"

    def submit(self, allocation: Allocation) -> JobHandle:
        if allocation.world:
            raise CapabilityError(
                f"Kubernetes offers no process world '{allocation.world}'",
                why=self.offers.why["worlds"],
                remedy="choose another transport: job.comm=tcp",
            )
        api, namespace = self._cluster.api, self._cluster.namespace
        root, *rest = Manifests(allocation, self._config, namespace).all()
        mark = uuid.uuid4().hex
        jobs = [body for body in rest if body["kind"] == "Job"]
        quota.check(api, namespace, jobs)
        try:
            with refusals("Kubernetes did not accept the job", submission=True):
                root = self._cluster.create(path(namespace, "configmaps"), root, mark)
                handle = self._handle(allocation.job_id, root)
                rbac.check_accounts(api, namespace, jobs)  # now that the namespace is known to be there
                for body in rest:
                    kind = f"{body['kind'].lower()}s"
                    made = self._cluster.create(path(namespace, kind), manifests.owned(body, root), mark)
                    if "ttlSecondsAfterFinished" in body.get("spec", {}):  # the root, and with it all, goes with it
                        where = path(namespace, "configmaps", root["metadata"]["name"])
                        api.patch(where, {"metadata": manifests.by("batch/v1", "Job", made)})
        except BaseException:
            # The root may be there although no answer came (a timeout, Ctrl-C), or be that of another submission.
            with suppress(ResourceError, RefusedError):
                found = api.get(path(namespace, "configmaps", names.object_name(allocation.job_id)))
                if found is not None and found["metadata"].get("annotations", {}).get(names.SUBMISSION) == mark:
                    handle = self._handle(allocation.job_id, found)
                    self._ending.kill(handle, 0.0)
                    self._ending.clean(handle)
            raise
        self._cluster.forget()
        return handle

    @staticmethod
    def _handle(job_id: str, root: Object) -> JobHandle:
        metadata = root["metadata"]
        return JobHandle(NAME, job_id, metadata["uid"], {"namespace": metadata["namespace"]})

    # -- looking -------------------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> JobHandle | None:
        with refusals(f"job {job_id} cannot be looked for"):
            root = self._cluster.api.get(path(self._cluster.namespace, "configmaps", names.object_name(job_id)))
        return None if root is None else self._handle(job_id, root)

    def state(self, handle: JobHandle) -> JobStatus:
        return self._looker.state(handle)

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        def wanted(pods: list[Object]) -> list[tuple[Source, int]]:
            slots = self._looker.slots_of_pods(handle, pods)
            found = [(Source.of(body), slots[body["metadata"]["name"]]) for body in pods_with_logs(pods)]
            return [(source, number) for source, number in found if slot in (None, number)]

        if follow:

            def look() -> tuple[list[tuple[Source, int]], bool]:
                over = self.state(handle).state
                return wanted(
                    self._cluster.all("pods", handle, fresh=over.final)
                ), over.final or over.value == "unknown"

            yield from Follower(self._cluster.api, self._cluster.namespace_of(handle)).follow(look)
            return
        pods = sorted(self._cluster.all("pods", handle), key=lambda body: str(body["metadata"]["creationTimestamp"]))
        yield from self._looker.said(handle, slot)
        for source, number in wanted(pods):
            with refusals(f"the log of pod {source.pod} cannot be read"):
                try:
                    yield from kept(self._cluster.api, self._cluster.namespace_of(handle), source, number)
                except RefusedError as error:
                    if error.status < 500:
                        raise
                    yield unread(source.pod, number, error)  # its node does not answer; the other pods' logs are there

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        addresses = self._addresses(handle)
        pod = next(
            (
                body["metadata"]["name"]
                for body in self._cluster.all("pods", handle)
                if body["metadata"]["labels"].get(ROLE) == MASTER and states.runs(body)
            ),
            None,
        )
        if pod is None or not addresses:
            raise ResourceError(
                f"the job master of job {handle.job_id} cannot be reached yet",
                why="its pod does not run" if pod is None else "it has not published its address",
                remedy="wait until the job has started; 'twister2 status' shows what it waits for",
                where=f"namespace {self._cluster.namespace_of(handle)}",
            )
        if self._cluster.api.access.in_cluster:
            return nullcontext(addresses)
        port = next((port for text in addresses if (port := urlsplit(text).port)), 0)
        return self._forwarded(handle, pod, port)

    @contextlib.contextmanager
    def _forwarded(self, handle: JobHandle, pod: str, port: int) -> Iterator[Sequence[str]]:
        api = self._cluster.api.another()
        with contextlib.ExitStack() as stack:
            with refusals(f"no port can be forwarded to the job master of job {handle.job_id}"):
                where = path(self._cluster.namespace_of(handle), "pods", pod)
                address = stack.enter_context(forwarded(api, where, port))
            yield [address]

    def _addresses(self, handle: JobHandle) -> list[str]:
        where = path(self._cluster.namespace_of(handle), "secrets", names.object_name(handle.job_id))
        with refusals(f"the ticket of job {handle.job_id} cannot be read"):
            secret = self._cluster.api.get(where)
        try:
            ticket = json.loads(base64.b64decode(secret["data"][names.TICKET])) if secret else {}
            found = [str(text) for text in ticket["addresses"]]
        except (KeyError, TypeError, ValueError):
            return []
        return [text for text in found if text.startswith("tcp://")]

    # -- attempts ------------------------------------------------------------------------------------------------------

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        where = path(self._cluster.namespace_of(handle), "secrets", names.object_name(handle.job_id))
        body = {"data": {names.TICKET: base64.b64encode(ticket).decode()}}
        with refusals(f"the ticket of job {handle.job_id} cannot be replaced"):
            secret = self._cluster.api.patch(where, body)
        if secret is None:
            raise ResourceError(
                f"the ticket of job {handle.job_id} cannot be replaced",
                why="its secret is gone: the job was cleaned, or deleted in the cluster",
                remedy="submit the job again",
            )
        version = secret["metadata"]["resourceVersion"]
        self._tell(handle, self._cluster.api, f"{version}.0", TELL_AGAIN_S[0])  # hundreds of pods the timers tell
        for number, delay_s in enumerate(TELL_AGAIN_S, 1):
            timer = threading.Timer(delay_s, self._tell_again, (handle, f"{version}.{number}"))
            timer.daemon = True
            timer.start()
            self._timers = [other for other in self._timers if other.is_alive()] + [timer]

    def _tell(self, handle: JobHandle, api: Any, mark: str, limit_s: float = math.inf) -> None:
        """Change an annotation of every pod: its kubelet then looks at the secret now, not within the next minute.

        :param limit_s: begin with no other pod after this time.
        """
        namespace, until = self._cluster.namespace_of(handle), time.monotonic() + limit_s
        with refusals(f"the pods of job {handle.job_id} cannot be told of the new ticket"):
            pods = api.items(path(namespace, "pods"), labelSelector=selector(handle.job_id, **{ROLE: names.WORKER}))
            for body in pods:
                if time.monotonic() > until:
                    return
                if body.get("status", {}).get("phase") in ("Pending", "Running"):
                    where = path(namespace, "pods", body["metadata"]["name"])
                    api.patch(where, {"metadata": {"annotations": {names.TOLD: mark}}})

    def _tell_again(self, handle: JobHandle, mark: str) -> None:
        api = self._cluster.api.another()
        with suppress(ResourceError):
            self._tell(handle, api, mark)
        api.close()

    def remember(self, handle: JobHandle, note: bytes, ended: JobState | None = None) -> None:
        if not self.offers.restarts_master:
            super().remember(handle, note, ended)
        changes: Object = {"binaryData": {names.NOTE: base64.b64encode(note).decode()}}
        if ended is not None:
            changes["metadata"] = {"annotations": {names.ENDED: ended.value}}
        where = path(self._cluster.namespace_of(handle), "configmaps", names.object_name(handle.job_id))
        with refusals(f"the job master's note of job {handle.job_id} cannot be kept"):
            root = self._cluster.api.patch(where, changes)
        if root is None:
            raise ResourceError(
                f"the job master's note of job {handle.job_id} cannot be kept",
                why="the job was cleaned, or deleted in the cluster",
                remedy="submit the job again",
            )
        self._cluster.forget()

    def remembered(self, handle: JobHandle) -> bytes | None:
        if not self.offers.restarts_master:
            return super().remembered(handle)
        root = self._cluster.root(handle, fresh=True)
        text = ((root or {}).get("binaryData") or {}).get(names.NOTE)
        return None if text is None else base64.b64decode(text)

    def master_returns(self, handle: JobHandle) -> bool:
        return self._looker.master_returns(handle)

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        self._sizes.start(handle, attempt, slots)

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        self._sizes.stop(handle, slots, grace_s)

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        self._sizes.resize(handle, n_workers, group)

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        ended = self._looker.state(handle, fresh=True).state
        self._ending.kill(handle, grace_s, mark=not ended.final)

    def remove_secrets(self, handle: JobHandle) -> None:
        self._stop_telling()
        with refusals(f"the tickets of job {handle.job_id} cannot be removed"):
            self._ending.delete(handle, "secrets")

    def clean(self, handle: JobHandle) -> list[str]:
        self._stop_telling()
        return self._ending.clean(handle)

    def _stop_telling(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def close(self) -> None:
        self._stop_telling()
        self._cluster.close()

    def __repr__(self) -> str:
        return f"KubernetesManager({self._config!r})"
