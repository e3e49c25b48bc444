"""Values as text that is equal on all members that gave the same: for the fingerprint of a step.

Numbers, text, bytes and containers of these count by value, arrays by their bytes, functions by their qualified name
and their code (and the functions that they close over), other objects by their ``repr`` when it says more than where
they are in memory, else by their type. What a function closes over besides does not count: it may know the rank of its
worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import lru_cache, partial
from hashlib import blake2b
from types import CodeType
from typing import Any, Final

import attrs

from twister2.spec.batch import is_array

DEPTH: Final = 6
"""Containers inside containers that are looked into."""
_CALL = "__call__"


class Texts:
    """Describes values.

    :param by_type: says which objects count by their type only, whatever they hold.
    """

    def __init__(self, by_type: Callable[[Any], bool] = lambda value: False) -> None:
        self._by_type = by_type

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
            return f"partial({self.of(value.func, depth)})"
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
        code = getattr(value, "__code__", None)
        if not isinstance(code, CodeType):
            code = getattr(getattr(type(value), _CALL, None), "__code__", None)
        if not isinstance(code, CodeType):
            module = getattr(value, "__module__", None)
            return f"{module}.{name}" if isinstance(module, str) else str(name)
        inner = [self.of(one, depth) for one in _functions_within(value)] if depth else []
        return f"{name}#{digest(_code(code) + ' '.join(inner))}"


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
