"""Options of the plugin."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class KubernetesConfig:
    """Options of ``[rm.k8s]``."""

    image: str = option("", "Image of the pods, with Python, Twister2 and what the program imports; required.")
    image_pull_policy: str = option("", "Always, IfNotPresent or Never; the cluster's rule when empty.")
    pull_secrets: tuple[str, ...] = option((), "Names of secrets with the registry's credentials.")
    kubeconfig: str = option("", "Access to the cluster; KUBECONFIG or ~/.kube/config, else the pod's own, when empty.")
    context: str = option("", "Context of the kubeconfig; its current one when empty.")
    namespace: str = option("", "Namespace of the job's objects; that of the context when empty.")
    service_account: str = option("twister2", "Service account of a job master in the allocation; it manages the job.")
    worker_service_account: str = option("", "Service account of workers, for their own use; none is given when empty.")
    master_cpus: float = option(0.25, "CPUs asked for the job master's pod.", unit="1", validator=gt(0))
    master_memory_mb: int = option(512, "Memory of the job master's pod.", unit="MiB", validator=ge(64))
    master_restarts: int = option(
        3,
        "How often Kubernetes starts a job master again that has died; 0: its end is that of the job.",
        unit="1",
        validator=ge(0),
    )
    keep_s: float = option(
        0.0,
        "How long Kubernetes keeps what an ended job with its master there has left, logs too, while no command looks "
        "at it; 0: until one does.",
        unit="s",
        validator=ge(0),
    )
    cpu_limits: bool = option(False, "Whether pods are throttled to the CPUs they ask for.")
    gpu_resource: str = option("nvidia.com/gpu", "Name of the resource that job.gpus asks for.")
    scratch_mb: int = option(
        0, "Largest scratch (/tmp) of a pod; the group's disk, or no limit, when 0.", unit="MiB", validator=ge(0)
    )
    user: int = option(
        1000, "User and group number of the processes; 0: what the image says.", unit="1", validator=ge(0)
    )
    read_only_root: bool = option(True, "Whether the image's file system is read-only; /tmp can be written always.")
    node_selector: dict[str, str] = option({}, "Labels that nodes must have.")
    priority_class: str = option("", "Priority class of the pods.")
    scheduler: str = option("", "Name of the scheduler, e.g. volcano; the cluster's own when empty.")
    queue: str = option("", "Local queue of Kueue that admits the job's pods (label kueue.x-k8s.io/queue-name).")
    labels: dict[str, str] = option({}, "More labels for every object and pod.")
    annotations: dict[str, str] = option({}, "More annotations for every pod.")
    pod_template: str = option(
        "", "File (YAML or JSON) with a pod template that is merged over ours: affinity, tolerations, volumes, ..."
    )
    unschedulable_s: float = option(
        0.0, "How long pods may find no node before the job fails; 0: job.queue_deadline_s.", unit="s", validator=ge(0)
    )
    pull_s: float = option(
        60.0, "How long a pull that fails for a passing reason is tried again.", unit="s", validator=ge(0)
    )
