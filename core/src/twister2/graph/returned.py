"""What backends of plugins give back, checked where it is used: an error names the backend, not the line behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from twister2.spec.errors import PluginError, PluginIncompleteError, Twister2Error
from twister2.spec.tracebacks import frames

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def backend_name(backend: object) -> str:
    """The class of a backend with its module, by which its plugin is known."""
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


def returned(backend: object, kind: str, method: str, expected: type, value: T) -> T:
    """``value``, which ``backend.method()`` gave, once it was seen to be of the ``expected`` type.

    :raises PluginIncompleteError: it is something else.
    """
    if isinstance(value, expected):
        return value
    got = "None" if value is None else f"a {type(value).__name__}"
    raise PluginIncompleteError(
        f"the {kind} plugin's backend {backend_name(backend)} returned {got} from {method}()",
        where=backend_name(backend),
        why=f"{method}() must return a {expected.__name__}",
        remedy=f"choose another {kind} plugin (job.{kind}), and report it to this one's authors",
    )


def asked(
    backend: object, kind: str, method: str, expected: type, ask: Callable[[], T], *, of_program: bool = False
) -> T:
    """What ``ask``, a call of ``backend.method``, gives, once it was seen to be of the ``expected`` type.

    :param of_program: the backend is the program's own: what it raises is left as it is.
    :raises PluginError: it raised: names the backend and its line. :raises PluginIncompleteError: it is something else.
    """
    try:
        value = ask()
    except Twister2Error:
        raise
    except Exception as error:
        if of_program:
            raise
        import traceback

        at = [*frames(error)][-1]
        raise PluginError(
            f"the {kind} plugin's backend {backend_name(backend)} raised {type(error).__name__} in {method}()",
            where=f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno} in {at.tb_frame.f_code.co_name}",
            why=str(error) or "it says no more",
            remedy=f"choose another {kind} plugin (job.{kind}), and report it to this one's authors",
            details={"traceback": traceback.format_exc().rstrip()},
        ) from error
    return returned(backend, kind, method, expected, value)
