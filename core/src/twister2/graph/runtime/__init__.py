"""What executors share: running the tasks of one worker's share of a plan. For authors of executors."""

from __future__ import annotations

from twister2.graph.runtime.execution import PlanExecution, check_mode
from twister2.graph.runtime.pool import Call, Pool

__all__ = ["Call", "PlanExecution", "Pool", "check_mode"]
