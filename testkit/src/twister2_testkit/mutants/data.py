"""Data backends with one fault each; :class:`twister2_testkit.data.DataSuite` must reject every one.

:func:`mutants_of` wraps a sound backend of text files, so that the faults are in nothing but the wrapping.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.batch import Batch, records
from twister2.spec.data import DataBackend, Reader, ReadPlan, ReadRequest, Split, Writer, WriteRequest

if TYPE_CHECKING:
    from twister2.spec.tasks import EndOfData


class Wrapped(DataBackend):
    """Passes everything on to a sound backend; mutants override one method."""

    formats = ("text",)
    schemes = ("",)

    def __init__(self, sound: DataBackend) -> None:
        self.sound = sound

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """As the sound one."""
        return self.sound.plan(request, n_tasks)

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """As the sound one."""
        return self.sound.open(request, splits)

    def create_writer(self, request: WriteRequest) -> Writer:
        """As the sound one."""
        return self.sound.create_writer(request)

    def commit(self, request: WriteRequest, committables: Sequence[Any]) -> None:
        """As the sound one."""
        self.sound.commit(request, committables)


class WrappedReader(Reader):
    """Passes everything on to a sound reader."""

    def __init__(self, sound: Reader) -> None:
        self.sound = sound

    def poll(self) -> Batch | EndOfData | None:
        """As the sound one."""
        return self.sound.poll()

    def position(self) -> Any:
        """As the sound one."""
        return self.sound.position()

    def restore(self, position: Any) -> None:
        """As the sound one."""
        self.sound.restore(position)

    def counters(self) -> Any:
        """As the sound one."""
        return self.sound.counters()

    def close(self) -> None:
        """As the sound one."""
        self.sound.close()


class WrappedWriter(Writer):
    """Passes everything on to a sound writer."""

    def __init__(self, sound: Writer) -> None:
        self.sound = sound

    def write(self, batch: Batch) -> None:
        """As the sound one."""
        self.sound.write(batch)

    def prepare(self, checkpoint: int) -> list[Any]:
        """As the sound one."""
        return self.sound.prepare(checkpoint)

    def abort(self) -> None:
        """As the sound one."""
        self.sound.abort()

    def close(self) -> None:
        """As the sound one."""
        self.sound.close()


class DropsOpenLine(Wrapped):
    """Forgets the last line of a file when no newline ends it."""

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """Readers that look at the file's last byte."""

        class Dropping(WrappedReader):
            def poll(self) -> Batch | EndOfData | None:
                batch = self.sound.poll()
                if not isinstance(batch, Sequence) or not splits:
                    return batch
                with open(splits[-1].spec["path"], "rb") as file:
                    is_open = not file.read().endswith(b"\n")
                return [*batch][:-1] if is_open else batch

        return Dropping(super().open(request, splits))


class RepeatsBorderLine(Wrapped):
    """Gives the line that crosses the end of a split to both of its splits."""

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """Readers that begin one line early unless they begin a file."""
        backend = self.sound

        class Repeating(WrappedReader):
            begun = False

            def poll(self) -> Batch | EndOfData | None:
                batch = self.sound.poll()
                if self.begun or not isinstance(batch, Sequence) or not splits or not splits[0].spec["start"]:
                    return batch
                self.begun = True
                whole = backend.open(request, [attrs.evolve(splits[0], spec={**splits[0].spec, "start": 0})])
                lines = [line for line in records(whole.poll()) if isinstance(line, str)]
                whole.close()
                own = list(records(batch))
                before = lines[: len(lines) - len(own)]
                return before[-1:] + own

        return Repeating(super().open(request, splits))


class IgnoresRestore(Wrapped):
    """Reads from the beginning after a restore."""

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """Readers without memory."""

        class Forgetting(WrappedReader):
            def restore(self, position: Any) -> None:
                """Nothing."""

        return Forgetting(super().open(request, splits))


class PositionLagsBehind(Wrapped):
    """Gives the position before the last batch: that batch comes twice."""

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """Readers that remember too late."""

        class Lagging(WrappedReader):
            last: Any = None

            def poll(self) -> Batch | EndOfData | None:
                self.last = self.sound.position()
                return self.sound.poll()

            def position(self) -> Any:
                return self.sound.position() if self.last is None else self.last

        return Lagging(super().open(request, splits))


class PositionGoesOn(Wrapped):
    """Gives the position as an object that it changes itself: a checkpoint that is written later has a later one."""

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """Readers with one list."""

        class Sharing(WrappedReader):
            def __init__(self, sound: Reader) -> None:
                super().__init__(sound)
                self.shared = [sound.position()]

            def poll(self) -> Batch | EndOfData | None:
                batch = self.sound.poll()
                self.shared[0] = self.sound.position()
                return batch

            def position(self) -> Any:
                return self.shared

            def restore(self, position: Any) -> None:
                self.sound.restore(position[0])

        return Sharing(super().open(request, splits))


class IgnoresOptions(Wrapped):
    """Reads without the options that it does not know."""

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """Of an input without options."""
        return super().plan(attrs.evolve(request, options={}), n_tasks)


class OpensAtOnce(Wrapped):
    """Opens files before they are read."""

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """Looks at what is there."""
        for split in splits:
            with open(split.spec["path"], "rb"):
                pass
        return super().open(request, splits)


class HasNoEnd(Wrapped):
    """Says of files that they go on for ever."""

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """As of a stream."""
        return attrs.evolve(super().plan(request, n_tasks), bounded=False)


