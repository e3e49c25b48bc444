"""An order for types that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twister2.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def register_comparator(kind: type[T], compare: Callable[[T, T], int]) -> None:
    """Give the values of ``kind`` an order: ``compare(a, b)`` is negative, 0 or positive.

    The type gets the comparisons ``<``, ``<=``, ``>`` and ``>=``, so that whatever orders values (sorting, the largest
    and smallest, keys in order, Python's ``sorted``) can take them, alone and in tuples. It should be 0 for values that
    are equal (``==``), and for no others.

    Call it on every worker, where the type is defined. Again with another function, that one counts.

    :raises UsageError: the type has an order of its own, or is built in.
    """
    own: Any = getattr(kind, "__lt__", None)
    if own is not vars(object)["__lt__"] and not hasattr(own, "registered"):
        raise _refused(kind, "it compares its values itself (__lt__)")

    def less(a: T, b: Any) -> Any:
        return compare(a, b) < 0 if isinstance(b, kind) else NotImplemented

    def less_or_equal(a: T, b: Any) -> Any:
        return compare(a, b) <= 0 if isinstance(b, kind) else NotImplemented

    def greater(a: T, b: Any) -> Any:
        return compare(a, b) > 0 if isinstance(b, kind) else NotImplemented

    def greater_or_equal(a: T, b: Any) -> Any:
        return compare(a, b) >= 0 if isinstance(b, kind) else NotImplemented

    less.registered = True  # type: ignore[attr-defined]
    try:
        for name, function in (
            ("__lt__", less),
            ("__le__", less_or_equal),
            ("__gt__", greater),
            ("__ge__", greater_or_equal),
        ):
            setattr(kind, name, function)
    except TypeError as error:
        raise _refused(kind, "types written in C cannot be given one") from error


def _refused(kind: type, why: str) -> UsageError:
    return UsageError(
        f"no order can be registered for {kind.__qualname__}",
        why=why,
        remedy="give the order where it is wanted: sort(comparator=...), or a key= that has an order",
        where="register_comparator",
    )
