"""The rights that jobs need: ``python -m twister2_rm_k8s.rbac [NAMESPACE]`` prints them, ``--apply`` makes them.

A service account for job masters with a role that holds what a master does, and nothing beyond its namespace. Whoever
submits needs the same and may be bound to the same role.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2_rm_k8s import names
from twister2_rm_k8s.api import RefusedError
from twister2_rm_k8s.names import path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twister2_rm_k8s.api import Api

Object = dict[str, Any]

READ = ("get", "list")
RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("", "pods", (*READ, "patch", "delete", "deletecollection")),
    ("", "pods/log", ("get",)),
    ("", "pods/portforward", ("get", "create")),
    ("", "secrets", (*READ, "create", "patch", "delete", "deletecollection")),
    ("", "configmaps", (*READ, "create", "patch", "delete", "deletecollection")),
    ("", "services", (*READ, "create", "delete", "deletecollection")),
    ("", "events", ("list",)),
    ("", "resourcequotas", ("list",)),
    ("", "serviceaccounts", ("get",)),
    ("batch", "jobs", (*READ, "create", "patch", "delete", "deletecollection")),
)
"""API group, resource, verbs."""
Right = tuple[str, str, str]
RIGHTS: tuple[Right, ...] = tuple((verb, group, resource) for group, resource, verbs in RULES for verb in verbs)
"""Verb, API group, resource, of everything that the rules allow."""
NEEDED: tuple[Right, ...] = (
    ("create", "", "pods/portforward"),
    ("create", "batch", "jobs"),
    ("create", "", "secrets"),
    ("delete", "", "pods"),
)
"""What is asked for by the probe: without these no job can be submitted."""
BEGINS_WITH: tuple[Right, ...] = (("list", "", "configmaps"), ("patch", "", "secrets"))
"""What a job master does first: one that may not is never heard of."""
SEEN_S = 2.0
"""How long the cluster may take to know of a role that was bound just now."""
HELPFUL = frozenset({"deletecollection", "events", "resourcequotas", "serviceaccounts"})
"""Verbs and resources without which jobs run, and less is known of them."""


def manifest(namespace: str, account: str = "twister2") -> list[Object]:
    """Service account, role and the binding of one to the other."""
    metadata = {"name": account, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
                for group, resource, verbs in RULES
            ],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": account},
        },
    ]


def apply(api: Api, objects: list[Object]) -> None:
    """Create what is not there; a role that is gets the rules of today.

    :raises RefusedError: it is not allowed. :raises ResourceError: the server does not answer.
    """
    for body in objects:
        namespace, kind = body["metadata"]["namespace"], body["kind"].lower() + "s"
        base = "/api/v1" if kind == "serviceaccounts" else "/apis/rbac.authorization.k8s.io/v1"
        where = f"{base}/namespaces/{namespace}/{kind}"
        try:
            api.create(where, body)
        except RefusedError as error:
            if error.status != 409:
                raise
            if "rules" in body:
                api.patch(f"{where}/{body['metadata']['name']}", {"rules": body["rules"]})


def missing(api: Api, namespace: str, rights: Iterable[Right] = NEEDED) -> list[Right]:
    """Which of these rights the caller has not."""
    lacking = []
    for verb, group, resource in rights:
        name, _, part = resource.partition("/")
        wanted = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": part}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        answer = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        if not (answer.get("status") or {}).get("allowed"):
            lacking.append((verb, group, resource))
    return lacking


def lacking(api: Api, namespace: str, account: str, rights: Iterable[Right]) -> list[Right] | None:
    """Which of these rights a service account has not; None where the caller may not ask for it, or a proxy on the way
    takes no such question.
    """
    other = api.another(f"system:serviceaccount:{namespace}:{account}")
    try:
        return missing(other, namespace, rights)
    except (RefusedError, ResourceError):
        return None
    finally:
        other.close()


def in_words(rights: Iterable[Right]) -> str:
    """``get/list pods, get pods/log``."""
    verbs: dict[str, list[str]] = {}
    for verb, _, resource in rights:
        verbs.setdefault(resource, []).append(verb)
    return ", ".join(f"{'/'.join(several)} {resource}" for resource, several in verbs.items())


def check_accounts(api: Api, namespace: str, jobs: Iterable[Object]) -> None:
    """Whether the service accounts of Jobs are there, without which no pod is ever made, and the master's has the
    rights without which it is never heard of. What we may not see is not checked.

    :raises SubmissionRefusedError: one is missing, or may too little.
    """
    accounts = {names.MASTER: "", names.WORKER: ""}
    for job in jobs:
        accounts[job["metadata"]["labels"][names.ROLE]] = job["spec"]["template"]["spec"].get("serviceAccountName", "")
    for account in sorted({*accounts.values()} - {""}):
        with contextlib.suppress(RefusedError):
            if api.get(path(namespace, "serviceaccounts", account)) is None:
                raise _no_account(namespace, account)
    if accounts[names.MASTER]:
        _check_master(api, namespace, accounts[names.MASTER])


def _no_account(namespace: str, account: str) -> SubmissionRefusedError:
    return SubmissionRefusedError(
        f"there is no service account '{account}' for the job's pods",
        why="master pods need rm.k8s.service_account, worker pods rm.k8s.worker_service_account where it is set",
        remedy=f"make it ('python -m twister2_rm_k8s.rbac {namespace} --account {account} --apply' makes the "
        "master's), or keep the job master here: job.master=client",
        where=f"namespace {namespace}",
    )


def _check_master(api: Api, namespace: str, account: str) -> None:
    end = time.monotonic() + SEEN_S
    while lack := lacking(api, namespace, account, BEGINS_WITH):
        if time.monotonic() > end:
            raise SubmissionRefusedError(
                f"the service account '{account}' of the job master has too few rights",
                why=f"to {in_words(lack)} is forbidden to it: its role is not there, or not bound to it",
                remedy=f"bind it ('python -m twister2_rm_k8s.rbac {namespace} --account {account} --apply' does), "
                "or keep the job master here: job.master=client",
                where=f"namespace {namespace}",
            )
        time.sleep(0.1)


def main(arguments: list[str] | None = None) -> int:
    """Print or make them; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m twister2_rm_k8s.rbac", description="The rights that jobs need.")
    parser.add_argument(
        "namespace", nargs="?", default="", help="namespace of the jobs (default: that of the kubeconfig)"
    )
    parser.add_argument(
        "--account", default="twister2", help="name of service account and role (rm.k8s.service_account)"
    )
    parser.add_argument("--apply", action="store_true", help="make them in the cluster instead of printing them")
    options = parser.parse_args(arguments)
    import yaml

    from twister2.spec.errors import Twister2Error
    from twister2_rm_k8s.api import Api
    from twister2_rm_k8s.cluster import error_of
    from twister2_rm_k8s.config import KubernetesConfig
    from twister2_rm_k8s.kubeconfig import find_access

    try:
        if not options.apply:
            print(
                yaml.safe_dump_all(manifest(options.namespace or "default", options.account), sort_keys=False), end=""
            )
            return 0
        access = find_access(KubernetesConfig(namespace=options.namespace))
        api = Api(access, 30.0)
        try:
            apply(api, manifest(access.namespace, options.account))
        finally:
            api.close()
    except RefusedError as refusal:
        print(error_of("the rights cannot be made", refusal, submission=False), file=sys.stderr)
        return 1
    except Twister2Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
