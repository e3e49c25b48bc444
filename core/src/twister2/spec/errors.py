"""Every error this system raises on purpose: a code, what happened, where, why, and what to do about it.

An error travels between processes as plain data (:meth:`Twister2Error.to_dict`), never as a pickle, and is rebuilt as
the same class on the other side (:func:`from_dict`). The cause, if any, is ``__cause__`` as usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_CODE: dict[str, type[Twister2Error]] = {}
_CONTROLS = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
"""Control characters, and those that turn the direction of text, as they are shown."""
_LONGEST = 10_000
"""Characters of a text of an error that travel: programs raise ``ValueError(data)``, too."""


def printable(text: str) -> str:
    """Text of programs and their data as a terminal may be given it: nothing in it moves the cursor, clears the screen
    or turns what stands around it.
    """
    return text.translate(_CONTROLS)


class Twister2Error(Exception):
    """Base of all errors of this system.

    :param what: one sentence: what went wrong, naming the thing.
    :param why: the reason as far as it is known.
    :param remedy: what the reader can do now.
    :param where: file and key, host, worker, operator and partition...: whatever narrows it down.
    :param details: plain data (JSON types) for programs and for longer reports, e.g. a remote traceback.
    """

    code: ClassVar[str] = "T2-0000"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" not in vars(cls) or cls.code in _BY_CODE:
            raise TypeError(f"{cls.__name__} needs an error code of its own")
        _BY_CODE[cls.code] = cls

    def __init__(
        self, what: str, *, why: str, remedy: str, where: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(what)
        self.what, self.why, self.remedy, self.where = what, why, remedy, where
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what}", f"  because: {self.why}", f"  try:     {self.remedy}"]
        if self.where:
            lines.insert(1, f"  where:   {self.where}")
        return printable("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return from_dict, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-able data; :func:`from_dict` is the inverse, but for the middle of very long texts, which
        is left out.
        """
        told: dict[str, Any] = _without_middles(
            {
                "code": self.code,
                "what": self.what,
                "why": self.why,
                "remedy": self.remedy,
                "where": self.where,
                "details": self.details,
            }
        )
        return told


_BY_CODE[Twister2Error.code] = Twister2Error


def from_dict(data: Mapping[str, Any]) -> Twister2Error:
    """Rebuild an error from :meth:`Twister2Error.to_dict`; an unknown code becomes a plain :class:`Twister2Error`."""
    cls = _BY_CODE.get(str(data.get("code")), Twister2Error)
    error = cls.__new__(cls)
    Twister2Error.__init__(
        error,
        str(data.get("what", "")),
        why=str(data.get("why", "")),
        remedy=str(data.get("remedy", "")),
        where=str(data.get("where", "")),
        details=data.get("details") or {},
    )
    return error


