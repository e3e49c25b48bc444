"""The part of the operator suite about streams: what comes between two flush marks, and where marks stay."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import OperatorError
from twister2.spec.hashing import task_of_key
from twister2_testkit.capabilities import needs
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_base import OperatorChecks
from twister2_testkit.ops_drive import Exchange, Mark, context_of, drive, flat
from twister2_testkit.ops_keyed import HOW, grouped, joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.spec.ops import OperatorInfo
    from twister2_testkit.fakes import LocalEnv

FLUSH, BARRIER = HeaderKind.FLUSH, HeaderKind.BARRIER
WATERMARK, IDLE = HeaderKind.WATERMARK, HeaderKind.IDLE


@attrs.frozen
class Shape:
    """An operator on some tasks. ``copies``: how many targets get a record."""

    name: str
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    options: dict[str, Any] = attrs.field(factory=dict)
    inputs: tuple[int, ...] = ()
    copies: int = 1


PASSING = (
    Shape("direct", (0, 1, 2), (2, 0, 1)),
    Shape("pipe", (0, 1, 2), (2, 0, 1)),
    Shape("partition", (0, 1, 1, 3), (2, 0, 2), {"partitioner": "round_robin"}),
    Shape("keyed_partition", (0, 3, 3), (1, 2, 0)),
    Shape("gather", (0, 1, 2, 2, 3), (1,)),
    Shape("allgather", (0, 2, 2), (1, 0, 3), copies=3),
    Shape("broadcast", (1,), (0, 1, 3, 3), copies=4),
    Shape("union", (0, 1, 2, 0), (1, 2), inputs=(2, 2)),
    Shape("alltoall", (0, 1, 1, 2), (2, 0, 1)),
)
"""Operators that pass records on, sources and targets on some of four workers."""

HOLDING = (
    Shape("keyed_reduce", (0, 1, 1, 3), (2, 0, 2), {"reducer": "sum"}),
    Shape("count_by_value", (0, 3, 3), (1, 2)),
    Shape("reduce", (3, 1, 2, 2, 0), (1,), {"reducer": "sum"}),
    Shape("allreduce", (0, 2, 2), (1, 0, 3, 3), {"reducer": "sum"}),
    Shape("reduce_scatter", (0, 1, 1, 2), (2, 0, 1, 1), {"reducer": "sum"}),
    Shape("keyed_gather", (0, 1, 1, 3), (2, 0, 2)),
    Shape("keyed_gather", (0, 1, 1, 3), (2, 0, 2), {"order": True, "ordered": True}),
    Shape("keyed_gather", (0, 3, 3), (1, 2), {"grouped": False}),
    *(
        Shape("join", (0, 1, 1, 3), (2, 0, 2), {"how": how, "algorithm": algorithm}, inputs=(2, 2))
        for how in HOW
        for algorithm in ("hash", "sort")
    ),
)
"""Operators that hold records until a mark."""


def shaped(shape: Shape, record: Any, number: int) -> list[Any]:
    """A batch with one record, as the operator takes it."""
    if shape.name in ("keyed_partition", "keyed_reduce", "keyed_gather", "join"):
        return [(number % 5, record)]
    if shape.name == "alltoall":
        return [[record] if target == number % len(shape.targets) else [] for target in range(len(shape.targets))]
    if shape.name == "reduce_scatter":
        return [record * (target + 1) for target in range(len(shape.targets))]
    return [record]


def unshaped(shape: Shape, record: Any) -> Any:
    """The record again."""
    return record[1] if shape.name == "keyed_partition" else record


class StreamChecks(OperatorChecks):
    """What operators do on streams."""

    def on_streams(self, shapes: Sequence[Shape]) -> Iterator[Shape]:
        """The shapes whose operators are open, each with every algorithm; at least one."""
        found = False
        for shape in shapes:
            if self.capabilities.is_open(shape.name):
                found = True
                yield shape
                for algorithm in self.algorithms.get(shape.name, ()):
                    yield attrs.evolve(shape, options={**shape.options, "algorithm": algorithm})
        if not found:
            pytest.skip("capability streams: none of the operators is open")

    def stream(self, shape: Shape, feeds: Any, **more: Any) -> list[dict[int, list[Item]]]:
        """Run it on streams; items by target, per run."""
        return self.run(
            Exchange(
                name=shape.name, sources=shape.sources, targets=shape.targets, feeds=feeds, options=shape.options,
                inputs=shape.inputs, mode="stream", workers=4, **more,
            )
        )  # fmt: skip

    @needs("streams")
    def test_stream_operators_declare_it(self) -> None:
        catalog = self.make_operators().catalog()
        for shape in self.on_streams((*PASSING, *HOLDING)):
            info: OperatorInfo = catalog[shape.name]
            assert "stream" in info.modes, shape.name

    @needs("streams")
    def test_stream_marks_stay_between_the_records(self) -> None:
        """Every target gets each closing mark once, behind all records before it and in front of all behind it."""
        for shape in self.on_streams(PASSING):
            self._passes(shape)

    def _passes(self, shape: Shape) -> None:
        feeds = []
        for source in range(len(shape.sources)):
            feed: list[Any] = []
            for segment in range(4):
                many = 3 + 9 * ((source + segment) % 3)
                feed += [shaped(shape, (segment, source, number), number) for number in range(many)]
                feed.append(Mark(FLUSH if segment % 2 else BARRIER, segment) if segment < 3 else Mark(IDLE))
            feeds.append(feed)
        expected = Counter(
            unshaped(shape, record)
            for feed in feeds
            for batch in feed
            if not isinstance(batch, Mark)
            for record in (_parts(batch) if shape.name == "alltoall" else batch)
        )
        for received in self.stream(shape, feeds, runs=2):
            seen: Counter[Any] = Counter()
            for items in received.values():
                segment = 0
                for item in items:
                    if item.kind in (BARRIER, FLUSH):
                        assert item.kind == (FLUSH if segment % 2 else BARRIER), f"{shape}: {item}"
                        assert item.value == segment, f"{shape}: a mark came twice or was lost: {item}"
                        segment += 1
                    elif item.kind == HeaderKind.DATA:
                        records = [unshaped(shape, record) for record in item.value]
                        seen.update(records)
                        wrong = [record for record in records if record[0] != segment]
                        assert not wrong, f"{shape}: {wrong[0]} is on the wrong side of mark {segment}"
                assert segment == 3, f"{shape}: a target got {segment} of 3 marks"
            assert seen == Counter({record: n * shape.copies for record, n in expected.items()}), str(shape)

    @needs("streams")
    def test_stream_sources_keep_their_order(self) -> None:
        for shape in self.on_streams(PASSING):
            feeds = [
                [shaped(shape, (0, source, number), number) for number in range(60)]
                for source in range(len(shape.sources))
            ]
            for received in self.stream(shape, feeds):
                for items in received.values():
                    records = [unshaped(shape, record) for record in flat(items)]
                    for source in range(len(shape.sources)):
                        mine = [number for _, one, number in records if one == source]
                        assert mine == sorted(mine), f"{shape}: source {source} came out of order"

    @needs("streams")
    def test_stream_flush_emits_what_came_since_the_last(self) -> None:
        """Nothing is lost, and nothing is kept across marks."""
        for seed in (1, 2):
            chance = random.Random(seed)
            for shape in self.on_streams(HOLDING):
                self._holds(shape, chance, f"seed {seed}, {shape}")

    def _holds(self, shape: Shape, chance: random.Random, what: str) -> None:
        feeds: list[list[Any]] = [[] for _ in shape.sources]
        expected: list[Any] = []
        for segment in range(4):
            records: list[list[Any]] = [[] for _ in shape.inputs or (1,)]
            for source, feed in enumerate(feeds):
                for number in range(chance.choice((0, 0, 1, 7)) if segment != 1 else 0):
                    batch = shaped(shape, chance.randrange(100), number)
                    records[_input(shape, source)] += [batch] if shape.name == "reduce_scatter" else batch
                    feed.append(batch)
                if segment < 3:
                    feed += [Mark(WATERMARK, 10 * segment + 1), Mark(FLUSH, segment)]
            expected.append(_model(shape, records))
        for received in self.stream(shape, feeds, runs=2):
            for target, items in received.items():
                parts = _segments(items)
                assert len(parts) == 4, f"{what}: {items}"
                for segment, part in enumerate(parts):
                    wanted = expected[segment](target)
                    assert _comparable(shape, part) == wanted, f"{what}, target {target}, segment {segment}"
                    _in_order(shape, part, f"{what}, target {target}, segment {segment}")

    @needs("streams")
    def test_stream_random_placements(self) -> None:
        """Any number of sources and targets on any workers."""
        seed = random.SystemRandom().randrange(1 << 32)
        chance = random.Random(seed)
        shapes = list(self.on_streams((*PASSING, *HOLDING)))
        for _ in range(12):
            shape = _placed(chance.choice(shapes), chance)
            try:
                if shape.name in _NAMES:
                    self._holds(shape, chance, str(shape))
                else:
                    self._passes(shape)
            except (Exception, pytest.fail.Exception):
                print(f"seed {seed}: {shape}")  # shown by pytest when the test fails
                raise

    @needs("streams")
    def test_stream_watermarks_are_the_smallest_and_follow_their_records(self) -> None:
        for shape in self.on_streams((*PASSING, *HOLDING)):
            feeds: list[list[Any]] = []
            for source in range(len(shape.sources)):
                record: Any = 1 if shape.name in _NAMES else (0, source, 0)
                late = 0 < source == len(shape.sources) - 1
                feeds.append(
                    [Mark(WATERMARK, 5 if late else 20), shaped(shape, record, 0), Mark(FLUSH, 0)]
                    + ([Mark(IDLE)] if late else [Mark(WATERMARK, 30)])
                    + [Mark(FLUSH, 1)]
                )
            for received in self.stream(shape, feeds):
                for target, items in received.items():
                    marks = [item.value for item in items if item.kind == WATERMARK]
                    first = [item.kind for item in items].index(FLUSH)
                    before = [item.value for item in items[:first] if item.kind == WATERMARK]
                    assert marks == sorted(set(marks)), f"{shape}: watermarks go forward"
                    if _inputs(shape, target) == len(shape.sources):
                        assert before == [5 if len(shape.sources) > 1 else 20], (
                            f"{shape}: the watermark is the smallest of all inputs, not {before}"
                        )
                        assert marks[-1] == 30, f"{shape}: an idle input holds the watermark back"
                    kinds = [item.kind for item in items[:first]]
                    if shape.name in _NAMES and HeaderKind.DATA in kinds:
                        assert kinds.index(HeaderKind.DATA) < kinds.index(WATERMARK), f"{shape}: the mark overtook"

    @needs("streams")
    def test_stream_marks_that_differ_between_sources_are_refused(self) -> None:
        joining = [shape for shape in (*PASSING, *HOLDING) if _joins(shape)]
        for shape in self.on_streams(joining):
            feeds = [[Mark(FLUSH, 1 if source else 2), Mark(BARRIER, 1)] for source in range(len(shape.sources))]
            with pytest.raises(OperatorError) as caught:
                self.stream(shape, feeds)
            assert "FLUSH" in str(caught.value)
            assert shape.name in str(caught.value)

    @needs("streams")
    def test_stream_snapshot_and_restore(self) -> None:
        """A run that is cut at its second barrier and goes on in another operator gives what an uncut run gives."""
        for shape in self.on_streams((*PASSING, *HOLDING)):
            self._cut_and_whole(shape, [])

    @needs("streams")
    def test_stream_snapshot_when_nothing_is_held(self) -> None:
        """A FLUSH directly in front of the barrier: what is behind the barrier is in no snapshot."""
        for shape in self.on_streams((*PASSING, *HOLDING)):
            self._cut_and_whole(shape, [Mark(FLUSH, 0)])

    def _cut_and_whole(self, shape: Shape, marks: list[Mark]) -> None:
        before: list[list[Any]] = []
        after: list[list[Any]] = []
        for source in range(len(shape.sources)):
            values = [number + 10 * source for number in range(6)]
            records = values if shape.name in _NAMES else [(0, source, value) for value in values]
            made = [shaped(shape, record, number) for number, record in enumerate(records)]
            before.append([*made[:2], *marks, Mark(BARRIER, 1), made[2], *marks, Mark(BARRIER, 2)])
            after.append([*made[3:], Mark(FLUSH, 1)])
        uncut = [[one for one in (*first, *then) if not (isinstance(one, Mark) and one.kind == BARRIER)]
                 for first, then in zip(before, after, strict=True)]  # fmt: skip
        whole = self.stream(shape, uncut)[0]
        cut = self._cut(shape, before, after)
        for target, items in whole.items():
            assert _comparable(shape, flat(items)) == _comparable(shape, flat(cut[target])), f"{shape}: {target}"

    def _cut(self, shape: Shape, before: list[list[Any]], after: list[list[Any]]) -> dict[int, list[Item]]:
        def exchange(feeds: list[list[Any]]) -> Exchange:
            return Exchange(
                name=shape.name, sources=shape.sources, targets=shape.targets, feeds=feeds, options=shape.options,
                inputs=shape.inputs, mode="stream", workers=4,
            )  # fmt: skip

        def worker(env: LocalEnv) -> dict[int, list[Item]]:
            first = exchange([[*feed, *later] for feed, later in zip(before, after, strict=True)])
            got: dict[int, list[Item]] = {}
            with env.network.step("first", shape.name) as step:
                operator = self.make_operators().create(context_of(first, env, step))
                state: list[bytes | None] = []
                barriers = {target: 0 for target, where in enumerate(shape.targets) if where == env.worker_id}

                def note(target: int, item: Item) -> None:
                    if item.kind == BARRIER:
                        barriers[target] += 1
                        if min(barriers.values()) > len(state):
                            state.append(operator.snapshot())
                    elif barriers[target] < 2:
                        got.setdefault(target, []).append(item)

                drive(operator, env, first, note)
                operator.close()
            with env.network.step("second", shape.name) as step:
                again = self.make_operators().create(context_of(exchange(after), env, step))
                if state and state[1] is not None:
                    again.restore(state[1])
                rest = drive(again, env, exchange(after))
                again.close()
            return {target: got.get(target, []) + items for target, items in rest.items()}

        parts = LocalCluster(4, self.transport, deadline_s=self.deadline_s).run(worker)
        return {target: items for part in parts for target, items in part.items()}


_NAMES = {shape.name for shape in HOLDING}


def _placed(shape: Shape, chance: random.Random) -> Shape:
    """The same operator between other tasks."""
    sources = tuple(chance.randrange(4) for _ in range(chance.randint(1, 6)))
    targets = tuple(chance.randrange(4) for _ in range(chance.randint(1, 5)))
    if shape.name in ("direct", "pipe"):
        targets = tuple(chance.randrange(4) for _ in sources)
    elif len(shape.targets) == 1:
        targets = targets[:1]
    elif shape.name == "broadcast":
        sources = sources[:1]
    first = chance.randint(0, len(sources))
    inputs = (first, len(sources) - first) if shape.inputs else ()
    if shape.name == "union":
        targets = targets[: max(inputs)]  # the others have no source
    copies = len(targets) if shape.copies > 1 else 1
    return attrs.evolve(shape, sources=sources, targets=targets, inputs=inputs, copies=copies)


def _parts(batch: list[Any]) -> list[Any]:
    return [record for part in batch for record in part]


def _joins(shape: Shape) -> bool:
    """Whether targets align the marks of several workers."""
    return len(set(shape.sources)) > 1 and shape.name not in ("direct", "pipe", "union")


def _input(shape: Shape, source: int) -> int:
    """Which input a source belongs to."""
    return int(bool(shape.inputs) and source >= shape.inputs[0])


def _inputs(shape: Shape, target: int) -> int:
    """How many sources send to a target."""
    if shape.name in ("direct", "pipe"):
        return 1
    if shape.name == "union":
        return 2
    return len(shape.sources)


def _segments(items: Sequence[Item]) -> list[list[Any]]:
    found: list[list[Any]] = [[]]
    for item in items:
        if item.kind == HeaderKind.DATA:
            found[-1] += list(item.value)
        elif item.kind == FLUSH:
            found.append([])
    return found


def _comparable(shape: Shape, records: Sequence[Any]) -> list[Any]:
    """The records of a target, but for an order that nobody promises."""
    if shape.name == "keyed_gather" and shape.options.get("grouped", True):
        promised = shape.options.get("ordered")
        records = [(key, list(values) if promised else sorted(values)) for key, values in records]
    return sorted(records, key=repr)


def _in_order(shape: Shape, records: Sequence[Any], what: str) -> None:
    """Pairs of a key are together; keys ascend where that was asked for."""
    if shape.name in ("keyed_gather", "join"):
        found = [key for key, _ in records]
        runs = [key for index, key in enumerate(found) if index == 0 or found[index - 1] != key]
        assert len(runs) == len(set(runs)), f"{what}: pairs of a key are apart"
        if shape.options.get("order") or shape.options.get("algorithm") == "sort":
            assert runs == sorted(runs), what


def _model(shape: Shape, inputs: list[list[Any]]) -> Any:
    """What plain Python says a target gets of these records of each input."""
    n = len(shape.targets)
    records = inputs[0]
    if shape.name == "reduce_scatter":
        return lambda target: [sum(batch[target] for batch in records)] if records else []
    if shape.name in ("reduce", "allreduce"):
        return lambda target: [sum(records)] if records else []
    if shape.name == "keyed_reduce":
        found: list[Any] = [(key, sum(values)) for key, values in grouped(records).items()]
    elif shape.name == "count_by_value":
        found = list(Counter(records).items())
    elif shape.name == "join":
        lefts, rights = inputs
        found = joined(lefts, rights, shape.options["how"])
    else:
        found = list(grouped(records).items()) if shape.options.get("grouped", True) else records
    return lambda target: _comparable(shape, [pair for pair in found if task_of_key(pair[0], n) == target])