class UnsteadyPlan(Wrapped):
    """Plans the same input in another order every time."""

    _calls = 0

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """Turned round every other time."""
        plan = super().plan(request, n_tasks)
        UnsteadyPlan._calls += 1
        return attrs.evolve(plan, splits=plan.splits[::-1]) if UnsteadyPlan._calls % 2 else plan


class NeverCuts(Wrapped):
    """Leaves one big file to one task."""

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """One split per file."""
        files: dict[str, Split] = {}
        for split in super().plan(request, n_tasks).splits:
            path = split.spec["path"]
            before = files.get(path)
            files[path] = attrs.evolve(
                split,
                spec={**split.spec, "start": 0},
                n_bytes=split.n_bytes + (before.n_bytes if before is not None else 0),
            )
        return ReadPlan(tuple(files.values()))


class ToleratesMissing(Wrapped):
    """Reads what there is and says nothing of the rest."""

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """Leaves out what is missing."""
        splits: list[Split] = []
        for uri in request.uris:
            try:
                splits += super().plan(attrs.evolve(request, uris=(uri,)), n_tasks).splits
            except Exception:
                continue
        return ReadPlan(tuple(splits))


class NamesFirstMissing(Wrapped):
    """Names only the first input that is missing."""

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """One after another."""
        for uri in request.uris:
            super().plan(attrs.evolve(request, uris=(uri,)), n_tasks)
        return super().plan(request, n_tasks)


class CommitsAtPrepare(Wrapped):
    """Makes output visible in the first phase."""

    def create_writer(self, request: WriteRequest) -> Writer:
        """Writers that cannot wait."""
        backend = self.sound

        class Hasty(WrappedWriter):
            def prepare(self, checkpoint: int) -> list[Any]:
                committables = self.sound.prepare(checkpoint)
                backend.commit(request, committables)
                return committables

        return Hasty(super().create_writer(request))


class LeavesTemporaryFiles(Wrapped):
    """Forgets to remove what an aborted writer wrote."""

    def create_writer(self, request: WriteRequest) -> Writer:
        """Writers that only stop."""

        class Untidy(WrappedWriter):
            def abort(self) -> None:
                """Let go of the file, and leave it there."""
                self.sound.prepare(1)

            def close(self) -> None:
                """As abort."""
                self.sound.prepare(1)

        return Untidy(super().create_writer(request))


class LeavesOldAttempts(Wrapped):
    """Puts the parts of older attempts in place with its own."""

    _prepared: dict[tuple[str, str], list[Any]] = {}  # noqa: RUF012 - shared on purpose: outlives the attempt

    def create_writer(self, request: WriteRequest) -> Writer:
        """Writers that keep what others prepared."""
        kept = self._prepared.setdefault((request.uri, request.key), [])

        class Keeping(WrappedWriter):
            def prepare(self, checkpoint: int) -> list[Any]:
                committables = self.sound.prepare(checkpoint)
                kept.extend(committables)
                return committables

        return Keeping(super().create_writer(attrs.evolve(request, attempt=1)))

    def commit(self, request: WriteRequest, committables: Sequence[Any]) -> None:
        """All that was ever prepared, once each."""
        every = {part["target"]: part for part in self._prepared.get((request.uri, request.key), [])}
        super().commit(request, [*every.values()] or committables)


class CommitsTwice(Wrapped):
    """Fails when a commit is repeated."""

    def __init__(self, sound: DataBackend) -> None:
        super().__init__(sound)
        self._done: set[str] = set()

    def commit(self, request: WriteRequest, committables: Sequence[Any]) -> None:
        """Once only."""
        if request.key in self._done:
            raise FileNotFoundError(request.uri)
        self._done.add(request.key)
        super().commit(request, committables)


class OverwritesOthers(Wrapped):
    """Replaces the output of another job without being asked."""

    def create_writer(self, request: WriteRequest) -> Writer:
        """With ``overwrite``."""
        return super().create_writer(attrs.evolve(request, options={**request.options, "overwrite": True}))


MUTANTS: dict[type[Wrapped], str] = {
    DropsOpenLine: "test_splits_cover_the_input_once",
    RepeatsBorderLine: "test_splits_cover_lines_around_the_border",
    IgnoresRestore: "test_restore_gives_the_rest_exactly",
    PositionLagsBehind: "test_restore_gives_the_rest_exactly",
    PositionGoesOn: "test_restore_gives_the_rest_exactly",
    IgnoresOptions: "test_what_it_does_not_know_is_refused",
    OpensAtOnce: "test_opening_is_lazy_and_closing_idempotent",
    HasNoEnd: "test_plan_is_plain_data_and_repeatable",
    UnsteadyPlan: "test_plan_is_plain_data_and_repeatable",
    NeverCuts: "test_one_big_file_is_shared",
    ToleratesMissing: "test_missing_inputs_are_named_at_once",
    NamesFirstMissing: "test_missing_inputs_are_named_at_once",
    CommitsAtPrepare: "test_nothing_is_visible_before_the_commit",
    LeavesTemporaryFiles: "test_abort_leaves_nothing",
    LeavesOldAttempts: "test_next_attempt_replaces_leftovers",
    CommitsTwice: "test_commit_twice_changes_nothing",
    OverwritesOthers: "test_other_output_is_not_overwritten",
}
"""Every mutant, and the test of the suite that must reject it."""


def mutants_of(make_sound: Callable[[], DataBackend]) -> list[tuple[str, Callable[[], DataBackend], str]]:
    """Name, maker and the test that must fail, for each mutant of a sound backend."""

    def maker(cls: type[Wrapped]) -> Callable[[], DataBackend]:
        return lambda: cls(make_sound())

    return [(cls.__name__, maker(cls), test) for cls, test in MUTANTS.items()]