def _without_middles(data: Any) -> Any:
    """JSON data with no text of more than :data:`_LONGEST` characters: their beginnings and ends stay."""
    if isinstance(data, str) and len(data) > _LONGEST:
        kept = _LONGEST // 2 - 50
        return f"{data[:kept]} ... {len(data) - 2 * kept:,} characters left out ... {data[-kept:]}"
    if isinstance(data, dict):
        return {key: _without_middles(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_without_middles(value) for value in data]
    return data


def error_codes() -> dict[str, type[Twister2Error]]:
    """All codes and their classes, for the error catalogue in the documentation."""
    return dict(sorted(_BY_CODE.items()))


# -- plugins -----------------------------------------------------------------------------------------------------------


class PluginError(Twister2Error):
    """Base of everything that is wrong with a plugin."""

    code = "T2-P100"


class PluginNotFoundError(PluginError):
    """No installed distribution provides the selected name."""

    code = "T2-P101"


class PluginBrokenError(PluginError):
    """The plugin is installed, but importing it failed."""

    code = "T2-P102"


class PluginIncompatibleError(PluginError):
    """The plugin was written for another version of its kind's interface."""

    code = "T2-P103"


class PluginIncompleteError(PluginError):
    """The plugin does not implement a required hook, is not a subclass of its spec, or returned a wrong object."""

    code = "T2-P104"


class PluginConflictError(PluginError):
    """Two distributions provide the same name of the same kind."""

    code = "T2-P105"


class PluginHookError(PluginError):
    """A hook is misspelt, has unknown arguments, or overrides a spec method without ``@hookimpl``."""

    code = "T2-P106"


class PluginMismatchError(PluginError):
    """A worker has another version of a plugin, of Python or of the core than the submitting side pinned."""

    code = "T2-P107"


class CapabilityError(PluginError):
    """What one plugin needs is not offered by the others chosen for this job, or a closed capability was used."""

    code = "T2-P108"


# -- configuration -----------------------------------------------------------------------------------------------------


class ConfigError(Twister2Error):
    """One or more problems in the configuration, all reported at once (``details["problems"]``)."""

    code = "T2-C201"


class UsageError(Twister2Error):
    """A call or a command line that cannot mean anything: wrong argument, wrong place, no ``__main__`` guard."""

    code = "T2-C202"


# -- resources and the life of a job -----------------------------------------------------------------------------------


class ResourceError(Twister2Error):
    """The resource manager refused or failed."""

    code = "T2-R300"


class MissingToolError(ResourceError):
    """A program or Python module that the resource manager needs is absent."""

    code = "T2-R301"


class SubmissionRefusedError(ResourceError):
    """The resource manager did not accept the job, or a later call for it: quota, permission, unknown partition, too
    many resources... One that is away, or only for the moment cannot, has not refused.
    """

    code = "T2-R302"


class JobNotFoundError(ResourceError):
    """No job of that name or id is known here."""

    code = "T2-R303"


class ResourcesExceededError(ResourceError):
    """More was asked for than there is (memory for N workers, disk, ports)."""

    code = "T2-R304"


class JobFailedError(Twister2Error):
    """The job ended FAILED and nothing more precise is known."""

    code = "T2-J400"


class UserCodeError(JobFailedError):
    """The user's own code raised; ``details`` has worker, step, operator, partition, record and the traceback."""

    code = "T2-J401"

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n{printable(str(self.details['traceback']))}" if self.details.get("traceback") else text


class WorkerExitedError(JobFailedError):
    """A worker's process ended by itself: exit code or signal, with the last lines it wrote."""

    code = "T2-J402"


class WorkerLostError(JobFailedError):
    """A worker stopped beating, or its connection broke."""

    code = "T2-J403"


class MasterLostError(JobFailedError):
    """The job master went away and did not come back in time."""

    code = "T2-J404"


class JobKilledError(JobFailedError):
    """Somebody killed the job: a user, Ctrl-C, a walltime."""

    code = "T2-J405"


class StepMismatchError(JobFailedError):
    """Members of a group entered different collective steps, or one returned while others wait."""

    code = "T2-J406"


class StepAbortedError(JobFailedError):
    """Another worker failed; raised on all others from the call they are in, and again on every later call."""

    code = "T2-J407"


class DeadlineError(JobFailedError):
    """A wait reached its deadline; the text says what was waited for and who was missing."""

    code = "T2-J408"


class ResultError(JobFailedError):
    """A worker's result could not be returned: not picklable, or larger than the guard allows."""

    code = "T2-J409"


class PackageError(JobFailedError):
    """The program could not be packed, unpacked, imported or called: a missing file, a wrong hash, no such function."""

    code = "T2-J410"


# -- data plane --------------------------------------------------------------------------------------------------------


class NetworkError(Twister2Error):
    """A transport failed, or a message is truncated, corrupted, foreign or of an old attempt."""

    code = "T2-N500"


class SerializationError(NetworkError):
    """A value cannot be sent: it cannot be pickled, or a registered serialiser failed."""

    code = "T2-N501"


class KeyHashError(NetworkError):
    """A key has no stable hash (unhashable, or a type whose equality this system does not know)."""

    code = "T2-N502"


class OperatorError(Twister2Error):
    """A communication operator was used wrongly: unknown name, missing option, wrong shape or type of value."""

    code = "T2-N503"


class MemoryBudgetError(Twister2Error):
    """The worker's memory budget is exhausted and nothing can be spilled; names the holders."""

    code = "T2-M510"


class SpillError(Twister2Error):
    """Data cannot be spilled: no folder, a full disk, a disk that fails; names the folders and the option."""

    code = "T2-M511"


class GraphError(Twister2Error):
    """A task graph is not valid: cycle, duplicate name, unconnected input, missing option."""

    code = "T2-G520"


class DataError(Twister2Error):
    """Base of what can be wrong with a source or a sink."""

    code = "T2-D600"


class DataNotFoundError(DataError):
    """No such file, an empty glob, an unknown topic or table."""

    code = "T2-D601"


class DataAccessError(DataError):
    """It exists, but cannot be read or written: permission, disk full, connection."""

    code = "T2-D602"


class DataFormatError(DataError):
    """It was read, but it is not what it should be: encoding, truncated archive, malformed row, other schema."""

    code = "T2-D603"


class StateError(Twister2Error):
    """A state store failed, or a checkpoint cannot be read back."""

    code = "T2-S700"
