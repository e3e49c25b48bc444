"""The rights that jobs need: ``python -m twister2_rm_k8s.rbac [NAMESPACE]`` prints them, ``--apply`` makes them.

A service account for job masters with a role that holds what a master does, and nothing beyond its namespace. Whoever
submits needs the same and may be bound to the same role.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    ("batch", "jobs", (*READ, "create", "patch", "delete", "deletecollection")),
)
"""API group, resource, verbs."""
NEEDED = (
    ("create", "", "pods/portforward"),
    ("create", "batch", "jobs"),
    ("create", "", "secrets"),
    ("delete", "", "pods"),
)
"""What is asked for by the probe: without these no job can be submitted."""


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
    from twister2_rm_k8s.api import RefusedError

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


def missing(api: Api, namespace: str) -> list[str]:
    """What the caller may not do of what a submission needs."""
    lacking = []
    for verb, group, resource in NEEDED:
        name, _, part = resource.partition("/")
        wanted = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": part}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        answer = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        if not (answer.get("status") or {}).get("allowed"):
            lacking.append(f"{verb} {resource}")
    return lacking


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
    from twister2_rm_k8s.api import Api, RefusedError
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
