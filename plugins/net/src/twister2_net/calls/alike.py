"""Options as text that is equal on all members that gave the same: part of the fingerprint of a step.

Numbers, text, bytes and containers of these count by value, arrays by their bytes, functions by their qualified name
and their code (and the functions that they close over), other objects by their ``repr`` when it says more than where
they are in memory, else by their type. What a function closes over besides does not count, nor what an object that
chooses targets knows: a partitioner may look at the rank of its worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache, partial
from hashlib import blake2b
from types import CodeType
from typing import Any

import attrs

from twister2.spec.batch import is_array
from twister2_net.combining.reducers import name_of
from twister2_net.selectors.custom import is_two_phase

_SHOWN = 240
_SHOWN_EACH = 60
_DEPTH = 6
_CALL = "__call__"


def described(options: Mapping[str, Any], rest: str = "") -> str:
    """Options for a fingerprint: a digest of everything (in front, because tables cut what follows) and readable text.

    :param rest: what must be equal besides, shown behind the options.
    :returns: the empty string when there is nothing to describe.
    """
    texts = {name: described_value(name_of(value) or value, _DEPTH) for name, value in sorted(options.items())}
    if not texts:
        return rest
    whole = ", ".join(f"{name}={text}" for name, text in texts.items())
    shown = ", ".join(f"{name}={_cut(text, _SHOWN_EACH)}" for name, text in texts.items())
    return f"#{_digest(f'{whole} {rest}')} {_cut(shown, _SHOWN)} {rest}".rstrip()


def described_value(value: Any, depth: int = _DEPTH) -> str:
    """One value as text that is equal in every process where the value is."""
    if is_array(value):
        return _array(value)
    if hasattr(value, "item") and hasattr(value, "dtype"):  # a number of numpy
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if not depth:
        return type(value).__qualname__
    if callable(value):
        return _function(value, depth - 1)
    return _container(value, depth - 1) or _object(value, depth - 1)


def _container(value: Any, depth: int) -> str:
    """The empty string when it is none."""
    if isinstance(value, Mapping):
        pairs = (f"{described_value(key, depth)}: {described_value(one, depth)}" for key, one in value.items())
        return f"{{{', '.join(sorted(pairs))}}}"
    if isinstance(value, Set):
        return f"{{{', '.join(sorted(described_value(one, depth) for one in value))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(described_value(one, depth) for one in value)}]"
    return ""


def _object(value: Any, depth: int) -> str:
    kind = type(value)
    if is_two_phase(value):
        return kind.__qualname__
    if attrs.has(kind):
        return kind.__qualname__ + _container(attrs.asdict(value, recurse=False), depth)
    if hasattr(kind, "__dataclass_fields__"):
        return kind.__qualname__ + _container(
            {name: getattr(value, name, None) for name in kind.__dataclass_fields__}, depth
        )
    return _other(value)


def _other(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = ""
    return text if text and " at 0x" not in text else type(value).__qualname__


def _array(value: Any) -> str:
    import numpy

    if value.dtype.hasobject:
        return f"array{described_value(value.tolist())}"
    data = _digest(numpy.ascontiguousarray(value).tobytes())
    return f"array({value.dtype.str} {'x'.join(map(str, value.shape))} #{data})"


def _function(value: Any, depth: int) -> str:
    if isinstance(value, partial):
        return f"partial({described_value(value.func, depth)})"
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
    code = getattr(value, "__code__", None)
    if not isinstance(code, CodeType):
        code = getattr(getattr(type(value), _CALL, None), "__code__", None)
    if not isinstance(code, CodeType):
        module = getattr(value, "__module__", None)
        return f"{module}.{name}" if isinstance(module, str) else str(name)
    inner = [described_value(one, depth) for one in _functions_within(value)] if depth else []
    return f"{name}#{_digest(_code(code) + ' '.join(inner))}"


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
    constants = ",".join(_code(one) if isinstance(one, CodeType) else described_value(one) for one in code.co_consts)
    return _digest(f"{code.co_code.hex()} {code.co_names} {code.co_argcount} {constants}")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _digest(value: str | bytes) -> str:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return blake2b(data, digest_size=8).hexdigest()
