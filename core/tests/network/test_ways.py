"""A wait that lasts says what lies in the ways to the others, so that a hang explains itself."""

from __future__ import annotations

import re

import pytest

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import DeadlineError
from twister2.worker.board import StepBoard
from twister2.worker.network import waiting
from twister2_testkit.fakes import LocalCluster


@pytest.mark.parametrize("transport", ["loopback", "inproc"])
def test_a_wait_that_lasts_tells_what_lies_in_its_ways(monkeypatch, transport):
    monkeypatch.setattr(waiting, "LOOK_S", 0.05)

    def main(env):
        told = []
        note = env.link.note_ways
        env.link.note_ways = lambda text: (told.append(text), note(text))
        with env.network.step("one way") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                env.link.exchange("test", "has waited", None, 60)
                port.send(0, 0, HeaderKind.DATA, [1])
            else:
                while not told:  # a busy machine may let nobody look within one of them
                    with pytest.raises(DeadlineError) as caught:
                        env.network.wait_until(lambda: port.receive() is not None, "a record", 1.0, step=step)
                    assert "worker 0" in caught.value.details["ways"]
                env.link.exchange("test", "has waited", None, 60)
                env.network.wait_until(lambda: port.receive() is not None, "a record", 60)
        return told

    _, told = LocalCluster(2, transport).run(main)
    assert re.match(r"has waited \d+ s; worker 0", told[0])
    assert told[-1] == "", "nobody need look any more"


def test_ways_lie_on_the_board_beside_the_steps():
    board = StepBoard(StepBoard.create())
    board.wait_for("somebody")
    board.note_ways("w" * 5000)
    assert board.ways == "w" * 3070
    assert board.waits_for == "somebody"
    board.note_ways("")
    assert board.ways == ""
    assert board.waits_for == "somebody"
    assert board.entries() == []
