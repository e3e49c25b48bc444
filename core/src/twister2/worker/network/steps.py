"""Numbered steps: who is in which, and what they do."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from twister2.spec.errors import (
    NetworkError,
    OperatorError,
    StepAbortedError,
    StepMismatchError,
    Twister2Error,
    UserCodeError,
)
from twister2.spec.network import Fingerprint, Group, Step
from twister2.spec.tracebacks import user_line, user_traceback
from twister2.spec.user_code import why_and_remedy
from twister2.worker.differences import remedy
from twister2.worker.groups import of_group
from twister2.worker.network.blame import placed

if TYPE_CHECKING:
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.wire import Message

_known: dict[tuple[str, str, str], tuple[Fingerprint, int, bytes]] = {}
_MANY = 10_000


def fingerprint_of(kind: str, shape: str, line: str) -> tuple[Fingerprint, int, bytes]:
    """The fingerprint, its 64-bit hash (kind and shape only), and its description as it travels."""
    key = (kind, shape, line)
    known = _known.get(key)
    if known is None:
        if len(_known) > _MANY:
            _known.clear()
        digest = blake2b(f"{kind}\0{shape}".encode(), digest_size=8).digest()
        story = "\0".join((kind, shape[:500], line)).encode("utf-8", "replace")
        known = _known[key] = (Fingerprint(kind, shape, line), int.from_bytes(digest, "little"), story)
    return known


class Receiver(Protocol):
    """What takes the messages of an edge."""

    def accept(self, message: Message, /) -> None: ...

    def grant(self, message: Message, /) -> None: ...

    def close(self) -> None: ...

    @property
    def is_through(self) -> bool:
        """Whether nobody waits for what this worker might send."""
        ...


class NumberedStep(Step):
    """A step that is open on this worker."""

    __slots__ = (
        "closed_edges",
        "digest",
        "fingerprint",
        "group",
        "held",
        "network",
        "number",
        "ports",
        "sends",
        "story",
        "told",
    )

    def __init__(
        self, network: WorkerNetwork, group: Group, number: int, known: tuple[Fingerprint, int, bytes]
    ) -> None:
        self.network = network
        self.group = group
        self.number = number
        self.fingerprint, self.digest, self.story = known
        self.ports: dict[int, Receiver] = {}
        self.closed_edges: set[int] = set()
        self.told: set[int] = set()
        """Workers that have the step's description from this one."""
        self.held: dict[int, list[Message]] = {}
        """Messages for ports that are not open yet, by edge."""
        self.sends: list[Any] = []
        """Messages whose frames a transport still needs."""

    def __enter__(self) -> NumberedStep:
        return self

    def __exit__(self, *exc: object) -> None:
        error = exc[1]
        if error is None:
            self.network.end_step(self)
        else:
            self.network.fail_step(self, as_failure(error, self))

    @property
    def is_through(self) -> bool:
        """Whether all that others may wait for has been done here, though the step has not ended."""
        if not self.ports:
            return bool(self.closed_edges)
        return not self.held and all(port.is_through for port in self.ports.values())

    def __repr__(self) -> str:
        return f"<step {self.number} of group {self.group.number}: {self.fingerprint.kind} {self.fingerprint.shape}>"


def as_failure(error: object, step: NumberedStep) -> Twister2Error | None:
    """What to tell the master about an exception that left a step; None when it comes from the master itself."""
    if isinstance(error, StepAbortedError):
        return None
    if isinstance(error, Twister2Error):
        return placed(error, step)
    assert isinstance(error, BaseException)
    at, line, me = user_line(error), step.fingerprint.line, step.network.worker_id
    called = [f"called at {line}"] if line and line not in at else []
    why, remedy = why_and_remedy(error, str(error) or type(error).__name__, "see the traceback")
    return UserCodeError(
        f"{type(error).__name__} in step {step.number} ({step.fingerprint.kind})",
        why=why,
        remedy=remedy,
        where=", ".join([at, f"worker {me}", *called] if at else [line, f"worker {me}"]),
        details={"traceback": user_traceback(error), "type": type(error).__name__, "worker": me, "line": line},
    )


def _number(step: NumberedStep) -> str:
    return f"{step.number}{of_group(step.group.number, step.group.members)}"


def _told(step: NumberedStep) -> str:
    mine = step.fingerprint
    return f"'{f'{mine.kind} {mine.shape}'.strip()}' ({mine.line})"


def mismatch(me: int, step: NumberedStep, message: Message) -> StepMismatchError:
    """The error for a member that does something else under the same step number; names both lines."""
    kind, _, rest = message.story.decode("utf-8", "replace").partition("\0")
    shape, _, line = rest.partition("\0")
    mine = step.fingerprint
    theirs = f"{kind} {shape}".strip() or "something else"
    return StepMismatchError(
        f"workers {me} and {message.peer} do different things in step {_number(step)}",
        why=f"worker {me} is in {_told(step)}, worker {message.peer} in '{theirs}' ({line or 'unknown line'})",
        remedy=remedy((mine.kind, mine.shape, mine.line), (kind, shape, line)),
        where=mine.line,
        details={"lines": {str(me): mine.line, str(message.peer): line}},
    )


def other_attempt(message: Message, mine: int) -> NetworkError:
    """The error for a message of a later attempt than this worker is in."""
    return NetworkError(
        f"worker {message.peer} is in attempt {message.attempt}, this worker in {mine}",
        why="a worker outlived its attempt",
        remedy="nothing to do by hand: the job master starts a fresh attempt",
    )


def explained(network: WorkerNetwork, error: StepMismatchError, step: NumberedStep | None) -> StepMismatchError:
    """A transport found that another member is in another call. The master knows the lines of both within a beat or
    two, and aborts; if it does not, the error names this worker's line at least.
    """
    if "lines" in error.details:
        return error
    if step is not None and "counts" in error.details:  # in the same call: the master knows no more of it
        error.why = f"{error.why}; worker {network.worker_id} is in {_told(step)}"
        error.where = step.fingerprint.line
        error.details["lines"] = {str(network.worker_id): error.where}
        return error
    try:
        network.await_cause()
    except StepMismatchError as known:
        return known
    if step is None:
        return error
    me, peer, mine = network.worker_id, error.details.get("peer", "?"), step.fingerprint
    return StepMismatchError(
        f"workers {me} and {peer} do different things in step {_number(step)}",
        why=f"worker {me} is in {_told(step)}, worker {peer} is not ({error.what})",
        remedy="let all workers make the same collective calls in the same order, with the same shapes",
        where=mine.line,
        details={"lines": {str(me): mine.line}, "peer": peer},
    )


def left_open(step: NumberedStep) -> OperatorError:
    """The error for a program that ends without having waited for a call that it started, or run an operator that it
    made.
    """
    mine = step.fingerprint
    return OperatorError(
        f"worker {step.network.worker_id} ended with an open call: {mine.kind}, step {step.number}",
        why="it was started, and not brought to its end; other members may wait for this one in it",
        remedy="call wait() on every request, and run() or close() on every operator, before the function returns",
        where=mine.line,
    )
