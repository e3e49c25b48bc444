"""Broken state stores. Each is one plausible mistake; the suite must reject every one."""

from __future__ import annotations

import functools
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twister2.spec.errors import StateError
from twister2.spec.state import StateStore
from twister2_testkit.state import StateSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


def told(method: Callable[..., T]) -> Callable[..., T]:
    """Errors of the file system become errors of the store, which name the key."""

    @functools.wraps(method)
    def guarded(*args: Any) -> T:
        try:
            return method(*args)
        except OSError as error:
            key = args[1] if len(args) > 1 else "its keys"
            raise StateError(f"cannot reach {key}", why=str(error), remedy="give the store a folder") from error

    return guarded


class PlainStore(StateStore):
    """A sound store the mutants vary: one flat folder, a file per object, ``/`` written as ``,``. It passes."""

    shared = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", key, re.ASCII) or {".", ".."} & {*key.split("/")}:
            raise StateError(f"{key!r} is not a key", why="of its characters", remedy="use another")
        return self.root / key.replace("/", ",")

    @told
    def delete_all(self, prefix: str) -> int:
        for path in self.root.glob("~*"):
            if not os.path.exists(f"/proc/{path.name[1:].partition('-')[0]}"):
                path.unlink(missing_ok=True)
        return super().delete_all(prefix)

    @told
    def put(self, key: str, data: bytes) -> None:
        path = self.path(key)
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f"~{os.getpid()}"
        temporary.write_bytes(data)
        os.replace(temporary, path)

    @told
    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self.path(key)
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f"~{os.getpid()}"
        temporary.write_bytes(data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    @told
    def get(self, key: str) -> bytes | None:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            return None

    @told
    def names(self) -> list[str]:
        names = os.listdir(self.root) if self.root.exists() else []
        return sorted(name.replace(",", "/") for name in names if name[0] != "~")

    def list(self, prefix: str) -> Iterator[str]:
        yield from (key for key in self.names() if key.startswith(prefix))

    @told
    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)


class WritesInPlace(PlainStore):
    """Opens the object and writes: a reader, or a crash, sees a part."""

    def put(self, key: str, data: bytes) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.path(key), "wb", buffering=0) as file:
            for at in range(0, len(data), 4096):
                file.write(data[at : at + 4096])


class LooksBeforeItWrites(PlainStore):
    """Asks whether the key exists and then writes: two writers win."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.get(key) is not None:
            return False
        self._wait_for_another(self.path(key).name)  # for it to be found surely, and not only now and then
        self.put(key, data)
        return True

    def _wait_for_another(self, name: str) -> None:
        """Wait until another writer has looked, too."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / f"~{os.getpid()}-{name}").touch()
        give_up = time.monotonic() + 20
        while len([*self.root.glob(f"~*-{name}")]) < 2 and time.monotonic() < give_up:
            time.sleep(0.001)


class LetsErrorsPass(PlainStore):
    """Raises what the file system raises."""

    def put(self, key: str, data: bytes) -> None:
        path = self.path(key)
        self.root.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class NeverStoresTwice(PlainStore):
    """Does not replace an older object."""

    def put(self, key: str, data: bytes) -> None:
        self.put_if_absent(key, data)


class ListsTemporaries(PlainStore):
    """Shows what is still being written."""

    def names(self) -> list[str]:
        return sorted(name.replace(",", "/") for name in (os.listdir(self.root) if self.root.exists() else []))


class ListsFoldersOnly(PlainStore):
    """Takes the prefix for a folder."""

    def list(self, prefix: str) -> Iterator[str]:
        folder = prefix.rstrip("/") + "/" if prefix else ""
        yield from (key for key in self.names() if key.startswith(folder))


class ListsInAnyOrder(PlainStore):
    """Lists as the file system does."""

    def list(self, prefix: str) -> Iterator[str]:
        yield from reversed([key for key in self.names() if key.startswith(prefix)])


class TakesAnyKey(PlainStore):
    """Checks no key, and writes outside its folder."""

    def path(self, key: str) -> Path:
        return Path(os.path.join(self.root, key.replace("/", ",").replace("\0", "")))


class DeletesTooMuch(PlainStore):
    """Deletes whole sub-trees by name."""

    def delete(self, key: str) -> None:
        for other in [other for other in self.names() if other.startswith(key)]:
            super().delete(other)


class NeedsTheKeyToDelete(PlainStore):
    """Raises when there is nothing to delete."""

    def delete(self, key: str) -> None:
        self.path(key).unlink()


class Truncates(PlainStore):
    """Stores one write() of a large object."""

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data[: 1 << 16])


class MakesItsFolderAtOnce(PlainStore):
    """Creates things before the first write."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "lost+found").mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        return [key for key in super().names() if key != "lost+found"]


class KeepsObjectsInMemory(PlainStore):
    """A cache that nobody invalidates: another store does not see the objects."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cache: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.cache[key] = data
        super().put(key, data)

    def get(self, key: str) -> bytes | None:
        return self.cache.get(key) or super().get(key)


class ForgetsLeftOvers(PlainStore):
    """Temporary files of crashed writers stay for ever."""

    def delete_all(self, prefix: str) -> int:
        return StateStore.delete_all(self, prefix)


MUTANTS: dict[type[PlainStore], str] = {
    WritesInPlace: "test_readers_see_whole_objects_while_writers_write",
    LooksBeforeItWrites: "test_exactly_one_writer_wins",
    LetsErrorsPass: "test_a_place_that_cannot_be_used_is_a_state_error",
    NeverStoresTwice: "test_behaves_like_a_dictionary",
    ListsTemporaries: "test_a_killed_writer_leaves_the_old_object_or_the_new_one",
    ListsFoldersOnly: "test_lists_by_text_and_in_order",
    ListsInAnyOrder: "test_lists_by_text_and_in_order",
    TakesAnyKey: "test_a_bad_key_is_refused_and_named",
    DeletesTooMuch: "test_deleting_everything_leaves_nothing",
    NeedsTheKeyToDelete: "test_behaves_like_a_dictionary",
    Truncates: "test_large_and_empty_objects",
    MakesItsFolderAtOnce: "test_making_a_store_makes_nothing",
    KeepsObjectsInMemory: "test_another_store_sees_the_same_objects",
    ForgetsLeftOvers: "test_a_killed_writer_leaves_the_old_object_or_the_new_one",
}
"""Every mutant, and the test of the suite that must reject it."""


def suite_of(mutant: type[PlainStore]) -> type[StateSuite]:
    """The suite as a plugin's author would write it for this store."""

    class MutantSuite(StateSuite):
        def make_store(self, root: Path) -> StateStore:
            return mutant(root)

    return MutantSuite
