"""Folds: records become a state, states are merged, and a state becomes a result. By functions of the user's, or by
name.

Named folds leave out None; min and max leave out NaN too. Their states are tuples or numbers, which travel well.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import deepcopy
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from twister2.spec.batch import is_scalar, python_value
from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ATOMS: Final = (int, float, complex, str, bytes, bool, frozenset, type(None))
_PYTHONS: Final = frozenset({int, float, complex, bool})
"""Types of numbers that are taken as they are, without a further look."""


class Fold(ABC):
    """One aggregate. States given to :meth:`add` and :meth:`merge` may be changed and given back."""

    @abstractmethod
    def zero(self) -> Any:
        """The state of no records."""

    @abstractmethod
    def add(self, state: Any, value: Any) -> Any:
        """The state with one more value."""

    @abstractmethod
    def merge(self, left: Any, right: Any) -> Any:
        """Two states as one."""

    def result(self, state: Any) -> Any:
        """What is delivered."""
        return state


class Count(Fold):
    """Values that are not None. :param all_records: None counts too."""

    def __init__(self, *, all_records: bool = False) -> None:
        self._all = all_records

    def zero(self) -> Any:
        return 0

    def add(self, state: Any, value: Any) -> Any:
        return state + 1 if self._all or value is not None else state

    def merge(self, left: Any, right: Any) -> Any:
        return left + right


class Sum(Fold):
    """0 of no values. Text, which Python would add in the order in which it comes, is none."""

    def zero(self) -> Any:
        return None

    def add(self, state: Any, value: Any) -> Any:
        if value is None:
            return state
        if state is None:
            _check_number(value)
            return python_value(value)
        return state + (value if type(value) in _PYTHONS else python_value(value))

    def merge(self, left: Any, right: Any) -> Any:
        return self.add(left, right)

    def result(self, state: Any) -> Any:
        return 0 if state is None else int(state) if isinstance(state, bool) else state


class Extreme(Fold):
    """The smallest or largest value; None of no values."""

    def __init__(self, *, largest: bool) -> None:
        self._largest = largest

    def zero(self) -> Any:
        return None

    def add(self, state: Any, value: Any) -> Any:
        if value is None or _is_nan(value):
            return state
        if state is None:
            return value
        return value if (state < value if self._largest else value < state) else state

    def merge(self, left: Any, right: Any) -> Any:
        return self.add(left, right)


class Mean(Fold):
    """State: sum and count. None of no values."""

    def zero(self) -> Any:
        return None

    def add(self, state: Any, value: Any) -> Any:
        if value is None:
            return state
        if state is None:
            _check_number(value)
            return python_value(value), 1
        return state[0] + (value if type(value) in _PYTHONS else python_value(value)), state[1] + 1

    def merge(self, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return right if left is None else left
        return left[0] + right[0], left[1] + right[1]

    def result(self, state: Any) -> Any:
        return None if state is None else state[0] / state[1]


class Variance(Fold):
    """State: count, mean, and the sum of squares of differences from it, combined as T. F. Chan, G. H. Golub, R. J.
    LeVeque do in "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.

    None of too few values. :param ddof: 0 for the variance of all, 1 for the estimate from a sample.
    :param root: the standard deviation.
    """

    def __init__(self, ddof: int, *, root: bool) -> None:
        self._ddof = ddof
        self._root = root

    def zero(self) -> Any:
        return 0, 0.0, 0.0

    def add(self, state: Any, value: Any) -> Any:
        if value is None:
            return state
        count, mean, squares = state
        if type(value) not in _PYTHONS:
            value = float(value) if isinstance(value, Decimal) else python_value(value)
        count += 1
        away = value - mean
        mean += away / count
        return count, mean, squares + away * (value - mean)

    def merge(self, left: Any, right: Any) -> Any:
        if not left[0] or not right[0]:
            return left if left[0] else right
        count = left[0] + right[0]
        away = right[1] - left[1]
        mean = left[1] + away * right[0] / count
        return count, mean, left[2] + right[2] + away * away * left[0] * right[0] / count

    def result(self, state: Any) -> Any:
        if state[0] <= self._ddof:
            return None
        variance = state[2] / (state[0] - self._ddof)
        return math.sqrt(variance) if self._root else variance


class CountDistinct(Fold):
    """How many different values there are; state: the set of them."""

    def zero(self) -> Any:
        return set()

    def add(self, state: Any, value: Any) -> Any:
        if value is not None:
            state.add(math.nan if _is_nan(value) else value)
        return state

    def merge(self, left: Any, right: Any) -> Any:
        left |= right
        return left

    def result(self, state: Any) -> Any:
        return len(state) - max(0, sum(map(_is_nan, state)) - 1)  # those of other workers are other objects


class Listed(Fold):
    """The values, as they come."""

    def zero(self) -> Any:
        return []

    def add(self, state: Any, value: Any) -> Any:
        if value is not None:
            state.append(value)
        return state

    def merge(self, left: Any, right: Any) -> Any:
        left.extend(right)
        return left


class Median(Listed):
    """The value in the middle, of an even number the mean of the two in the middle; None of no values, NaN of NaN."""

    def add(self, state: Any, value: Any) -> Any:
        if not state:
            _check_number(value)
        return super().add(state, value)

    def result(self, state: Any) -> Any:
        from statistics import median

        values = list(map(python_value, state))
        if any(map(_is_nan, values)):
            return math.nan
        return median(values) if values else None


class ByFunctions(Fold):
    """Functions of the user's.

    :param zero: the state of no records, or a function without arguments that makes it. :param result: None for the
        state itself. :param label: of the operator, for messages.
    """

    def __init__(
        self, zero: Any, add: Callable[..., Any], merge: Callable[..., Any], result: Any = None, label: str = ""
    ) -> None:
        self._zero = zero
        self._shared = isinstance(zero, _ATOMS)
        self._add = add
        self._merge = merge
        self._result = result
        self._label = label
        self._some = zero is not None

    def zero(self) -> Any:
        if self._shared:
            return self._zero
        return self._zero() if callable(self._zero) else deepcopy(self._zero)

    def add(self, state: Any, value: Any) -> Any:
        new = self._add(state, value)
        if new is None and self._some:
            raise self._nothing("add", value)
        return new

    def merge(self, left: Any, right: Any) -> Any:
        new = self._merge(left, right)
        if new is None and self._some:
            raise self._nothing("merge", (left, right))
        return new

    def result(self, state: Any) -> Any:
        return state if self._result is None else self._result(state)

    def _nothing(self, role: str, given: Any) -> OperatorError:
        return OperatorError(
            f"the function {role} of {self._label} returned None",
            why=f"it was given {short(given)}, and must return the new state",
            remedy="end it with return",
            where=self._label,
            details={"record": short(given)},
        )


class Several(Fold):
    """Some folds at once, each of a value of its own of a record. The result is a dict by name.

    :param folds: by name: the function from record to value (None: the record), and the fold.
    """

    def __init__(self, folds: Mapping[str, tuple[Callable[[Any], Any] | None, Fold]]) -> None:
        self._names = list(folds)
        self._folds = list(folds.values())

    def zero(self) -> Any:
        return tuple(fold.zero() for _, fold in self._folds)

    def add(self, state: Any, value: Any) -> Any:
        return tuple(
            [fold.add(one, value if get is None else python_value(get(value)))
             for one, (get, fold) in zip(state, self._folds, strict=True)]
        )  # fmt: skip

    def merge(self, left: Any, right: Any) -> Any:
        return tuple([fold.merge(one, other) for one, other, (_, fold) in zip(left, right, self._folds, strict=True)])

    def result(self, state: Any) -> Any:
        return {name: fold.result(one) for name, one, (_, fold) in zip(self._names, state, self._folds, strict=True)}


def _check_number(value: Any) -> None:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"a {type(value).__name__} is no number")


def _is_nan(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    # floats of other sizes, and times that are none
    return type(value) not in _PYTHONS and is_scalar(value) and bool(value != value)


NAMES: Final[Sequence[str]] = (
    "sum",
    "min",
    "max",
    "count",
    "mean",
    "variance",
    "std",
    "count_distinct",
    "list",
    "median",
)
"""Folds by name."""
OF_RECORDS: Final[Sequence[str]] = ("count_distinct", "list", "median")
"""Those whose states hold values, which are Python's also where columns are folded."""


def fold_of(name: str, ddof: int = 0, *, all_records: bool = False) -> Fold:
    """A fold by name.

    :param all_records: whether ``count`` counts None too.
    """
    made: Mapping[str, Callable[[], Fold]] = {
        "sum": Sum,
        "min": lambda: Extreme(largest=False),
        "max": lambda: Extreme(largest=True),
        "count": lambda: Count(all_records=all_records),
        "mean": Mean,
        "variance": lambda: Variance(ddof, root=False),
        "std": lambda: Variance(ddof, root=True),
        "count_distinct": CountDistinct,
        "list": Listed,
        "median": Median,
    }
    return made[name]()
