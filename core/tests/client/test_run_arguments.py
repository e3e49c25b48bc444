"""What ``twister2.run`` refuses before anything is read or started."""

from __future__ import annotations

import pathlib

import pytest

import twister2
from twister2.spec.errors import UsageError


@pytest.mark.parametrize("key", ["args", "settings", "files"])
@pytest.mark.parametrize("value", ["abc", b"abc", pathlib.Path("abc")])
def test_one_text_in_place_of_a_list(key, value):
    with pytest.raises(UsageError, match=f"{key}=.*abc.* is no list") as caught:
        twister2.run(lambda env: None, **{key: value})
    assert f"{key}=[{value!r}]" in caught.value.remedy


@pytest.mark.parametrize("config", [{"job.workers": 2}, {"job": 2}, {"job": None}])
def test_a_configuration_that_is_no_table(config):
    with pytest.raises(UsageError, match="is not a table"):
        twister2.run(lambda env: None, config=config)


@pytest.mark.parametrize("program", [None, 3, ["program.py"]])
def test_no_program(program):
    with pytest.raises(UsageError, match="is no worker program"):
        twister2.run(program)
