"""Where an error that leaves a step happened: the worker, and the line of the program that began the step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twister2.spec.errors import (
    KeyHashError,
    MemoryBudgetError,
    OperatorError,
    SerializationError,
    SpillError,
    Twister2Error,
    UserCodeError,
)

if TYPE_CHECKING:
    from twister2.worker.network.steps import NumberedStep

OF_THIS_WORKER: Final = (
    KeyHashError,
    MemoryBudgetError,
    OperatorError,
    SerializationError,
    SpillError,
    UserCodeError,
)
"""Errors that arise on the worker that raises them. Others may follow from what happened elsewhere."""


def placed(error: Twister2Error, step: NumberedStep) -> Twister2Error:
    """The same error; one that arose here says so: operation, this worker, and the line of the call."""
    if not isinstance(error, OF_THIS_WORKER) or "worker" in error.details:
        return error
    mine, me = step.fingerprint, step.network.worker_id
    parts = [error.where] if error.where else []
    if "operator" not in error.details and mine.kind.rpartition(".")[2] not in f"{error.what} {error.where}":
        parts.insert(0, mine.kind)
    if f"worker {me}" not in error.where:
        parts.append(f"worker {me}")
    if mine.line and mine.line not in error.where:
        parts.append(f"called at {mine.line}" if error.where else mine.line)
    error.where = ", ".join(parts)
    error.details |= {"worker": me, "line": mine.line}
    error.details.setdefault("operator", mine.kind)
    return error
