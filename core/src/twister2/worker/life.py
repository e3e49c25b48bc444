"""One attempt of one worker, from its start to its result: the same in a process and in a thread."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from twister2.worker.environment import Environment, Start
from twister2.worker.program import called, user_error
from twister2.worker.results import pickled_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.control.package import Manifest
    from twister2.worker.conversation import Conversation


def live(
    link: Conversation,
    function: Callable[[Any], Any],
    manifest: Manifest,
    start: Callable[[], Start],
    *,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
    settle: Callable[[Environment], None] = lambda environment: None,
) -> bytes | None:
    """Call the program's function in its environment; its pickled result, or None when it failed, of which the master
    has been told.

    :param start: what the master said when all had joined. :param around: is entered around the call.
    :param settle: what else of the program is to end once the function has returned.
    """
    pid = os.getpid()
    environment: Environment | None = None
    try:
        environment = Environment(link, start(), manifest)
        with around():
            returned = called(function, environment)
        if os.getpid() != pid:
            os._exit(0)  # a process that the program forked and let return: only the worker itself speaks for it
        link.poll()
        link.raise_if_aborted()
        settle(environment)
        # arrays in it may lie in a transport's memory, which ends with the network
        result = pickled_result(returned, environment) if manifest.want_results else b""
        environment.close(aborted=False)
        return result
    except BaseException as error:  # whatever it is, the job must hear of it
        if os.getpid() != pid:
            traceback.print_exc()
            flush_streams()
            os._exit(1)
        link.fail(user_error(error, "running", worker=link.worker_id))
        if environment is not None:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                environment.close(aborted=True)
        return None


def flush_streams() -> None:
    """Write what the program has printed and is kept back; it may have closed or replaced its streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
