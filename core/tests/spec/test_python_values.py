"""Values of Arrow for which Python has no objects: the error says what they are and what to cast."""

from __future__ import annotations

import pytest

from twister2.spec.batch import python_values, records
from twister2.spec.errors import OperatorError

pyarrow = pytest.importorskip("pyarrow")


@pytest.mark.parametrize(
    ("column", "kind", "why", "remedy"),
    [
        (pyarrow.array([10**17], pyarrow.timestamp("s")), "timestamp[s]", "the years 1 to 9999", "to timestamp('us')"),
        (pyarrow.array([b"\xff"]).view(pyarrow.string()), "string", "can't decode byte 0xff", "to binary"),
    ],
    ids=["far years", "text that is none"],
)
def test_the_error_is_that_of_the_type(column, kind, why, remedy):
    batch = pyarrow.record_batch({"k": column})
    for read in (lambda: python_values(column), lambda: records(batch)):
        with pytest.raises(OperatorError) as caught:
            read()
        assert kind in caught.value.what
        assert why in caught.value.why
        assert remedy in caught.value.remedy
