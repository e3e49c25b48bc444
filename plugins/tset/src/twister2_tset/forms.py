"""The forms of batches, as what makes them says: the attribute ``gives`` of sources and of the tasks of steps.

What says nothing gives lists of records. What is known of a form more closely stands behind its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twister2.spec.batch import is_array, is_arrow

if TYPE_CHECKING:
    from collections.abc import Set

RECORDS: Final = "records"
"""Lists, and sequences such as the lines of a text."""
TUPLES: Final = "records, tuples"
EMPTY: Final = "records, none"
"""A list of nothing, to which sets are added."""
TABLE: Final = "table"
"""Arrow batches."""
ARRAY: Final = "array"
"""Arrays of numpy."""
UNKNOWN: Final = "unknown"
"""What a function makes of records in batches."""
SAME: Final = "same"
"""The form of what comes."""
SELECTED: Final = "selected"
"""The same, with other columns."""
WHATEVER: Final = "whatever"
"""The same where columns come, else unknown."""


def form_of(data: Any) -> str:
    """The form of what is in memory."""
    if is_arrow(data):
        return TABLE
    if is_array(data):
        return f"{ARRAY}, {data.dtype} {data.shape[1:]}"
    if not len(data):
        return EMPTY
    return TUPLES if isinstance(data[0], tuple) else RECORDS


def kind_of_form(form: str) -> str:
    """The name of a form."""
    return form.partition(",")[0]


def fit(forms: Set[str]) -> bool:
    """Whether batches of all these forms are alike; of arrays that nothing more is known of that is hoped."""
    known = {form for form in forms if form.startswith(f"{ARRAY},")}
    return len(set(map(kind_of_form, forms))) <= 1 and len(known) <= 1
