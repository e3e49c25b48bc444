"""Starting workers again, and more or fewer of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError, ResourcesExceededError
from twister2_rm_k8s import manifests, names, quota
from twister2_rm_k8s.api import RefusedError
from twister2_rm_k8s.cluster import refusals
from twister2_rm_k8s.ending import job_over
from twister2_rm_k8s.names import GROUP, ROLE, START, WORKER, path
from twister2_rm_k8s.states import index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.rm import JobHandle, ResourceGroup
    from twister2_rm_k8s.cluster import Cluster
    from twister2_rm_k8s.config import KubernetesConfig
    from twister2_rm_k8s.ending import Ending

Object = dict[str, Any]
CONFLICTS = 20


class Sizes:
    """For one cluster. The root's plan has a Job for each kind of worker, with the slots that are of that kind."""

    def __init__(self, cluster: Cluster, config: KubernetesConfig, ending: Ending) -> None:
        self._cluster, self._config, self._ending = cluster, config, ending

    def start(self, handle: JobHandle, attempt: int, slots: Sequence[int]) -> None:
        """Copies of these slots, in new Jobs."""
        plan = self._cluster.plan(handle)
        wanted = set(slots)
        with refusals(f"attempt {attempt} of job {handle.job_id} cannot be started"):
            for job in plan["workers"]:
                chosen = sorted(wanted & set(_slots(job)))
                if chosen:
                    self._create(handle, job, chosen)
        self._cluster.forget()

    def stop(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        """End the copies of these slots."""
        going, jobs = self._of_slots(handle, set(slots).__contains__)
        self._ending.end_pods(handle, grace_s, going, jobs=jobs)
        self._cluster.forget()

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None) -> None:
        """See :meth:`twister2.spec.rm.ResourceManager.resize`."""
        plan = self._cluster.plan(handle)
        have = 1 + max((slot for job in plan["workers"] for slot in _slots(job)), default=-1)
        if n_workers > have:
            self._grow(handle, plan, range(have, n_workers), group)
        elif n_workers < have:
            self._shrink(handle, plan, n_workers)
        self._cluster.forget()

    def _grow(self, handle: JobHandle, plan: Object, slots: range, group: ResourceGroup | None) -> None:
        jobs: list[Object] = plan["workers"]
        like = jobs[-1]
        if group is not None:
            label = manifests.label(group.name)
            same = [job for job in jobs if job["metadata"]["labels"].get(GROUP) == label]
            like = manifests.of_group((same or jobs)[-1], group, self._config)
        new = manifests.again(like, like["metadata"]["name"], 0, [*slots])
        new["metadata"]["annotations"][names.GROWN] = "yes"
        namespace = self._cluster.namespace_of(handle)
        quota.check(self._cluster.api, namespace, [*jobs, new])
        with refusals(f"job {handle.job_id} cannot grow to {slots.stop} workers"):
            self._keep(handle, {**plan, "workers": [*jobs, new]})
            try:
                self._create(handle, new, [*slots], grown=True)
            except (RefusedError, ResourceError):
                self._keep(handle, plan)
                raise

    def _shrink(self, handle: JobHandle, plan: Object, n_workers: int) -> None:
        left = []
        for job in plan["workers"]:
            if slots := [slot for slot in _slots(job) if slot < n_workers]:
                left.append(manifests.again(job, job["metadata"]["name"], 0, slots))
        going, jobs = self._of_slots(handle, lambda slot: slot >= n_workers)
        with refusals(f"job {handle.job_id} cannot shrink to {n_workers} workers"):
            self._keep(handle, {**plan, "workers": left})
            for job in self._jobs(handle):
                if all(slot >= n_workers for slot in _slots(job)):
                    name = job["metadata"]["name"]
                    self._cluster.api.delete(path(self._cluster.namespace_of(handle), "jobs", name))
        self._ending.end_pods(handle, 0.0, going, jobs=jobs)

    def _keep(self, handle: JobHandle, plan: Object) -> None:
        where = path(self._cluster.namespace_of(handle), "configmaps", names.object_name(handle.job_id))
        self._cluster.api.patch(where, {"data": {"plan.json": json.dumps(plan, separators=(",", ":"))}})
        self._cluster.forget()

    def _create(self, handle: JobHandle, job: Object, slots: list[int], *, grown: bool = False) -> None:
        """A Job for these slots, under the next free name."""
        root, namespace = self._cluster.root(handle), self._cluster.namespace_of(handle)
        assert root is not None
        start = max((int(each["metadata"]["labels"].get(START, 0)) for each in self._jobs(handle)), default=0)
        for _ in range(CONFLICTS):
            start += 1
            body = manifests.again(job, f"{names.object_name(handle.job_id)}-{start}", start, slots)
            if not grown:
                body["metadata"]["annotations"].pop(names.GROWN, None)
            try:
                self._cluster.create(path(namespace, "jobs"), manifests.owned(body, root))
                return
            except RefusedError as error:
                if error.status != 409:
                    raise
        raise ResourcesExceededError(
            f"job {handle.job_id} has no free name for another Job",
            why=f"{start - CONFLICTS} to {start} are all taken by others",
            remedy="kill the job, and see what else makes Jobs of its name there",
        )

    def _jobs(self, handle: JobHandle) -> list[Object]:
        found = self._cluster.all("jobs", handle, fresh=True)
        return [job for job in found if job["metadata"]["labels"].get(ROLE) == WORKER]

    def _of_slots(self, handle: JobHandle, wanted: Callable[[int], bool]) -> tuple[Callable[[Object], bool], list[str]]:
        """What tells whether a pod is of such a slot, and the names of Jobs of several pods that all are."""
        found = self._jobs(handle)
        jobs = {job["metadata"]["name"]: _slots(job) for job in found}
        several = [job["metadata"]["name"] for job in found if len(_slots(job)) > 1 and not job_over(job)]

        def chosen(body: Object) -> bool:
            own = jobs.get(body["metadata"]["labels"].get(names.OWNER, ""), [])
            index = index_of(body)
            return body["metadata"]["labels"].get(ROLE) == WORKER and index < len(own) and wanted(own[index])

        return chosen, [name for name in several if all(map(wanted, jobs[name]))]


def _slots(job: Object) -> list[int]:
    return names.expand((job["metadata"].get("annotations") or {}).get(names.SLOTS, ""))
