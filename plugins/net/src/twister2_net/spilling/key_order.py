"""Keys of tables and their order: NaN is one key, the last of all, and None is a key like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from twister2.spec.hashing import stable_hash
from twister2_net.problems import not_compared, user_error

if TYPE_CHECKING:
    from twister2_net.spilling.runs import Runs, Window

Pairs = Sequence[tuple[Any, Any]]
Order = Callable[[Any], Any]


class _Nan:
    """Stands for NaN as a key on the way: NaN is not even equal to itself, and all NaNs are one key here, the last in
    order.
    """

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return other is not self

    def __reduce__(self) -> str:
        return "NAN"


NAN: Final = _Nan()
WITHOUT_NAN: Final = frozenset({str, bytes, int, bool, type(None)})
"""Simple types of keys that have a hash and no NaN."""


def canonical(key: Any) -> Any:
    """The key with NaN, also inside a tuple, replaced by one object that equals itself."""
    if type(key) is tuple:
        return key if WITHOUT_NAN.issuperset(map(type, key)) else tuple(map(canonical, key))
    return key if key == key else NAN


def has_nan(key: Any) -> bool:
    """Whether :func:`canonical` replaces anything."""
    if type(key) is tuple:
        return not WITHOUT_NAN.issuperset(map(type, key)) and any(map(has_nan, key))
    return bool(key != key)


def restored(key: Any) -> Any:
    """What :func:`canonical` was given, or what equals it."""
    if key is NAN:
        return float("nan")
    return tuple(map(restored, key)) if type(key) is tuple and _has_nan(key) else key


def _has_nan(key: tuple[Any, ...]) -> bool:
    return any(part is NAN or (type(part) is tuple and _has_nan(part)) for part in key)


def canonical_pairs(pairs: Pairs) -> Pairs:
    """Pairs whose keys can be keys of a dict; the very same when there is nothing to replace."""
    if {type(pair[0]) for pair in pairs} <= WITHOUT_NAN:
        return pairs
    return [(canonical(key), value) for key, value in pairs]


class Ranking:
    """How keys are ranked: by their hash, or in the user's order.

    :param order: None: by hash. True: keys themselves are compared. A function: its results are.
    :param label: of the operator, for messages.
    """

    def __init__(self, order: Order | bool | None, label: str) -> None:
        self.is_order = bool(order)
        self._order = order
        self._label = label

    def ranked(self, keys: list[Any]) -> tuple[Sequence[Any], Sequence[int]]:
        """The ranks of keys, and the positions of the keys by ascending rank.

        :raises UserCodeError: the user's function raised. :raises OperatorError: keys cannot be compared.
        """
        ranks: Sequence[Any]
        if not self.is_order:
            import numpy

            plain = keys if WITHOUT_NAN.issuperset(map(type, keys)) else map(restored, keys)
            hashes = numpy.fromiter(map(stable_hash, plain), numpy.uint64, len(keys))
            return hashes.tolist(), numpy.argsort(hashes, kind="stable").tolist()
        ranks = keys if self._order is True else [self._rank(key) for key in keys]
        try:
            return ranks, sorted(range(len(keys)), key=ranks.__getitem__)
        except Exception as error:
            raise self.blamed(error) from error

    def _rank(self, key: Any) -> Any:
        try:
            return canonical(self._order(restored(key)))  # type: ignore[operator,misc]
        except Exception as error:
            raise user_error(error, "order", self._label, -1, restored(key)) from error

    def blamed(self, error: Exception) -> Exception:
        """What a failed comparison of ranks means."""
        return not_compared(error, self._label)

    def windows(self, runs: Runs) -> Iterator[Window]:
        """Merged runs; keys that cannot be compared are blamed."""
        walk = runs.windows()
        while True:
            try:
                window = next(walk, None)
            except TypeError as error:
                raise self.blamed(error) from error
            if window is None:
                return
            yield window
