"""Declared variables and their commits.

A checkpoint is a set of objects in the state store below ``checkpoints/<job>/<number>/``: ``replicated`` (written by
worker 0), ``worker-<id>``, and, last, ``manifest``, whose presence makes it committed. Where the workers do not see the
store, the objects travel over the link and the master writes them.
"""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twister2.spec.environment import Scope, StateVariable
from twister2.spec.errors import CapabilityError, StateError, UsageError
from twister2.spec.network import Fingerprint, Group
from twister2.spec.tracebacks import user_line, user_traceback
from twister2.worker.callers import caller_line

if TYPE_CHECKING:
    from twister2.worker.environment import Environment

T = TypeVar("T")


class Variable(StateVariable[T], Generic[T]):
    """A declared variable's value on this worker."""

    def __init__(self, name: str, scope: Scope, value: T) -> None:
        self.name, self.scope, self._value = name, scope, value

    @property
    def value(self) -> T:
        return self._value

    @value.setter
    def value(self, value: T) -> None:
        self._value = value


class Variables:
    """All declared variables of one worker."""

    def __init__(self, environment: Environment) -> None:
        self._env = environment
        self._declared: dict[str, Variable[Any]] = {}
        self._restored: dict[str, dict[str, Any]] | None = None
        self._number = environment.start_facts.checkpoint
        self._told = False

    def declare(self, name: str, default: T, scope: Scope) -> Variable[T]:
        """See :meth:`twister2.spec.environment.WorkerEnvironment.state`."""
        if scope not in ("replicated", "worker", "keyed"):
            raise UsageError(
                f"state variable {name!r}: there is no scope {scope!r}",
                why="scopes are 'replicated' (the same value on all workers) and 'worker' (each has its own)",
                remedy="use scope='replicated' or scope='worker'",
            )
        if scope == "keyed":
            raise CapabilityError(
                f"state variable {name!r}: scope 'keyed' is not there yet",
                why="keyed state comes with the streaming operators; this version stores replicated and worker scopes",
                remedy="use scope='replicated' or scope='worker'",
            )
        if name in self._declared:
            raise StateError(
                f"state variable {name!r} is declared twice", why="names are unique", remedy="keep the first object"
            )
        saved = self._load()
        other = "worker" if scope == "replicated" else "replicated"
        if name in saved[other]:
            raise StateError(
                f"state variable {name!r} was committed with scope {other!r}, now it has {scope!r}",
                why="the two are stored differently",
                remedy="keep the scope, or rename the variable",
            )
        value = saved[scope].get(name, default)
        self._declared[name] = Variable(name, scope, value)
        return self._declared[name]

    def _load(self) -> dict[str, dict[str, Any]]:
        if self._restored is None:
            self._restored = {"replicated": {}, "worker": {}}
            if self._number:
                self._restore()
        return self._restored

    def _restore(self) -> None:
        assert self._restored is not None
        facts = json.loads(self._get("manifest"))
        self._restored["replicated"] = self._unpickle("replicated")
        if not facts["worker"]:
            return
        if facts["n_workers"] != self._env.n_workers:
            raise StateError(
                f"checkpoint {self._number} has values of scope 'worker' for {facts['n_workers']} workers",
                why=f"this attempt has {self._env.n_workers} workers",
                remedy="restart with the same number of workers, or use scope='replicated'",
            )
        self._restored["worker"] = self._unpickle(f"worker-{self._env.worker_id}")

    def _unpickle(self, part: str) -> dict[str, Any]:
        data = self._get(part)  # what fails here, or ends the attempt, says so itself
        try:
            values: dict[str, Any] = pickle.loads(data)
            return {**values}
        except Exception as error:  # damaged bytes and the program's classes may raise anything
            raise StateError(
                f"checkpoint {self._number} cannot be read back: {part}",
                why=f"{type(error).__name__}: {error}: it is damaged, or was written by another version of the program",
                remedy="submit the job again: it begins without a checkpoint; keep the classes of state variables "
                "importable, and restorable from what they were saved as",
                where=user_line(error),
                details={"traceback": user_traceback(error)},
            ) from error

    def commit(self) -> int:
        """See :meth:`twister2.spec.environment.WorkerEnvironment.commit`."""
        env, link = self._env, self._env.link
        self._load()
        step = link.next_step(0)
        world = Group(0, tuple(range(env.n_workers)))
        link.enter_step(world, step, Fingerprint("commit", ",".join(self._declared), caller_line()))
        number = self._number + 1
        if not self._told:
            self._told = True
            link.post("committing", {})  # from now on there is something to remove when the job ends
        local = self._values("worker")
        if env.worker_id == 0:
            self._put(number, "replicated", _pickled(self._values("replicated")))
        if local:
            self._put(number, f"worker-{env.worker_id}", _pickled(local))
        link.exchange("commit", f"prepared {number}#{step}", sorted(self._declared), None)
        if env.worker_id == 0:
            facts = {"n_workers": env.n_workers, "worker": bool(local), "variables": sorted(self._declared)}
            self._put(number, "manifest", json.dumps(facts).encode())
            link.post("committed", {"checkpoint": number, "per_worker": bool(local)})
        link.exchange("commit", f"committed {number}#{step}", None, None)
        link.leave_step(world, step)
        self._number = number
        return number

    def _values(self, scope: str) -> dict[str, Any]:
        return {name: variable.value for name, variable in self._declared.items() if variable.scope == scope}

    def _key(self, number: int, part: str) -> str:
        return f"checkpoints/{self._env.job_id}/{number:08d}/{part}"

    def _put(self, number: int, part: str, data: bytes) -> None:
        if self._env.start_facts.state_shared:
            self._env.backend("state").put(self._key(number, part), data)
        else:
            self._env.link.request("state_put", {"key": self._key(number, part)}, data)

    def _get(self, part: str) -> bytes:
        key = self._key(self._number, part)
        data: bytes | None
        if self._env.start_facts.state_shared:
            data = self._env.backend("state").get(key)
        else:
            data = self._env.link.request("state_get", {"key": key})
        if data is None:
            raise StateError(
                f"checkpoint {self._number} is incomplete: {key} is missing",
                why="the store lost it, or somebody removed it",
                remedy="restart the job from the start",
            )
        return data


def _pickled(values: dict[str, Any]) -> bytes:
    """Values of one scope as bytes; together, so that what they share is shared when they are read back.

    :raises StateError: one of them cannot be pickled; names it.
    """
    try:
        return pickle.dumps(values, protocol=5)
    except Exception as error:
        bad = [name for name, value in values.items() if not _can_be_pickled(value)] or list(values)
        named = ", ".join(f"{name!r} ({type(values[name]).__name__})" for name in bad)
        raise StateError(
            f"env.commit: the value of state variable {named} cannot be saved",
            why=f"it cannot be pickled: {type(error).__name__}: {error}",
            remedy="keep plain data, arrays or objects of importable classes in it; keep open files and locks out",
            where=user_line(error) or caller_line(),
            details={"variables": bad, "traceback": user_traceback(error)},
        ) from error


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value, protocol=5)
    except Exception:
        return False
    return True
