"""Running a suite against a mutant without pytest's collection: which of its tests fail?"""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twister2_testkit.capabilities import ConformanceSuite


def failures(
    suite: type[ConformanceSuite], *, first: bool = False, only: str = "", names: Iterable[str] | None = None
) -> list[str]:
    """Names of the tests of a suite that fail; skipped ones have not failed.

    Tests may be parametrized; tests that need fixtures are not run.

    :param first: stop at the first failure. :param only: run this test only. :param names: run these, in this order.
    :raises ValueError: there is no test to run, so that nothing could fail.
    """
    failed = []
    chosen = [only] if only else tests_of(suite) if names is None else list(names)
    runnable = [name for name in chosen if not _needs_fixtures(getattr(suite, name))]
    if not runnable:
        raise ValueError(f"none of {chosen} of {suite.__name__} can be run here")
    for name in runnable:
        for arguments in _parameters(getattr(suite, name)):
            if _fails(suite, name, arguments):
                failed.append(name)
                if first:
                    return failed
                break
    return failed


def tests_of(suite: type) -> list[str]:
    """Names of the tests of a suite, or of a part of one, in order; ``test_... = None`` takes one out."""
    return sorted(name for name in dir(suite) if name.startswith("test_") and callable(getattr(suite, name)))


def _fails(suite: type[ConformanceSuite], name: str, arguments: dict[str, Any]) -> bool:
    try:
        getattr(suite(), name)(**arguments)
    except pytest.skip.Exception:
        return False
    except (Exception, pytest.fail.Exception):
        return True
    return False


def _needs_fixtures(test: Any) -> bool:
    wanted = set(inspect.signature(test).parameters) - {"self"}
    return any(not wanted <= arguments.keys() for arguments in itertools.islice(_parameters(test), 1))


def _parameters(test: Any) -> Iterator[dict[str, Any]]:
    """Every combination of the arguments that ``pytest.mark.parametrize`` gives the test."""
    axes = []
    for mark in getattr(test, "pytestmark", []):
        if mark.name != "parametrize":
            continue
        names, values = mark.args[0], mark.args[1]
        if isinstance(names, str):
            names = [part.strip() for part in names.split(",")]
        axes.append([dict(zip(names, value if len(names) > 1 else (value,), strict=True)) for value in values])
    for combination in itertools.product(*axes):
        yield {name: value for chosen in combination for name, value in chosen.items()}
