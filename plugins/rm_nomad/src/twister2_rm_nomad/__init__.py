"""Resource manager plugin ``nomad``: one batch job holds the job master and all workers."""

from __future__ import annotations
