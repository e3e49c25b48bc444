"""The frame of the suites: closed capabilities, reasons, the summary."""

from __future__ import annotations

import attrs
import pytest

from twister2_testkit.capabilities import Capabilities

pytest_plugins = ["pytester"]


@attrs.frozen(kw_only=True)
class Two(Capabilities):
    one: bool = False
    two: bool = False


def test_everything_is_closed_by_default():
    assert not any(Two().is_open(name) for name in Two.names())


def test_an_unknown_name_is_refused_everywhere():
    with pytest.raises(TypeError, match="three"):
        Two(why={"three": "x"})
    with pytest.raises(KeyError, match="three"):
        Two().is_open("three")


def test_open_with_a_reason_for_being_closed_is_a_contradiction():
    with pytest.raises(TypeError, match="one is open"):
        Two(one=True, why={"one": "cannot"})


def test_a_closed_capability_skips_with_the_plugins_sentence_and_fails_without_one():
    with pytest.raises(pytest.skip.Exception, match="it is small"):
        Two(why={"one": "it is small"}).require("one")
    with pytest.raises(pytest.fail.Exception, match="without a reason"):
        Two().require("one")
    Two(one=True).require("one")


SUITE = """
import attrs, pytest
from twister2_testkit.capabilities import Capabilities, ConformanceSuite, needs

@attrs.frozen(kw_only=True)
class C(Capabilities):
    fast: bool = False
    small: bool = False

class SpeedSuite(ConformanceSuite):
    def test_plain(self): pass
    @needs("fast")
    def test_fast(self, tmp_path): raise RuntimeError("must not run")
    @needs("small")
    def test_small(self): pass

class TestSlow(SpeedSuite):
    capabilities = C(small=True, why={"fast": "it walks"})
    def test_bad_skip(self): pytest.skip()
"""


def test_summary_names_the_reasons_and_a_skip_without_one_fails(pytester):
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2, skipped=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*::TestSlow (*): *1 failed, 2 passed, 1 skipped", "    1 skipped: capability fast is closed: it walks"]
    )
    result.stdout.fnmatch_lines(["*a conformance test was skipped without a reason*"])


def test_the_marks_of_the_suites_are_known_where_pytest_timeout_is_not_installed(pytester):
    pytester.makepyfile("from twister2_testkit.comm import CommSuite as TestIt")
    result = pytester.runpytest_subprocess("--strict-markers", "--collect-only", "-q", "-p", "no:timeout")
    assert result.ret == 0, result.stdout.str()
