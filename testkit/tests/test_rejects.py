"""Which tests of a suite fail: those that ran, and no others."""

from __future__ import annotations

import pytest

from twister2_testkit.rejects import failures


class Suite:
    def test_fails(self) -> None:
        raise AssertionError("as it should")

    def test_needs_a_fixture(self, tmp_path: object) -> None:
        """Nobody gives it one here."""

    def test_passes(self) -> None:
        """Nothing is wrong."""

    @pytest.mark.parametrize("number", [1, 2])
    def test_passes_with_one_only(self, number: int) -> None:
        assert number == 1

    def test_skips(self) -> None:
        pytest.skip("always")


def test_who_fails() -> None:
    assert failures(Suite) == ["test_fails", "test_passes_with_one_only"]
    assert failures(Suite, first=True) == ["test_fails"]
    assert failures(Suite, names=["test_skips", "test_passes_with_one_only"]) == ["test_passes_with_one_only"]
    assert failures(Suite, only="test_passes") == []


@pytest.mark.parametrize("names", [[], ["test_needs_a_fixture"]])
def test_where_nothing_can_run_nothing_is_told(names: list[str]) -> None:
    """An empty choice is not the choice of all, and a test that lacks a fixture has not failed."""
    with pytest.raises(ValueError, match="can be run here"):
        failures(Suite, names=names)


def test_a_test_that_is_taken_out_is_none() -> None:
    class Less(Suite):
        test_fails = None  # type: ignore[assignment]

    assert failures(Less) == ["test_passes_with_one_only"]
