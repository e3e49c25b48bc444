"""Resource manager plugin ``k8s``: pods of Kubernetes hold the job master and all workers."""

from __future__ import annotations
