"""The fingerprints beside the calls: each member learns whether all others are in the same call.

Values are 64 bits over step and fingerprint. Where parts differ their sizes travel along, since not every library
notices parts that do not fit. In small groups each tells each: through memory that they share (:mod:`words`), else by
messages (:mod:`messages`); there is room for what a call moves, too (:mod:`carried`). Larger groups use a reduction
(:mod:`reduced`).
Exchanges of a group are started in the same order by all, and told in that order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from .carried import Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .carried import Carried

Counts: TypeAlias = "tuple[Sequence[int], Sequence[int]]"
"""Of a call whose parts may differ: elements this member gives to each member, and expects from each."""


class Odd(NamedTuple):
    """A member that differs. :ivar counts: elements it gives and those expected of it; None: it is in another call."""

    rank: int
    counts: tuple[int, int] | None


class Exchange(ABC):
    """One exchange of fingerprints, or one for each piece of a call.

    :ivar held: it has not told everything; the call's arrays are still needed.
    :ivar odd: a member of which it is known that it differs.
    """

    __slots__ = ("held", "odd")

    held: bool
    odd: Odd | None

    @abstractmethod
    def test(self) -> bool:
        """Whether it is complete, so that :attr:`odd` can be relied on. Never blocks."""

    @abstractmethod
    def finish(self) -> None:
        """The library has done this member's part of the call. To be told in the order of calls, and not while held."""

    @abstractmethod
    def finished(self) -> bool:
        """Whether all others have said the same."""

    @abstractmethod
    def take(self) -> bool:
        """All agree: give the call what was carried for it, if anything. Whether that was the last of it; else this is
        another exchange from now on.
        """


class Checks(ABC):
    """Starts exchanges.

    :ivar room: bytes that a member can give with them; 0: nothing is carried.
    """

    room: int

    @abstractmethod
    def start(self, value: int, counts: Counts | None, carried: Carried | Pieces | None) -> Exchange:
        """Tell the others ``value``, learn theirs; also ``counts``, if the call has them, and what is carried."""

    @abstractmethod
    def done(self, exchange: Exchange) -> None:
        """It is complete and may be used again."""

    @abstractmethod
    def close(self) -> None:
        """The group is not used any more; exchanges may be under way."""

    @abstractmethod
    def release(self) -> None:
        """Give back what the MPI library holds; nothing is under way."""


class Told(Exchange):
    """An exchange in which each member tells each, with what is carried for the call.

    :ivar value, counts: what this member tells. :ivar carried: what it gives now; None: nothing is carried.
    :ivar parts: where those of the others are, by rank, once they have come. :ivar pieces: what it gives after that.
    :ivar told: it has told this. An exchange is that of another call when these are set anew.
    """

    __slots__ = ("carried", "counts", "parts", "pieces", "rank", "told", "value")

    def __init__(self, rank: int) -> None:
        self.rank, self.value = rank, 0
        self.odd = None
        self.counts: Counts | None = None
        self.carried: Carried | None = None
        self.parts: list[Any] = []
        self.pieces: Pieces | None = None
        self.told = self.held = False

    def begin(self) -> bool:
        """Tell the others; False, and nothing was done, when there is no place yet."""
        if not self.tell():
            return False
        self.told = True
        self.held = self.pieces is not None and self.pieces.left
        return True

    @abstractmethod
    def tell(self) -> bool:
        """Tell the others what there is now; False, and nothing was done, when there is no place yet."""

    @abstractmethod
    def came(self) -> bool:
        """Whether all others have told theirs; :attr:`odd` is set then."""

    @abstractmethod
    def took(self) -> None:
        """What the others told is not needed any more."""

    def test(self) -> bool:
        return (self.told or self.begin()) and self.came()

    def take(self) -> bool:
        carried = self.carried
        if carried is not None:
            self.carried = None
            own, take, ufunc, into, _, _, _ = carried
            if take is not None:
                take(ufunc, self.rank, own, self.parts, into)
        self.took()
        if not self.held:
            self.pieces = None
            return True
        assert self.pieces is not None
        self.carried = self.pieces.next()
        self.told = False
        return False


_T = TypeVar("_T", bound=Told)


class EachToEach(Checks, Generic[_T]):
    """Each member tells each. Exchanges that are complete are used again.

    One that finds no place is held, and those after it: its test begins it once all before are complete.
    """

    def __init__(self) -> None:
        self._free: list[_T] = []
        self._last: _T | None = None
        self._closed = False

    @abstractmethod
    def make(self) -> _T:
        """Another exchange."""

    def start(self, value: int, counts: Counts | None, carried: Carried | Pieces | None) -> Exchange:
        held = self._last is not None and self._last.held
        self._last = exchange = self._free.pop() if self._free else self.make()
        exchange.value, exchange.counts = value, counts
        if isinstance(carried, Pieces):
            exchange.pieces, carried = carried, carried.next()
        exchange.carried = carried
        exchange.told, exchange.held = False, True
        if not held:
            exchange.begin()
        return exchange

    def done(self, exchange: Exchange) -> None:
        if not self._closed:
            self._free.append(exchange)  # type: ignore[arg-type] # one of those it made

    def close(self) -> None:
        self._last = None

    def release(self) -> None:
        self._free.clear()
