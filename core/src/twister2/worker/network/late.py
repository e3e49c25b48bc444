"""The error for a wait whose deadline has passed: who is late in the step, and where each of them is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from twister2.spec.errors import DeadlineError
from twister2.worker.board import OTHERS
from twister2.worker.callers import caller_line
from twister2.worker.groups import SHOWN, named, of_group

if TYPE_CHECKING:
    from twister2.spec.network import Step
    from twister2.worker.link import Link

ASKING_S: Final = 2.0
"""How long the job master is waited for, who has the step boards of all."""


def too_late(link: Link, deadline_s: float, what: str, step: Step | None, ways: str) -> DeadlineError:
    """The error for a wait whose deadline passed.

    :param what: was waited for. :param step: was waited for in it, if that is known. :param ways: what lies in the ways
        to the other members.
    :raises StepAbortedError: the attempt was aborted meanwhile.
    """
    line, me = caller_line(), link.worker_id
    if step is None:
        return DeadlineError(
            f"worker {me} waited {deadline_s:g} s for {what}",
            why="it did not happen in time",
            remedy="see the other workers' logs, or give a longer deadline",
            where=line,
            details={"ways": ways},
        )
    mine, group = step.fingerprint, step.group
    answer = link.request("whereabouts", {"group": group.number, "step": step.number}, deadline_s=ASKING_S)
    found: dict[str, Any] = json.loads(answer) if answer else {"late": [], "where": {}}
    late, where = found["late"], found["where"]
    if late:
        begin, others, _ = what.partition(OTHERS)
        what = f"{begin}for {named(late)}" if others else what
    begun = f"{mine.kind} is step {step.number}{of_group(group.number, group.members)}, begun at {mine.line}"
    return DeadlineError(
        f"worker {me} waited {deadline_s:g} s for {what}",
        why="; ".join([begun, *_told(late, where)]),
        remedy="give a longer deadline if they are only slow; 'twister2 status' shows what they do",
        where=line,
        details={
            "late": late,
            "where": where,
            "step": step.number,
            "group": group.number,
            "line": mine.line,
            "ways": ways,
        },
    )


def _told(late: list[int], where: dict[str, str]) -> list[str]:
    if not where:
        return ["the job master did not say where the others are"]
    shown = [f"worker {worker} {text}" for worker, text in list(where.items())[:SHOWN]]
    more = [f"and {len(where) - SHOWN} more"] if len(where) > SHOWN else []
    verdict = f"{named(late)} {'have' if len(late) > 1 else 'has'} not entered it" if late else "all are in it"
    return [verdict, *shown, *more]
