"""Conformance suite for data plugins: planning, reading, positions, two-phase writing.

The suite speaks to a backend through a few methods to override; a *place* is a fresh folder per test in which a plugin
of files works, and which others may use as a name for a topic, a table, a bucket. Records are text lines, which every
format can hold in some way. :mod:`twister2_testkit.mutants.data` holds backends that the suite must reject.
"""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from abc import abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.spec.batch import n_records, records
from twister2.spec.data import DataBackend, Reader, ReadPlan, ReadRequest, Split, WriteRequest, assign_splits
from twister2.spec.errors import DataAccessError, DataNotFoundError, UsageError
from twister2.spec.tasks import END
from twister2_testkit.capabilities import Capabilities, ConformanceSuite, needs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY = "job-1/1/sink"

_LINE = st.text(st.sampled_from("ab é€𝄞\t\x0b\u2028,"), max_size=12)
_PIECES = st.lists(st.tuples(_LINE, st.sampled_from(["\n", "\r\n"])), max_size=30)
_FILE = st.tuples(_PIECES, st.booleans()).map(lambda both: _joined(*both))

_slow_disk = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors]
)


def _joined(pieces: Sequence[tuple[str, str]], last_is_open: bool) -> bytes:
    """A text file; without a newline at its end when ``last_is_open``."""
    text = "".join(line + end for line, end in pieces)
    return (text.rstrip("\r\n") if last_is_open else text).encode()


def lines_of(content: bytes) -> list[str]:
    """The lines of a text, the plain way: what every reader of lines has to agree with."""
    text = content.decode().replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n") if text else []


@attrs.frozen(kw_only=True)
class DataCapabilities(Capabilities):
    """What a data plugin can do.

    :ivar reads_lines: reads text files, byte for byte as given to ``put``. :ivar cuts: cuts one file into several
        splits. :ivar positions: readers know ``position`` and ``restore``. :ivar finds_missing: input that does not
        exist is an error. :ivar writes: has a writer, whose output can be read. :ivar refuses_existing: output that
        exists is an error without ``overwrite``.
    """

    reads_lines: bool = False
    cuts: bool = False
    positions: bool = False
    finds_missing: bool = False
    writes: bool = False
    refuses_existing: bool = False


