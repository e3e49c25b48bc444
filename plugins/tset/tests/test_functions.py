"""Whether a function asks for its surroundings is seen from its signature, however it is written."""

from __future__ import annotations

import functools
import inspect
import math
import operator

import pytest

from twister2_tset.functions import wants_context


def decorated(function):
    @functools.wraps(function)
    def around(*args, **kwargs):
        return function(*args, **kwargs)

    return around


def marked(record, context):
    return record, context


marked.anything = True


class Callable:
    def __call__(self, record, context):
        return record, context

    def method(self, record, *, context):
        return record, context


def with_local(record):
    context = record
    return context


FUNCTIONS = [
    lambda record: record,
    lambda record, context: record,
    lambda context: context,
    lambda record, context=None: record,
    lambda record, other=1, context=None: record,
    lambda record, context, other=1: record,
    lambda record, *, context: record,
    lambda record, *, context=1: record,
    lambda record, *, other=1, context: record,
    lambda record, *context: record,
    lambda record, **context: record,
    lambda record, *rest, context: record,
    lambda record, /, context: record,
    with_local,
    marked,
    decorated(lambda record, context: record),
    decorated(lambda record: record),
    decorated(lambda record, **context: record),
    functools.partial(lambda record, context: record, 1),
    functools.partial(lambda record, context: record, context=1),
    Callable(),
    Callable().method,
    Callable,
    len,
    max,
    math.hypot,
    operator.itemgetter(0),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_as_inspect_sees_it(function):
    try:
        parameter = inspect.signature(function).parameters.get("context")
    except (TypeError, ValueError):
        parameter = None
    named = parameter is not None and parameter.default is parameter.empty
    if named and parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        named = False  # it can be called without any
    assert wants_context(function) == named
