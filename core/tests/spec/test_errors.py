"""Errors on their way between processes."""

from __future__ import annotations

from twister2.spec.errors import UserCodeError, from_dict


def test_an_error_travels_whole() -> None:
    details = {"traceback": "line\n" * 1500, "worker": 3, "tail": ["a", "b"]}
    error = UserCodeError("x" * 10_000, why="y", remedy="z", where="here", details=details)
    again = from_dict(error.to_dict())
    assert type(again) is UserCodeError
    assert vars(again) == vars(error)


def test_the_middle_of_very_long_texts_is_left_out() -> None:
    data = "begin" + "x" * 10_000_000 + "end"
    error = UserCodeError(data, why=data, remedy="", details={"traceback": data, "tail": [data], "of": {"it": data}})
    again = from_dict(error.to_dict())
    for text in (
        again.what,
        again.why,
        *(again.details["traceback"], again.details["tail"][0], again.details["of"]["it"]),
    ):
        assert len(text) <= 10_000
        head, left_out, tail = text.split(" ... ")
        assert head.startswith("begin")
        assert tail.endswith("end")
        assert left_out == f"{len(data) - len(head) - len(tail):,} characters left out"
    assert vars(from_dict(again.to_dict())) == vars(again), "on its way further nothing more is left out"
    assert error.what == data
