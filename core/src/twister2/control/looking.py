"""How those look at a job who wait for it: how often its manager is asked, and when it is believed that there is none
any more.
"""

from __future__ import annotations

LONGEST_PAUSE_S = 2.0
"""Longest time between two looks. A job that has been done meanwhile waits some seconds for its client."""
PAUSE = 0.02
"""Until that, the part of the time that was waited: many may wait at one manager, for days."""
GONE_S = 3.0
"""How long nobody but a file may know of a job, or say that it ended, until that is its end: its master may just come
to tell more, and a manager that was started again may have to hear of its jobs first.
"""


def pause_s(waited_s: float, shortest_s: float) -> float:
    """Time until the next look."""
    return min(LONGEST_PAUSE_S, max(shortest_s, PAUSE * waited_s))
