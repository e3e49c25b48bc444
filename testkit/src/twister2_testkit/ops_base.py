"""What the parts of the operator suite share: capabilities, generated inputs, and one exchange run and checked."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from twister2_testkit.capabilities import Capabilities, ConformanceSuite
from twister2_testkit.ops_drive import Exchange, Mark, check_ends, run_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twister2.spec.channel import Item
    from twister2.spec.ops import Operators
    from twister2_testkit.fakes import LocalEnv


@attrs.frozen(kw_only=True)
class OpsCapabilities(Capabilities):
    """Which operators of the standard names a catalogue has, and which forms of batch they take.

    :ivar streams: the operators run on streams too.
    :ivar arrays: numpy arrays. :ivar arrow: Arrow record batches. :ivar ranges: the selector ``range``.
    :ivar spills: what is held goes to disk when memory gets short.
    """

    direct: bool = False
    partition: bool = False
    keyed_partition: bool = False
    keyed_reduce: bool = False
    count_by_value: bool = False
    reduce: bool = False
    allreduce: bool = False
    gather: bool = False
    broadcast: bool = False
    barrier: bool = False
    pipe: bool = False
    allgather: bool = False
    union: bool = False
    reduce_scatter: bool = False
    alltoall: bool = False
    keyed_gather: bool = False
    join: bool = False
    sort: bool = False
    distinct: bool = False
    co_group: bool = False
    cross: bool = False
    zip: bool = False
    number: bool = False
    aggregate: bool = False
    streams: bool = False
    arrays: bool = False
    arrow: bool = False
    ranges: bool = False
    spills: bool = False


few = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
records = st.one_of(st.integers(-50, 50), st.text(max_size=3), st.none(), st.booleans())
keys = st.one_of(st.integers(-20, 20), st.text(max_size=2), st.tuples(st.integers(0, 3), st.text(max_size=1)))


def placements(n_workers: int = 3, most: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Worker ids of some tasks: more or fewer tasks than workers."""
    return st.lists(st.integers(0, n_workers - 1), min_size=1, max_size=most).map(tuple)


def feeds_of(record: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[list[list[list[Any]]]]:
    """Batches of each of n sources; empty feeds and empty batches included."""
    batch = st.lists(record, max_size=12)
    return st.lists(st.lists(batch, max_size=6), min_size=n, max_size=n)


@st.composite
def exchanges(draw: Any, record: st.SearchStrategy[Any]) -> tuple[Any, ...]:
    """Sources, targets and feeds."""
    sources = draw(placements())
    return sources, draw(placements()), draw(feeds_of(record, len(sources)))


def everything(feeds: Sequence[Sequence[Any]]) -> list[Any]:
    """All records of all feeds."""
    return [record for feed in feeds for batch in feed if not isinstance(batch, Mark) for record in batch]


def bag(values: Sequence[Any]) -> Counter[str]:
    """Records without their order, told apart by type too."""
    return Counter(map(repr, values))


class OperatorChecks(ConformanceSuite):
    """What all parts of the suite have in common."""

    capabilities: ClassVar[Capabilities] = OpsCapabilities()
    deadline_s: ClassVar[float] = 20.0
    transport: ClassVar[str] = "inproc"
    algorithms: ClassVar[Mapping[str, Sequence[str]]] = {}
    """By operator, the values of its option ``algorithm`` that must give the same answers."""
    options: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sort": {"bounds": (0,)},
        "aggregate": {"aggregates": "sum", "pairs": True},
        "cross": {"broadcast": "left"},
    }
    """By operator, options without which it does not run between two sources and two targets, in every mode."""

    @abstractmethod
    def make_operators(self) -> Operators:
        """The catalogue under test."""

    def run(self, exchange: Exchange) -> list[dict[int, list[Item]]]:
        """Run an exchange, and check the ends of every run."""
        runs = run_exchange(self.make_operators, exchange, transport=self.transport, deadline_s=self.deadline_s)
        for received in runs:
            assert set(received) == set(range(len(exchange.targets)))
            check_ends(received)
        return runs

    def once(self, name: str, sources: Sequence[int], targets: Sequence[int], feeds: Any, **options: Any) -> Any:
        """Run an exchange once with these options; items by target."""
        return self.run(
            Exchange(name=name, sources=tuple(sources), targets=tuple(targets), feeds=feeds, options=options)
        )[0]

    def spin(self, env: LocalEnv, ready: Callable[[], bool]) -> None:
        """Turn until ready, in small steps: what is waited for here wakes nobody."""
        until = time.monotonic() + self.deadline_s
        while not ready():
            assert time.monotonic() < until, "it did not happen in time"
            env.network.progress()
            time.sleep(2e-4)
