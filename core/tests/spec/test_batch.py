"""What becomes of a batch that is given to the system."""

from __future__ import annotations

import numpy as np
import pytest

from twister2.spec.batch import own
from twister2.spec.errors import OperatorError


def test_an_array_is_read_only_from_then_on():
    whole = np.arange(6)
    part = own(whole[:2])
    assert own(whole) is whole
    assert not whole.flags.writeable
    assert not part.flags.writeable
    assert not np.may_share_memory(part, whole)


def test_other_forms_are_as_they_were():
    records = [1, 2]
    assert own(records) is records
    table = np.rec.array([(1, "a")], names="number,text")
    assert own(table) is table
    assert own(table).number.tolist() == [1]


@pytest.mark.parametrize("writeable", [True, False])
def test_a_mask_is_not_lost(writeable):
    masked = np.ma.array([1, 2], mask=[True, False])
    masked.flags.writeable = writeable
    with pytest.raises(OperatorError, match="masked array"):
        own(masked)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_an_array():
    made = own(np.matrix([[1, 2], [3, 4]]))
    assert type(made) is np.ndarray
    assert made[0].tolist() == [1, 2]
