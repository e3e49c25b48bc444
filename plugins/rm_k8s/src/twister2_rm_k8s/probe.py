"""Whether a cluster can be used from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import ResourceError
from twister2.spec.plugin import Probe
from twister2_rm_k8s.api import Api, RefusedError
from twister2_rm_k8s.cluster import error_of
from twister2_rm_k8s.kubeconfig import find_access
from twister2_rm_k8s.rbac import in_words, missing

if TYPE_CHECKING:
    from twister2_rm_k8s.config import KubernetesConfig

TIMEOUT_S = 1.8


def probe(config: KubernetesConfig) -> Probe:
    """Ask for the version and for our rights; reads only."""
    try:
        api = Api(find_access(config), TIMEOUT_S)
        try:
            version = api.call("GET", "/version").get("gitVersion", "")
            lacking = missing(api, api.access.namespace)
        finally:
            api.close()
    except ResourceError as error:
        return Probe(False, f"{error.what}: {error.why}", error.remedy)
    except RefusedError as refusal:
        no = error_of("the cluster does not answer us", refusal, submission=False)
        return Probe(False, f"{no.what}: {no.why}", no.remedy)
    facts = {"server": api.access.server, "version": version, "namespace": api.access.namespace}
    if lacking:
        text = f"Kubernetes {version} answers, but in namespace {api.access.namespace} you may not {in_words(lacking)}"
        return Probe(
            False, text, "ask for these rights: 'python -m twister2_rm_k8s.rbac' prints a role with them", facts
        )
    if not config.image:
        return Probe(False, f"Kubernetes {version} answers; no image is named", "set rm.k8s.image", facts)
    return Probe(True, f"Kubernetes {version}, namespace {api.access.namespace}", facts=facts)
