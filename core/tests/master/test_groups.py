"""What the master knows of sub-groups."""

from __future__ import annotations

import pytest

from twister2.master.steps import Groups
from twister2.spec.errors import NetworkError


def test_two_groups_of_one_number_are_told_apart() -> None:
    """Numbers are hashes: groups without a common worker may have the same one, and only the master can see it."""
    groups = Groups()
    groups.add(9, [0, 1], [])
    groups.add(9, [0, 1], [])
    with pytest.raises(NetworkError, match=r"workers 0, 1 and of workers 2, 3 have the same number"):
        groups.add(9, [2, 3], [])
    assert groups.order(9) == (0, 1)
