"""Conformance of state stores: a dictionary that survives crashes.

A plugin's test class gives a store over a folder that is the test's own::

    class TestFile(StateSuite):
        def make_store(self, root):
            return FileStatePlugin().state_create(config=FileStateConfig(), context=StateContext(str(root)))
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from twister2.spec.errors import StateError
from twister2.spec.state import StateStore
from twister2_testkit.capabilities import Capabilities, ConformanceSuite, needs
from twister2_testkit.processes import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMON_PARTS = ["a", "b", "jobs", "a.b", "..a", "-"]
BAD_KEYS = ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a b", "ä", "a\\b", "a\0b", "~a"]
MADE_UP_KEYS = st.lists(
    st.one_of(st.sampled_from(COMMON_PARTS), st.from_regex(r"[a-zA-Z0-9_-]{1,8}", fullmatch=True)),
    min_size=1,
    max_size=3,
).map("/".join)
KEYS = st.one_of(st.sampled_from(["a", "a/b", "a/b/c", "ab"]), MADE_UP_KEYS)
PREFIXES = st.one_of(KEYS, KEYS.map(lambda key: key + "/"), st.just(""), st.sampled_from(["a", "a/", "job", "/", ".."]))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=64)),
        st.tuples(st.just("put_if_absent"), KEYS, st.binary(max_size=64)),
        st.tuples(st.just("get"), KEYS, st.none()),
        st.tuples(st.just("list"), PREFIXES, st.none()),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("delete_all"), PREFIXES, st.none()),
        st.tuples(st.just("reopen"), st.just("a"), st.none()),
    ),
    max_size=30,
)


@attrs.frozen(kw_only=True)
class StateCapabilities(Capabilities):
    """What a store can do beyond the contract.

    :ivar crash_writer: a writer process can be killed in the middle of a write on this machine.
    """

    crash_writer: bool = False


class StateSuite(ConformanceSuite):
    """What every state store must do."""

    capabilities: ClassVar[StateCapabilities] = StateCapabilities(crash_writer=True)
    examples: ClassVar[int] = 60
    """How many sequences of operations are tried against a dictionary."""

    crashes: int = 20
    """How many writers are killed."""

    @abstractmethod
    def make_store(self, root: Path) -> StateStore:
        """A store over this place, which may hold objects of an earlier one; called in several processes."""

    def left_behind(self, root: Path) -> list[str]:
        """What a store without objects has left at its place; empty is right.

        A store in a database leaves the empty database: such a plugin overrides this to tell whatever else is there.
        """
        return [str(path) for path in root.rglob("*")] if root.exists() else []

    def spoil(self, root: Path) -> None:
        """Make this place, at which nothing is yet, one that a store cannot write to: here a file of somebody else."""
        root.write_bytes(b"no store")

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "store"

    @pytest.fixture
    def store(self, root: Path) -> Iterator[StateStore]:
        store = self.make_store(root)
        yield store
        store.close()

    # -- like a dictionary ---------------------------------------------------------------------------------------------

    def test_behaves_like_a_dictionary(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        @settings(max_examples=self.examples, deadline=None, suppress_health_check=[*HealthCheck], database=None)
        @given(OPERATIONS)
        @example([("put", "a", b"1"), ("put", "a", b"2"), ("get", "a", None)])
        def check(operations: list[tuple[str, str, bytes | None]]) -> None:
            root = tmp_path_factory.mktemp("state") / "store"
            store, model = self.make_store(root), _Model()
            for name, key, data in operations:
                if name == "reopen":
                    store.close()
                    store = self.make_store(root)
                    continue
                got, wanted = _apply(store, name, key, data), _apply(model, name, key, data)
                assert got == wanted, f"{name}({key!r}) gave {got!r}, not {wanted!r}"
            assert {key: store.get(key) for key in store.list("")} == model.objects
            store.close()

        check()

    def test_lists_by_text_and_in_order(self, store: StateStore) -> None:
        keys = ["jobs/b/2", "jobs", "jobs/a", "jobs.x", "job", "j/z", "jobs-y/1", "Jobs/a"]
        for key in keys:
            store.put(key, b"x")
        for prefix in ("", "j", "job", "jobs", "jobs/", "jobs/b", "jobs/b/2", "jobs/b/2/", "z", "../"):
            assert [*store.list(prefix)] == sorted(key for key in keys if key.startswith(prefix)), prefix

    def test_making_a_store_makes_nothing(self, root: Path) -> None:
        store = self.make_store(root)
        assert store.get("a") is None
        assert [*store.list("")] == []
        assert store.delete_all("") == 0
        store.close()
        assert not self.left_behind(root)

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a b", "ä", "a\\b", "a\0b", "~a"]
    )
    def test_a_bad_key_is_refused_and_named(self, store: StateStore, root: Path, key: str) -> None:
        calls: tuple[Callable[[], object], ...] = (
            lambda: store.put(key, b"x"),
            lambda: store.get(key),
            lambda: store.delete(key),
        )
        for call in calls:
            with pytest.raises(StateError) as caught:
                call()
            assert repr(key) in str(caught.value)
        assert not self.left_behind(root.parent / "a")

    def test_a_place_that_cannot_be_used_is_a_state_error(self, root: Path) -> None:
        """Writing says so, naming the key; reading finds nothing or says so: no error of the storage itself passes."""
        self.spoil(root)
        store = self.make_store(root)
        for write in (store.put, store.put_if_absent):
            with pytest.raises(StateError, match="the/key"):
                write("the/key", b"x")
        reads: tuple[Callable[[], object], ...] = (
            lambda: store.get("the/key"),
            lambda: [*store.list("the/")],
            lambda: store.delete("the/key"),
            lambda: store.delete_all(""),
        )
        for read in reads:
            with contextlib.suppress(StateError):
                assert not read(), "there is nothing"
        store.close()

    def test_large_and_empty_objects(self, store: StateStore) -> None:
        data = os.urandom(1 << 20) * 9
        store.put("large", data)
        store.put("empty", b"")
        assert store.get("large") == data
        assert store.get("empty") == b""

    def test_another_store_sees_the_same_objects(self, store: StateStore, root: Path) -> None:
        store.put("a/b", b"1")
        other = self.make_store(root)
        assert other.get("a/b") == b"1"
        other.put("a/b", b"2")
        assert store.get("a/b") == b"2"
        other.close()

    def test_deleting_everything_leaves_nothing(self, store: StateStore, root: Path) -> None:
        for key in ("a", "a/b", "a/b/c", "d/e/f/g"):
            store.put(key, b"x")
        store.delete("a")
        assert [*store.list("")] == ["a/b", "a/b/c", "d/e/f/g"], "delete took more than its key, or less"
        store.put("a", b"x")
        assert store.delete_all("a/") == 2
        assert [*store.list("")] == ["a", "d/e/f/g"]
        store.delete("a")
        store.delete("d/e/f/g")
        store.delete("d/e/f/g")
        assert not self.left_behind(root)

    # -- many writers --------------------------------------------------------------------------------------------------

    def test_exactly_one_writer_wins(self, store: StateStore, root: Path) -> None:
        rounds = 10
        begin = time.monotonic() + 0.2

        def write(number: int) -> int:
            own = self.make_store(root)
            time.sleep(max(0.0, begin - time.monotonic()))
            won = 0
            for round_number in range(rounds):
                if own.put_if_absent(f"commit/{round_number}", bytes([number]) * 5000):
                    won |= 1 << round_number
            own.put(f"won/{number}", won.to_bytes(4, "big"))
            return 0

        children = [_fork(write, number) for number in range(4)]
        codes = [exit_code(pid) for pid in children]
        assert codes == [0] * 4, "a writer failed"
        won = [int.from_bytes(store.get(f"won/{number}") or b"", "big") for number in range(4)]
        for round_number in range(rounds):
            winners = [number for number in range(4) if won[number] >> round_number & 1]
            assert len(winners) == 1, f"{len(winners)} writers were told that they stored the object"
            assert store.get(f"commit/{round_number}") == bytes([winners[0]]) * 5000, "the winner's object is not there"

    def test_readers_see_whole_objects_while_writers_write(self, store: StateStore) -> None:
        stop = threading.Event()
        partial: list[str] = []
        store.put("k/x", b"a" * 100_000)

        def read() -> None:
            while not stop.is_set():
                data = store.get("k/x")
                if data is None or len(set(data)) != 1 or len(data) != 100_000:
                    partial.append(f"{len(data or b'')} bytes, {set(data or b'')}")
                if [*store.list("k/")] != ["k/x"]:
                    partial.append(f"listed {[*store.list('k/')]}")

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            for number in range(60):
                store.put("k/x", bytes([97 + number % 26]) * 100_000)
        finally:
            stop.set()
            thread.join(self.timeout_s)
        assert not partial, f"a reader saw a partial object: {partial[0]}"

    def test_writing_and_deleting_side_by_side(self, store: StateStore, root: Path) -> None:
        """A folder that empties under a writer must not make the write fail."""

        def churn(number: int) -> int:
            own = self.make_store(root)
            for _ in range(100):
                own.put(f"d/e/{number}", b"x")
                own.delete(f"d/e/{number}")
            return 0

        children = [_fork(churn, number) for number in range(3)]
        codes = [exit_code(pid) for pid in children]
        assert codes == [0] * 3, "a writer failed"
        assert [*store.list("")] == []
        assert not self.left_behind(root)

    # -- crashes -------------------------------------------------------------------------------------------------------

    @needs("crash_writer")
    def test_a_killed_writer_leaves_the_old_object_or_the_new_one(self, store: StateStore, root: Path) -> None:
        size = 300_000
        store.put("c/k", b"\0" * size)

        begun, begins = os.pipe()

        def write(_: int) -> NoReturn:
            own = self.make_store(root)
            for number in range(1_000_000):
                own.put("c/k", bytes([number % 256]) * size)
                if number == 0:
                    os.write(begins, b"x")
                own.put_if_absent(f"c/new-{os.getpid()}-{number}", bytes([number % 256]) * size)
                own.delete(f"c/new-{os.getpid()}-{number - 1}")
            raise AssertionError("never killed")

        for number in range(self.crashes):
            pid = _fork(write, 0)
            assert select.select([begun], [], [], 60)[0], "a writer has not written once in 60 s"
            os.read(begun, 1)
            time.sleep(0.003 * number)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for key in store.list(""):
                data = store.get(key)
                assert data is not None
                assert len(data) == size, f"{key} has {len(data)} of {size} bytes after a crash"
                assert len(set(data)) == 1, f"{key} mixes two writes after a crash"
        os.close(begun)
        os.close(begins)
        fresh = self.make_store(root)
        fresh.put("c/after", b"x")
        fresh.delete_all("")
        fresh.close()
        assert not self.left_behind(root), "what crashed writers left is never removed"


class _Model(StateStore):
    """What a store should do, as a dictionary."""

    shared = False

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if key in self.objects:
            return False
        self.objects[key] = data
        return True

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def list(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


def _apply(store: StateStore, name: str, key: str, data: bytes | None) -> Any:
    got = getattr(store, name)(key) if data is None else getattr(store, name)(key, data)
    return [*got] if name == "list" else got


def _fork(action: Callable[[int], int], number: int) -> int:
    """Run ``action(number)`` in a forked process; its exit code is what it returns, 1 when it raises."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = action(number)
    finally:
        os._exit(code)
