"""The places of a job's workers, as its scheduler knows them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2_rm_mesos import states

if TYPE_CHECKING:
    from collections.abc import Sequence

STUCK_S = 8.0
"""How long after its grace a copy may take to end: one that takes longer is on an agent that is dead, or cut off."""
KEPT = ("wants", "number", "task", "agent", "state", "wanted", "ended")
"""What a successor must know of a slot."""


@attrs.define
class Slot:
    """One worker's place.

    :ivar task: the id of its latest task, empty before the first. :ivar state: as Mesos calls it. :ivar wanted: whether
        a task has to be launched. :ivar ended: how the latest task did, empty while it has not.
    """

    wants: dict[str, float]
    number: int = 0
    task: str = ""
    agent: str = ""
    state: str = ""
    wanted: bool = True
    ended: str = ""
    stop_at: float | None = attrs.field(default=None, eq=False)
    killed_at: float = 0.0

    @property
    def stuck(self) -> bool:
        """Whether it was told to end, and killed, and nothing is heard of that."""
        return not self.ended and self.stop_at is not None and time.monotonic() > self.stop_at + STUCK_S


def told(slots: Sequence[Slot], why: str) -> dict[str, Any]:
    """What whoever asks for the job's state needs to know of its slots.

    :param why: why nothing is launched, should a slot wait for that.
    """
    live = [slot for slot in slots if slot.task and not slot.ended]
    wanted = sum(slot.wanted for slot in slots)
    return {
        "n": len(slots),
        "slots": {number: slot.ended for number, slot in enumerate(slots) if slot.ended},
        "running": sum(slot.state in states.RUNS for slot in live),
        "starting": sum(slot.state not in states.RUNS for slot in live),
        "wanted": wanted,
        "waiting": f"{wanted} of {len(slots)} copies have no agent: {why}" if wanted else "",
        "absent": {number: f"waits for an agent: {why}" for number, slot in enumerate(slots) if slot.wanted},
        "empty": [number for number, slot in enumerate(slots) if not slot.task and not slot.wanted],
        "stuck": [number for number, slot in enumerate(slots) if slot.stuck],
    }
