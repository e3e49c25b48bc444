"""Ctrl-C of a client: heard where it can be acted on, kept where it would cut something in two."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Iterator

import pytest

from twister2.client.interrupts import OF_COMMANDS, Interrupts, TerminatedError, remembered


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts = Interrupts()
    interrupts.begin()
    yield interrupts
    interrupts.end()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_one_that_comes_elsewhere_waits(interrupts: Interrupts) -> None:
    ctrl_c()
    ctrl_c()
    heard = []
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        heard.append("not before what had come")
    with interrupts.heard():
        heard.append("once")
    assert heard == ["once"]


def test_inside_it_comes_at_once_and_the_next_one_not_while_that_is_answered(interrupts: Interrupts) -> None:
    answered = []
    try:
        with interrupts.heard():
            ctrl_c()
            answered.append("too late")
    except KeyboardInterrupt:
        for _ in range(5):
            ctrl_c()
        answered.append("whole")
    assert answered == ["whole"]
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        """The next question."""


def test_one_that_nobody_heard_is_the_programs(interrupts: Interrupts) -> None:
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        interrupts.end()
    interrupts.end()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_a_further_one_after_one_that_was_acted_on_is_forgotten(interrupts: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        ctrl_c()
    ctrl_c()
    interrupts.end()


def test_a_handler_of_the_program_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        interrupts = Interrupts()
        interrupts.begin()
        with interrupts.heard():
            ctrl_c()
        interrupts.end()
        ctrl_c()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] * 2


def test_in_another_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    raised: list[BaseException] = []

    def body() -> None:
        try:
            interrupts = Interrupts()
            interrupts.begin()
            with interrupts.heard():
                pass
            interrupts.end()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(10)
    assert not raised
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def of_a_command() -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *OF_COMMANDS)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in OF_COMMANDS:
        signal.signal(number, signal.SIG_DFL)
    interrupts = Interrupts(OF_COMMANDS)
    interrupts.begin()
    yield interrupts
    interrupts.end()
    assert [signal.getsignal(number) for number in OF_COMMANDS] == [signal.SIG_DFL, signal.SIG_DFL]
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", OF_COMMANDS)
def test_a_signal_that_ends_a_command_is_named_and_heard_once(of_a_command: Interrupts, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    with pytest.raises(TerminatedError, match=number.name) as caught, of_a_command.heard():
        """It comes at the beginning."""
    assert caught.value.number is number
    with of_a_command.heard():
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt), of_a_command.heard():
        ctrl_c()
    with of_a_command.heard():
        os.kill(os.getpid(), number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_python_drops_before_the_job_begins_is_heard() -> None:
    """In a callback of its own, as importing has them for its locks."""

    class Thing:
        pass

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts = Interrupts()
    try:
        with remembered():
            thing = Thing()
            callback = weakref.ref(thing, lambda _: ctrl_c())
            del thing
            assert callback() is None
            interrupts.begin()
            with pytest.raises(KeyboardInterrupt), interrupts.heard():
                """It comes at the beginning."""
            with interrupts.heard():
                """And once."""
            interrupts.end()
        with pytest.raises(KeyboardInterrupt), remembered():
            ctrl_c()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        interrupts.begin()
        with interrupts.heard():
            """That one was heard."""
    finally:
        interrupts.end()
        signal.signal(signal.SIGINT, before)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupts = Interrupts(OF_COMMANDS)
        interrupts.begin()
        with interrupts.heard():
            os.kill(os.getpid(), signal.SIGHUP)
        interrupts.end()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_script_keeps_its_signals() -> None:
    interrupts = Interrupts()
    before = [signal.getsignal(number) for number in OF_COMMANDS]
    interrupts.begin()
    assert [signal.getsignal(number) for number in OF_COMMANDS] == before
    interrupts.end()
