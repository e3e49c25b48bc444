"""Conversations with the agents of all hosts at once."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import ResourceError, Twister2Error, from_dict
from twister2_rm_standalone.hosts.conversation import Conversation
from twister2_rm_standalone.hosts.ssh import Ssh, failure, unfit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2_rm_standalone.config import StandaloneConfig

Replies = tuple[dict[str, Any], dict[str, Twister2Error]]
DOWN_S = 15.0
"""How long a host that gave no answer is taken to be down, where the caller can do without it."""
HELLO_S = 20.0
"""How much longer than the connection a host's Python may take to say its first word."""
TICK_S = 0.05


@attrs.define
class _Round:
    """One question to several hosts.

    :ivar requests: by host, of those that are asked at all. :ivar again: hosts that were dialled a second time.
    """

    requests: dict[str, dict[str, Any]]
    selector: selectors.BaseSelector
    replies: dict[str, Any] = attrs.field(factory=dict)
    errors: dict[str, Twister2Error] = attrs.field(factory=dict)
    again: set[str] = attrs.field(factory=set)

    def left(self) -> list[str]:
        """Hosts that are still to answer."""
        return [host for host in self.requests if host not in self.replies and host not in self.errors]

    def forget(self, conversation: Conversation) -> None:
        for number in (conversation.out, conversation.into):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(number)


class Fleet:
    """The hosts of one job as this process talks to them."""

    def __init__(self, config: StandaloneConfig, job_id: str) -> None:
        self.job_id = job_id
        self._config = config
        self._ssh = Ssh(config, job_id)
        self._open: dict[str, Conversation] = {}
        self._owner = os.getpid()
        self._down: dict[str, tuple[float, ResourceError]] = {}
        self._number = 0

    def ask(self, requests: Mapping[str, Mapping[str, Any]], timeout_s: float, *, patient: bool = True) -> Replies:
        """Send each host its request, wait for all replies.

        :param patient: ask hosts too that did not answer a moment ago.
        :returns: replies and errors by host: what the host's agent raised, or why it cannot be reached.
        """
        if self._owner != os.getpid():  # a fork: the conversations are the parent's
            self._open, self._owner = {}, os.getpid()
        errors: dict[str, Twister2Error] = {}
        wanted = {}
        for host, request in requests.items():
            down = self._down.get(host)
            if down is not None and not patient and time.monotonic() < down[0]:
                errors[host] = down[1]
                continue
            self._number += 1
            more = {"id": self._number, "job_id": self.job_id, "folder": self._config.host_folder}
            wanted[host] = {**request, **more}
        with selectors.DefaultSelector() as selector:
            turn = _Round(wanted, selector, errors=errors)
            self._answered(turn, timeout_s)
        for host, error in turn.errors.items():
            if error.details.get("unreachable") and isinstance(error, ResourceError):
                self._down[host] = (time.monotonic() + DOWN_S, error)
        for host in turn.replies:
            self._down.pop(host, None)
        return turn.replies, {host: turn.errors[host] for host in requests if host in turn.errors}

    def close(self) -> None:
        """End the conversations; shared connections go when nobody has used them for a while."""
        for conversation in self._open.values():
            conversation.close()
        self._open = {}

    def hang_up(self, hosts: list[str]) -> None:
        """The job has ended: end the shared connections too."""
        self.close()
        self._ssh.hang_up(hosts)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _answered(self, turn: _Round, timeout_s: float) -> None:
        """Wait until every host has answered, or cannot."""
        begun = time.monotonic()
        for host in turn.requests:
            self._begin(turn, host)
        while left := turn.left():
            for host in left:
                early = self._open[host].hello is None
                limit = min(timeout_s, self._config.connect_s + HELLO_S) if early else timeout_s
                if time.monotonic() - begun > limit:
                    self._drop(turn, host)
                    turn.errors[host] = _silent(host, limit, unreachable=early)
            for key, events in turn.selector.select(TICK_S):
                self._serve(turn, key.data, events)

    def _serve(self, turn: _Round, conversation: Conversation, events: int) -> None:
        host = conversation.host
        if host not in turn.left() or self._open.get(host) is not conversation:
            return
        if events & selectors.EVENT_WRITE and (not conversation.write() or not conversation.outgoing):
            turn.selector.unregister(conversation.into)
        if not events & selectors.EVENT_READ or self._take(turn, conversation) or host not in turn.left():
            return
        error, said = self._ended(turn, conversation)
        # it was idle for long and its agent has gone, or a connection that was shared went with another process
        harmless = conversation.hello is None or conversation.used or turn.requests[host]["do"] != "begin"
        if harmless and not said and host not in turn.again:
            turn.again.add(host)
            self._begin(turn, host)
        else:
            turn.errors[host] = error

    def _begin(self, turn: _Round, host: str) -> None:
        conversation = self._open.get(host)
        try:
            if conversation is None:
                conversation = Conversation(host, self._ssh.command(host, self._ssh.python()))
                self._open[host] = conversation
        except OSError as error:
            turn.errors[host] = ResourceError(
                f"ssh could not be started for host {host}",
                why=error.strerror or str(error),
                remedy="check the limit on processes (ulimit -u)",
            )
            return
        conversation.send(turn.requests[host])
        turn.selector.register(conversation.out, selectors.EVENT_READ, conversation)
        turn.selector.register(conversation.into, selectors.EVENT_WRITE, conversation)

    def _take(self, turn: _Round, conversation: Conversation) -> bool:
        """Take in what a host says; whether more can come."""
        host = conversation.host
        messages, more = conversation.read()
        for message in messages:
            if "python" in message:
                conversation.hello = message
                if problem := unfit(host, message):
                    turn.errors[host] = problem
                    self._drop(turn, host)
                    return False
            elif message.get("id") == turn.requests[host]["id"]:
                conversation.used = True
                if "error" in message:
                    turn.errors[host] = from_dict(message["error"])
                    turn.errors[host].where = turn.errors[host].where or f"host {host}"
                else:
                    turn.replies[host] = message.get("reply")
        return more

    def _ended(self, turn: _Round, conversation: Conversation) -> tuple[ResourceError, str]:
        """Why ssh has ended without a reply, and what it said."""
        host = conversation.host
        turn.forget(conversation)
        self._open.pop(host, None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            conversation.process.wait(2.0)
        said = conversation.words()
        code = conversation.close(0.5)
        error = failure(host, 255 if code is None else code, said, self._config.python or sys.executable)
        if conversation.hello is not None:
            error = ResourceError(
                f"the connection to host {host} broke",
                why=" ".join(said.split())[-300:] or "the host, or the network to it, has gone",
                remedy=f"check that it runs and can be reached: ssh {host} true",
                where=f"host {host}",
            )
        # one that answered a moment ago is dialled again: it may have begun something that is to be undone
        error.details["unreachable"] = conversation.hello is None
        return error, said.strip()

    def _drop(self, turn: _Round, host: str) -> None:
        conversation = self._open.pop(host, None)
        if conversation is not None:
            turn.forget(conversation)
            conversation.close()


def _silent(host: str, seconds: float, *, unreachable: bool) -> ResourceError:
    return ResourceError(
        f"host {host} gave no answer within {seconds:g} s",
        why="it is down, cut off, or very busy",
        remedy=f"check that it runs and can be reached: ssh {host} true; rm.standalone.connect_s is the limit",
        where=f"host {host}",
        details={"unreachable": unreachable},
    )
