"""What ``twister2 doctor`` looks at: access, version, namespace, rights, service account, quota, nodes, image."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from twister2.spec.errors import ResourceError
from twister2.spec.rm import Check
from twister2_rm_k8s.api import Api, RefusedError
from twister2_rm_k8s.cluster import error_of
from twister2_rm_k8s.kubeconfig import find_access
from twister2_rm_k8s.names import path
from twister2_rm_k8s.quota import quantity
from twister2_rm_k8s.rbac import HELPFUL, RIGHTS, in_words, lacking, missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2_rm_k8s.config import KubernetesConfig
    from twister2_rm_k8s.rbac import Right

Object = dict[str, Any]
OLDEST = (1, 29)
"""First version whose Jobs leave single indexes failed (backoffLimitPerIndex) without being told to."""


def checks(config: KubernetesConfig, timeout_s: float) -> list[Check]:
    """All checks; those behind a failed one are skipped where they need it."""
    try:
        api = Api(find_access(config), timeout_s)
    except ResourceError as error:
        return [Check("kubeconfig", "failed", _line(f"{error.what}: {error.why}"), error.remedy)]
    where = f"{api.access.source}: {api.access.server}, namespace {api.access.namespace}"
    found = [Check("kubeconfig", "ok", where)]
    for name, look in LOOKS:
        if found[-1].result == "failed" and found[-1].name == "API server":
            break
        if name in WITHIN and any(each.result == "failed" and each.name == "namespace" for each in found):
            found.append(Check(name, "skipped", "there is no namespace to look at"))  # rights in it would be granted
            continue
        try:
            found.append(look(api, config))
        except ResourceError as error:
            found.append(Check(name, "failed", _line(f"{error.what}: {error.why}"), error.remedy or "try again"))
        except RefusedError as refusal:
            no = error_of(f"{name} cannot be looked at", refusal, submission=False)
            failed = refusal.status == 401
            finding = _line(f"{no.what}: {no.why}")
            found.append(Check(name, "failed" if failed else "skipped", finding, no.remedy))
    api.close()
    return found


def _server(api: Api, _: KubernetesConfig) -> Check:
    version = str(api.call("GET", "/version").get("gitVersion", ""))
    numbers = re.match(r"v(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        finding = f"Kubernetes {version} answers; its Jobs end as a whole with their first lost worker"
        return Check("API server", "failed", finding, f"use a cluster of {OLDEST[0]}.{OLDEST[1]} or newer")
    return Check("API server", "ok", f"Kubernetes {version} answers and accepts the credentials")


def _rights(api: Api, _: KubernetesConfig) -> Check:
    lack = missing(api, api.access.namespace, RIGHTS)
    if lack:
        finding = f"in namespace {api.access.namespace} you may not {in_words(lack)}"
        remedy = "ask for what 'python -m twister2_rm_k8s.rbac' prints"
        return Check("rights", _how_bad(lack), finding, remedy)
    return Check("rights", "ok", f"jobs can be made, seen and ended in namespace {api.access.namespace}")


def _how_bad(lack: list[Right]) -> Literal["warning", "failed"]:
    return "warning" if all(HELPFUL & {verb, resource} for verb, _, resource in lack) else "failed"


def _namespace(api: Api, _: KubernetesConfig) -> Check:
    name = api.access.namespace
    if api.get(f"/api/v1/namespaces/{name}") is None:
        remedy = (
            f"set rm.k8s.namespace to one that is there, or have it made: kubectl create namespace {name}, then "
            f"python -m twister2_rm_k8s.rbac {name} --apply"
        )
        return Check("namespace", "failed", f"there is no namespace '{name}'", remedy)
    return Check("namespace", "ok", f"'{name}' is there")


def _account(api: Api, config: KubernetesConfig) -> Check:
    name, namespace = config.service_account, api.access.namespace
    if not name:
        finding = "rm.k8s.service_account is empty: a job master in the allocation cannot manage its job"
        return Check("service account", "warning", finding, "name one, or set job.master=client")
    if api.get(path(namespace, "serviceaccounts", name)) is None:
        remedy = f"make it: python -m twister2_rm_k8s.rbac {namespace} --apply"
        return Check("service account", "failed", f"namespace {namespace} has no service account '{name}'", remedy)
    lack = lacking(api, namespace, name, RIGHTS)
    if lack is None:
        return Check("service account", "ok", f"'{name}' is there; what it may do you may not ask")
    if lack:
        finding = f"'{name}' is there, and may not {in_words(lack)} in namespace {namespace}"
        remedy = f"bind it to its role: python -m twister2_rm_k8s.rbac {namespace} --account {name} --apply"
        return Check("service account", _how_bad(lack), finding, remedy)
    return Check("service account", "ok", f"'{name}' is there, with the rights of a job master")


def _quota(api: Api, _: KubernetesConfig) -> Check:
    full, texts = [], []
    for body in api.items(path(api.access.namespace, "resourcequotas")):
        hard, used = body.get("status", {}).get("hard") or {}, body.get("status", {}).get("used") or {}
        for name, limit in hard.items():
            texts.append(f"{name} {used.get(name, '0')} of {limit}")
            if quantity(str(used.get(name, "0"))) >= quantity(str(limit)):
                full.append(name)
    if full:
        finding = f"nothing is left of {', '.join(full)} ({', '.join(texts)})"
        return Check("quota", "warning", finding, "jobs wait until others end; see kubectl describe resourcequota")
    return Check("quota", "ok", ", ".join(texts) or f"namespace {api.access.namespace} has none")


def _nodes(api: Api, _: KubernetesConfig) -> Check:
    nodes = [body for body in api.items("/api/v1/nodes") if _ready(body)]
    if not nodes:
        return Check("nodes", "warning", "no node is ready", "jobs wait until one is; see kubectl get nodes")
    cpus = [quantity(str(body["status"]["allocatable"]["cpu"])) for body in nodes]
    finding = f"{len(nodes)} are ready, with {sum(cpus, Decimal(0)):f} CPUs; the largest has {max(cpus):f}"
    return Check("nodes", "ok", finding)


def _ready(body: Object) -> bool:
    conditions = body.get("status", {}).get("conditions") or []
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not body.get("spec", {}).get("unschedulable")


def _image(_: Api, config: KubernetesConfig) -> Check:
    if not config.image:
        return Check("image", "failed", "rm.k8s.image is empty", "build an image with Twister2 and name it there")
    return Check("image", "ok", f"{config.image}; the job of one worker tells whether nodes can pull it")


LOOKS: tuple[tuple[str, Callable[[Api, KubernetesConfig], Check]], ...] = (
    ("API server", _server),
    ("namespace", _namespace),
    ("rights", _rights),
    ("service account", _account),
    ("quota", _quota),
    ("nodes", _nodes),
    ("image", _image),
)

WITHIN = ("rights", "service account", "quota")
"""What is looked at in the namespace of jobs."""


def _line(text: str) -> str:
    return " ".join(text.split())
