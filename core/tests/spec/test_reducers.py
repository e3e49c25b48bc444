"""Reductions have the same names wherever they come from."""

from __future__ import annotations

import operator
import sys
from types import SimpleNamespace

import numpy
import pytest

from twister2.spec.errors import OperatorError
from twister2.spec.reducers import FUNCTIONS, UFUNCS, name_of, name_on_arrays


class Op:
    """As those of mpi4py: with ``__eq__``, and so without a hash."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Op) and self.number == other.number

    def __call__(self, left, right):
        return left


NAMES = {"SUM": "sum", "PROD": "prod", "MIN": "min", "MAX": "max", "LAND": "and", "LOR": "or", "LXOR": "xor",
         "BAND": "band", "BOR": "bor", "BXOR": "bxor"}  # fmt: skip


@pytest.fixture
def mpi(monkeypatch):
    module = SimpleNamespace(Op=Op, **{name: Op(number) for number, name in enumerate([*NAMES, "MAXLOC"])})
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_ops_of_mpi4py_have_names(mpi, name):
    assert name_of(getattr(mpi, name)) == name_on_arrays(getattr(mpi, name)) == NAMES[name]


def test_other_ops_of_mpi4py_are_refused_with_what_to_give(mpi):
    assert set(NAMES.values()) == set(FUNCTIONS)
    for op in (mpi.MAXLOC, Op(99)):
        with pytest.raises(OperatorError, match="none of SUM, PROD") as caught:
            name_of(op)
        assert "function of two values" in caught.value.remedy
        assert "(value, rank)" in caught.value.remedy


def test_an_mpi4py_that_is_being_imported_has_no_ops(monkeypatch):
    for module in (None, SimpleNamespace()):
        monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)
        assert name_of(Op(0)) == ""


@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs_have_names_on_arrays_only(name):
    ufunc = getattr(numpy, UFUNCS[name])
    assert name_on_arrays(ufunc) == name
    assert name_of(ufunc) == ""


def test_what_has_no_name():
    for op in (numpy.hypot, numpy.frompyfunc(operator.add, 2, 1), len, [], {}, None, 3):
        assert name_of(op) == name_on_arrays(op) == ""
    assert name_of("median") == "median"
    assert (name_of(operator.add), name_of(max), name_on_arrays(min)) == ("sum", "max", "min")
