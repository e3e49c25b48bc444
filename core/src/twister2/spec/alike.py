"""Values as text that is equal on all members that gave the same: for the fingerprint of a step.

Numbers, text, bytes and containers of these count by value, arrays by their bytes, functions by their qualified name
and their code (and the functions that they close over), other objects by their ``repr`` when it says more than where
they are in memory, else by their type. What a function closes over besides does not count: it may know the rank of its
worker. For functions that must give the same everywhere (ops of reductions), ``captured=True`` compares that, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dis import get_instructions
from functools import lru_cache, partial
from hashlib import blake2b
from types import CodeType
from typing import Any, Final

import attrs

from twister2.spec.batch import is_array

DEPTH: Final = 6
"""Containers inside containers that are looked into."""
SMALL_BYTES: Final = 4096
SMALL_LENGTH: Final = 100
"""Captured arrays and containers up to these sizes are compared, larger ones by their form and size only."""
_CALL = "__call__"
_CAPTURED_DEPTH = 3
_ADDING = {"add", "append", "appendleft", "extend", "fill", "insert", "put", "setdefault", "update"}
_REMOVING = {"clear", "difference_update", "discard", "intersection_update", "pop", "popitem", "popleft", "remove"}
_CHANGERS = frozenset(_ADDING | _REMOVING | {"resize", "reverse", "sort", "symmetric_difference_update"})
_STORES_ITEMS = frozenset({"STORE_SUBSCR", "STORE_SLICE", "DELETE_SUBSCR"})
_BINDS = frozenset({"STORE_DEREF", "DELETE_DEREF"})


class Texts:
    """Describes values.

    :param by_type: says which objects count by their type only, whatever they hold. :param captured: of functions, the
        plain values count that they have captured: numbers, text, bytes, None, small containers and arrays of such,
        functions; in variables of the functions around them, default arguments and the arguments of partials. Not what
        the function changes itself (it counts, or keeps what it has seen), nor globals, nor the state of objects.
    """

    def __init__(self, by_type: Callable[[Any], bool] = lambda value: False, *, captured: bool = False) -> None:
        self._by_type = by_type
        self._captured = captured

    def of(self, value: Any, depth: int = DEPTH) -> str:
        """One value as text that is equal in every process where the value is."""
        if is_array(value):
            return self._array(value)
        if hasattr(value, "item") and hasattr(value, "dtype"):  # a number of numpy
            value = value.item()
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return repr(value)
        if not depth:
            return type(value).__qualname__
        if callable(value):
            return self._function(value, depth - 1)
        return self._container(value, depth - 1) or self._object(value, depth - 1)

    def _container(self, value: Any, depth: int) -> str:
        """The empty string when it is none."""
        if isinstance(value, Mapping):
            pairs = (f"{self.of(key, depth)}: {self.of(one, depth)}" for key, one in value.items())
            return f"{{{', '.join(sorted(pairs))}}}"
        if isinstance(value, Set):
            return f"{{{', '.join(sorted(self.of(one, depth) for one in value))}}}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(self.of(one, depth) for one in value)}]"
        return ""

    def _object(self, value: Any, depth: int) -> str:
        kind = type(value)
        if self._by_type(value):
            return kind.__qualname__
        if attrs.has(kind):
            return kind.__qualname__ + self._container(attrs.asdict(value, recurse=False), depth)
        if hasattr(kind, "__dataclass_fields__"):
            fields = {name: getattr(value, name, None) for name in kind.__dataclass_fields__}
            return kind.__qualname__ + self._container(fields, depth)
        return _other(value)

    def _array(self, value: Any) -> str:
        import numpy

        if value.dtype.hasobject:
            return f"array{self.of(value.tolist())}"
        data = digest(numpy.ascontiguousarray(value).tobytes())
        return f"array({value.dtype.str} {'x'.join(map(str, value.shape))} #{data})"

    def _function(self, value: Any, depth: int) -> str:
        if isinstance(value, partial):
            held = "".join(f", {one}" for one in self._arguments(value, depth)) if self._captured else ""
            return f"partial({self.of(value.func, depth)}{held})"
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
        code = getattr(value, "__code__", None)
        inside = wrapped(value)
        if inside is not None and depth:
            return f"{name}({self._function(inside, depth - 1)})"
        if not isinstance(code, CodeType):
            code = getattr(getattr(type(value), _CALL, None), "__code__", None)
        if not isinstance(code, CodeType):
            module = getattr(value, "__module__", None)
            return f"{module}.{name}" if isinstance(module, str) else str(name)
        if self._captured:
            inner = self._captures(value, depth)
        else:
            inner = [self.of(one, depth) for one in _functions_within(value)] if depth else []
        return f"{name}#{digest(_code(code) + ' '.join(inner))}"

    def _arguments(self, value: partial[Any], depth: int) -> list[str]:
        arguments = [*enumerate(value.args), *sorted(value.keywords.items())]
        return [f"{name}={self._held(one, _CAPTURED_DEPTH, depth)}" for name, one in arguments]

    def _captures(self, value: Any, depth: int) -> list[str]:
        """The plain values that a function has captured."""
        found = []
        for name, one, fixed in captures(value):
            if one is not value and (fixed or not (isinstance(one, (list, dict, set)) or is_array(one))):
                text = self._held(one, _CAPTURED_DEPTH, depth)
                if text:
                    found.append(f"{name}={text}")
        return found

    def _held(self, value: Any, depth: int, functions: int) -> str:
        """A captured value; the empty string when it is none that counts."""
        if is_array(value):
            if value.nbytes <= SMALL_BYTES and not value.dtype.hasobject:
                return self._array(value)
            return f"array({value.dtype.str} {'x'.join(map(str, value.shape))})"
        if isinstance(value, _PLAIN) or (hasattr(value, "item") and hasattr(value, "dtype")):
            return self.of(value)
        if isinstance(value, partial) or (callable(value) and hasattr(value, "__name__")):
            return self._function(value, functions - 1) if functions > 0 else ""
        if type(value) not in _CONTAINERS:
            return ""
        name = type(value).__name__
        if not depth or len(value) > SMALL_LENGTH:
            return f"{name} of {len(value)}"
        if isinstance(value, dict):
            parts = [
                f"{self._held(key, depth - 1, functions)}: {self._held(one, depth - 1, functions)}"
                for key, one in value.items()
            ]
            return f"{name}({', '.join(sorted(parts))})"
        parts = [self._held(one, depth - 1, functions) for one in value]
        return f"{name}({', '.join(sorted(parts) if isinstance(value, Set) else parts)})"


_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})


def wrapped(value: Any) -> Any:
    """The Python function in a callable that has no code of its own (of ``functools.lru_cache``, ``numpy.vectorize``),
    or None.
    """
    if hasattr(value, "__code__"):
        return None
    inside = getattr(value, "__wrapped__", None) or getattr(value, "pyfunc", None)
    return inside if isinstance(getattr(inside, "__code__", None), CodeType) else None


def captures(function: Any) -> list[tuple[str, Any, bool]]:
    """What a Python function has captured but its globals: name, value, and whether the function's own code leaves
    alone what could be changed in it. Variables that it binds itself are left out.
    """
    cells, code = getattr(function, "__closure__", None), getattr(function, "__code__", None)
    defaults, named = getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)
    if not (cells or defaults or named) or not isinstance(code, CodeType):
        return []
    bound, fixed = _changes(code)
    found: list[tuple[str, Any, bool]] = []
    for name, cell in zip(code.co_freevars, cells or (), strict=False):
        if name in bound:
            continue
        with suppress(ValueError):  # not filled yet
            found.append((name, cell.cell_contents, fixed))
    found += [(f"{index}", one, fixed) for index, one in enumerate(defaults or ())]
    return found + [(name, one, fixed) for name, one in sorted((named or {}).items())]


@lru_cache(maxsize=1024)
def _changes(code: CodeType) -> tuple[frozenset[str], bool]:
    """The captured variables that code binds, and whether it leaves the insides of all values alone."""
    bound: set[str] = set()
    fixed = _CHANGERS.isdisjoint(code.co_names)
    for step in get_instructions(code):
        if step.opname in _BINDS:
            bound.add(step.argval)
        elif step.opname in _STORES_ITEMS:
            fixed = False
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            names, alone = _changes(inner)
            bound |= names
            fixed = fixed and alone
    return frozenset(bound), fixed


def digest(value: str | bytes) -> str:
    """A short hash of text or bytes, the same in every process."""
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return blake2b(data, digest_size=8).hexdigest()


_plain = Texts()


def _other(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = ""
    return text if text and " at 0x" not in text else type(value).__qualname__


def _functions_within(value: Any) -> list[Any]:
    """The functions that a function closes over: those of a decorated one."""
    found = []
    for cell in getattr(value, "__closure__", None) or ():
        try:
            inside = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if callable(inside) and inside is not value and isinstance(getattr(inside, "__code__", None), CodeType):
            found.append(inside)
    return found


@lru_cache(maxsize=1024)
def _code(code: CodeType) -> str:
    """What code does, without where it is written."""
    constants = ",".join(_code(one) if isinstance(one, CodeType) else _plain.of(one) for one in code.co_consts)
    return digest(f"{code.co_code.hex()} {code.co_names} {code.co_argcount} {constants}")