class DataSuite(ConformanceSuite):
    """What every data backend has to keep."""

    capabilities: ClassVar[DataCapabilities] = DataCapabilities()

    # -- to override

    @abstractmethod
    def make_backend(self) -> DataBackend:
        """A backend."""

    def put(self, place: Path, contents: Sequence[bytes], piece: int) -> ReadRequest:
        """Store texts, in this order, and return a request for their lines, in splits of about ``piece`` bytes."""
        raise pytest.UsageError("a plugin that reads lines overrides put()")

    def missing(self, place: Path) -> tuple[ReadRequest, list[str]]:
        """A request with at least two inputs that do not exist beside one that does, and the names of those two."""
        raise pytest.UsageError("a plugin with finds_missing overrides missing()")

    def target(self, place: Path, *, task: int, n_tasks: int, attempt: int, key: str = KEY) -> WriteRequest:
        """A request to write lines to the one output of this place; no ``overwrite``."""
        raise pytest.UsageError("a plugin that writes overrides target()")

    def output(self, place: Path) -> ReadRequest:
        """A request to read back what is visible of that output."""
        raise pytest.UsageError("a plugin that writes overrides output()")

    def traces(self, place: Path) -> list[str]:
        """Names of everything invisible that lies at the output: temporary files, open transactions."""
        raise pytest.UsageError("a plugin that writes overrides traces()")

    def test_it_says_what_it_is_chosen_by(self) -> None:
        """Formats and schemes are named, whatever else a backend can do."""
        backend = self.make_backend()
        for names in (backend.formats, backend.schemes):
            assert names, "formats and schemes are what users choose a backend by ('' is the scheme of plain paths)"
            assert all(name == name.lower() for name in names)
            assert "to-be-written" not in names, "the template's placeholder is still there: name what it reads"

    # -- reading

    @needs("reads_lines")
    def test_splits_cover_the_input_once(self) -> None:
        """Every line of every file comes exactly once and in order, for any number of tasks and any size of split."""

        @_slow_disk
        @given(st.lists(_FILE, min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 40))
        def check(contents: list[bytes], n_tasks: int, piece: int) -> None:
            with self._place() as (backend, place):
                request = self.put(place, contents, piece)
                got = _read_all(backend, request, n_tasks)
                assert got == [line for content in contents for line in lines_of(content)]

        check()

    @needs("reads_lines")
    def test_splits_cover_lines_around_the_border(self) -> None:
        """Lines that end just before, at and just after the border between two splits."""
        for length in range(1, 14):
            for end in (b"\n", b"\r\n"):
                content = end.join([b"x" * length] * 7)
                for content_ended in (content, content + end, content + end + end):
                    with self._place() as (backend, place):
                        got = _read_all(backend, self.put(place, [content_ended], 8), 3)
                        assert got == lines_of(content_ended), (length, end)

    @needs("cuts")
    def test_one_big_file_is_shared(self) -> None:
        """One file of many lines becomes at least as many splits as there are tasks; their sizes add up."""
        content = b"".join(b"line %d\n" % number for number in range(200_000))
        with self._place() as (backend, place):
            plan = backend.plan(self.put(place, [content], 1 << 18), 4)
            assert len(plan.splits) >= 4
            assert sum(split.n_bytes for split in plan.splits) == len(content)
            loads = [sum(split.n_bytes for split in mine) for mine in assign_splits(plan.splits, 4)]
            assert max(loads) <= 2 * min(loads), loads

    @needs("reads_lines")
    def test_plan_is_plain_data_and_repeatable(self) -> None:
        """Two plans of one input are equal; a plan survives JSON and pickle."""
        with self._place() as (backend, place):
            request = self.put(place, [b"a\nb\n", b"c\nd\n", b"e\nf\n"], 2)
            plan = backend.plan(request, 3)
            assert plan.bounded, "what was stored here ends"
            assert backend.plan(request, 3) == plan
            assert self.make_backend().plan(request, 3) == plan
            assert pickle.loads(pickle.dumps(plan)) == plan
            for split in plan.splits:
                assert json.loads(json.dumps(dict(split.spec))) == dict(split.spec)

    @needs("reads_lines")
    def test_what_it_does_not_know_is_refused(self) -> None:
        """An option that nobody knows is an error of ``plan``: one that was misspelt must not be left out silently."""
        with self._place() as (backend, place):
            request = self.put(place, [b"a\nb\n"], 100)
            with pytest.raises(UsageError):
                backend.plan(attrs.evolve(request, options={**request.options, "no_such_option": 1}), 1)

    @needs("reads_lines")
    def test_opening_is_lazy_and_closing_idempotent(self) -> None:
        """``open`` touches nothing yet; a reader may be closed at any time and twice."""
        with self._place() as (backend, place):
            request = self.put(place, [b"a\nb\n"], 100)
            splits = backend.plan(request, 1).splits
            unused = backend.open(request, splits)
            unused.close()
            begun = backend.open(request, splits)
            begun.poll()
            begun.close()
            begun.close()
            nothing = backend.open(request, ())
            assert nothing.poll() is END
            assert nothing.poll() is END
            nothing.close()
            shutil.rmtree(place)  # what is gone is found by the first poll
            backend.open(request, splits).close()
            place.mkdir()

    @needs("reads_lines")
    def test_counters_count_records(self) -> None:
        """``records`` is the number of records that ``poll`` gave."""
        with self._place() as (backend, place):
            request = self.put(place, [b"a\nb\nc", b"d\n"], 100)
            reader = backend.open(request, backend.plan(request, 1).splits)
            assert sum(n_records(batch) for batch in _batches(reader)) == 4
            assert reader.counters()["records"] == 4
            reader.close()

    @needs("reads_lines", "positions")
    def test_restore_gives_the_rest_exactly(self) -> None:
        """A new reader restored to the position after any batch gives exactly what is missing."""
        contents = [b"".join(b"%d-%d\n" % (file, line) for line in range(900)) for file in range(3)] + [b"end"]
        expected = [line for content in contents for line in lines_of(content)]
        with self._place() as (backend, place):
            request = self.put(place, contents, 1500)
            splits = backend.plan(request, 2).splits
            positions: list[tuple[list[Any], Any, str]] = []
            position = _start(backend, request, splits)
            positions.append(([], position, json.dumps(position)))
            reader = backend.open(request, splits)
            read: list[Any] = []
            for batch in _batches(reader):
                read = [*read, *records(batch)]
                position = reader.position()
                positions.append((read, position, json.dumps(position)))
            reader.close()
            assert read == expected
            assert len(positions) >= 3, "the input should take several batches"
            for before, position, as_given in positions:
                assert json.dumps(position) == as_given, "a position that was given changes while reading goes on"
                restored = backend.open(request, splits)
                restored.restore(json.loads(as_given))
                rest = [record for batch in _batches(restored) for record in records(batch)]
                restored.close()
                assert before + rest == expected

    @needs("finds_missing")
    def test_missing_inputs_are_named_at_once(self) -> None:
        """All inputs that do not exist are named in one error, at plan time."""
        with self._place() as (backend, place):
            request, names = self.missing(place)
            with pytest.raises(DataNotFoundError) as caught:
                backend.plan(request, 2)
            for name in names:
                assert name in str(caught.value), f"{name} is not named"

    # -- writing

    @needs("writes")
    def test_nothing_is_visible_before_the_commit(self) -> None:
        """Written and even prepared records are invisible until ``commit``, and complete after it."""
        with self._place() as (backend, place):
            committables = []
            for task in range(3):
                writer = backend.create_writer(self.target(place, task=task, n_tasks=3, attempt=1))
                writer.write([f"{task}a", f"{task}b"])
                assert self._visible(backend, place) == []
                writer.write([f"{task}c"])
                committables += writer.prepare(1)
                writer.close()
                assert self._visible(backend, place) == []
            backend.commit(self.target(place, task=0, n_tasks=3, attempt=1), json.loads(json.dumps(committables)))
            assert self._visible(backend, place) == [f"{task}{letter}" for task in range(3) for letter in "abc"]
            assert self.traces(place) == []

    @needs("writes")
    def test_commit_twice_changes_nothing(self) -> None:
        """A commit repeated after a crash, whole or half done, has the result of one."""
        with self._place() as (backend, place):
            committables = []
            for task in range(2):
                committables += self._prepared(backend, place, task, 2, [f"record {task}"])
            request = self.target(place, task=0, n_tasks=2, attempt=1)
            for _ in range(3):
                backend.commit(request, committables)
                assert self._visible(backend, place) == ["record 0", "record 1"]
            assert self.traces(place) == []

    @needs("writes")
    def test_abort_leaves_nothing(self) -> None:
        """What was written and not prepared is gone after ``abort``, called once or twice, and after ``close``."""
        with self._place() as (backend, place):
            writer = backend.create_writer(self.target(place, task=0, n_tasks=1, attempt=1))
            writer.write(["lost"])
            writer.abort()
            writer.abort()
            writer.close()
            assert self.traces(place) == []
            assert self._visible(backend, place) == []
            closed = backend.create_writer(self.target(place, task=0, n_tasks=1, attempt=1))
            closed.write(["lost"])
            closed.close()
            closed.close()
            assert self.traces(place) == []
            assert self._visible(backend, place) == []

    @needs("writes")
    def test_next_attempt_replaces_leftovers(self) -> None:
        """An attempt that died after writing, preparing or half a commit leaves nothing, and nothing comes twice."""
        with self._place() as (backend, place):
            dead = [self._prepared(backend, place, task, 3, [f"old {task}"]) for task in range(3)]
            assert all(dead)
            committables = []
            for task in range(2):
                committables += self._prepared(backend, place, task, 2, [f"new {task}"], attempt=2)
            backend.commit(self.target(place, task=0, n_tasks=2, attempt=2), committables)
            assert self._visible(backend, place) == ["new 0", "new 1"]
            assert self.traces(place) == []

    @needs("writes")
    def test_a_committed_step_may_run_again(self) -> None:
        """A step of the same key that is run again in a later attempt commits nothing twice."""
        with self._place() as (backend, place):
            for attempt in (1, 2, 3):
                committables = []
                for task in range(2):
                    committables += self._prepared(backend, place, task, 2, [f"record {task}"], attempt=attempt)
                backend.commit(self.target(place, task=0, n_tasks=2, attempt=attempt), committables)
                assert self._visible(backend, place) == ["record 0", "record 1"]
                assert self.traces(place) == []

    @needs("writes")
    def test_checkpoints_add_up(self) -> None:
        """Several checkpoints of one writer: each is visible after its own commit, none replaces another."""
        with self._place() as (backend, place):
            request = self.target(place, task=0, n_tasks=1, attempt=1)
            writer = backend.create_writer(request)
            expected = []
            for checkpoint in (1, 2, 3):
                writer.write([f"record {checkpoint}"])
                expected.append(f"record {checkpoint}")
                backend.commit(request, writer.prepare(checkpoint))
                assert sorted(self._visible(backend, place)) == expected
            writer.close()
            assert self.traces(place) == []

    @needs("writes", "refuses_existing")
    def test_other_output_is_not_overwritten(self) -> None:
        """Output of another job is left as it is, and the error comes when the writer is made."""
        with self._place() as (backend, place):
            committables = self._prepared(backend, place, 0, 1, ["first"])
            backend.commit(self.target(place, task=0, n_tasks=1, attempt=1), committables)
            with pytest.raises(DataAccessError):
                backend.create_writer(self.target(place, task=0, n_tasks=1, attempt=1, key="job-2/1/sink"))
            assert self._visible(backend, place) == ["first"]

    # -- helpers

    @contextmanager
    def _place(self) -> Iterator[tuple[DataBackend, Path]]:
        with tempfile.TemporaryDirectory(prefix="t2-data-") as folder:
            yield self.make_backend(), Path(folder)

    def _prepared(
        self, backend: DataBackend, place: Path, task: int, n_tasks: int, lines: Sequence[str], attempt: int = 1
    ) -> list[Any]:
        writer = backend.create_writer(self.target(place, task=task, n_tasks=n_tasks, attempt=attempt))
        writer.write(list(lines))
        committables = writer.prepare(1)
        writer.close()
        return committables

    def _visible(self, backend: DataBackend, place: Path) -> list[Any]:
        """Records of the output, empty when there is none."""
        try:
            return _read_all(backend, self.output(place), 1)
        except DataNotFoundError:
            return []


def _batches(reader: Reader) -> Iterator[Any]:
    idle = 0
    while (batch := reader.poll()) is not END:
        idle = idle + 1 if batch is None else 0
        assert idle < 100_000, "poll() gives nothing and does not end"
        if batch is not None:
            yield batch


def _read_all(backend: DataBackend, request: ReadRequest, n_tasks: int) -> list[Any]:
    """All records, read by ``n_tasks`` readers one after another."""
    plan: ReadPlan = backend.plan(request, n_tasks)
    got: list[Any] = []
    for splits in assign_splits(plan.splits, n_tasks):
        reader = backend.open(request, splits)
        try:
            for batch in _batches(reader):
                got.extend(records(batch))
        finally:
            reader.close()
    return got


def _start(backend: DataBackend, request: ReadRequest, splits: Sequence[Split]) -> Any:
    reader = backend.open(request, splits)
    try:
        return reader.position()
    finally:
        reader.close()
