"""Finding the user's function: importing the program, and turning what it raises into an error for people."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import pickle
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import (
    PackageError,
    PluginMismatchError,
    Twister2Error,
    UsageError,
    UserCodeError,
    WorkerExitedError,
)
from twister2.spec.tracebacks import user_line, user_traceback
from twister2.worker.descriptors import hint, none_left, out_of_descriptors

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from twister2.control.package import Manifest

MAIN = "__mp_main__"
"""Name under which workers import a program file, so that a ``__main__`` guard keeps its code from running."""
FOLDER, REPLACED = "__twister2_program__", "__twister2_replaced__"
"""In that module: where it was unpacked, and the module that had the name before."""


def check_python(manifest: Manifest) -> None:
    """Compare the Python minor version with the submitting side's.

    :raises PluginMismatchError: they differ.
    """
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here != manifest.python:
        raise PluginMismatchError(
            f"this worker runs Python {here}, the job was submitted with Python {manifest.python}",
            why="functions and results cannot be exchanged between different minor versions",
            remedy="give the workers the same Python version as the submitting side",
            where=f"{os.uname().nodename}, {sys.executable}",
        )


def load(manifest: Manifest, folder: pathlib.Path, *, in_process: bool = False) -> Callable[..., Any]:
    """Import the program and return its function.

    :param in_process: this process is the client's: its working directory and arguments are left alone. Once the job
        is over, :func:`unload` what this has brought into it.
    :raises PackageError: no such module or function.
    :raises UserCodeError: the program raised while it was imported.
    """
    program = manifest.program
    if not in_process and os.path.isdir(manifest.folder):
        os.chdir(manifest.folder)
    if not in_process:
        sys.argv = [str(program.get("original") or program.get("module") or "twister2"), *manifest.args]
    sys.path.insert(0, str(folder))
    try:
        if program["kind"] == "pickle":
            return _loaded_pickle(folder / program["path"])
        if program["kind"] == "file":
            module = _import_file(folder, program["path"], program["original"])
        else:
            module = importlib.import_module(program["module"])
    except Twister2Error:
        raise
    except BaseException as error:  # the user's own code may raise anything, SystemExit included
        raise user_error(error, "importing the program") from error
    return _lookup(module, program["function"])


def _loaded_pickle(path: pathlib.Path) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(path.read_bytes())
    return function


def unload(folder: pathlib.Path) -> None:
    """Let a process that lives on forget the program of a job that is over, and the modules that came with it: the
    next job has its own, maybe of the same names.
    """
    below = f"{folder}{os.sep}"
    main = sys.modules.get(MAIN)
    if main is not None and main.__dict__.get(FOLDER) == str(folder):
        replaced = main.__dict__[REPLACED]
        if replaced is None:
            del sys.modules[MAIN]
        else:
            sys.modules[MAIN] = replaced
    for name, module in list(sys.modules.items()):
        if any(f"{place}{os.sep}".startswith(below) for place in _places(module)):
            del sys.modules[name]
    with contextlib.suppress(ValueError):
        sys.path.remove(str(folder))
    for path in [path for path in sys.path_importer_cache if f"{path}{os.sep}".startswith(below)]:
        del sys.path_importer_cache[path]


def _places(module: object) -> list[str]:
    """Where a module's files lie. Looked up in a way that does not make a lazy one load itself."""
    if not issubclass(type(module), types.ModuleType):
        return []
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return [place for place in (names.get("__file__"), *(names.get("__path__") or ())) if isinstance(place, str)]


def _import_file(folder: pathlib.Path, name: str, original: str) -> types.ModuleType:
    """Import a program file as :data:`MAIN`; tracebacks show where the user keeps it, and its lines on hosts that have
    no such file: the loader has them.
    """
    module = types.ModuleType(MAIN)
    module.__file__, module.__loader__ = original, SourceFileLoader(MAIN, str(folder / name))
    module.__dict__.update({FOLDER: str(folder), REPLACED: sys.modules.get(MAIN)})
    sys.modules[MAIN] = module
    code = compile((folder / name).read_bytes(), original, "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102 - running the user's program is what a worker is for
    return module


def _lookup(module: types.ModuleType, name: str) -> Callable[..., Any]:
    target: Any = module
    for part in name.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        functions = sorted(
            key
            for key, value in vars(module).items()
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__
        )
        raise PackageError(
            f"the program has no function {name!r}",
            why=f"its functions are: {', '.join(functions) or 'none'}",
            remedy="name one with PROGRAM:FUNCTION, or define 'def main(env): ...'",
            where=str(getattr(module, "__file__", module.__name__)),
        )
    function: Callable[..., Any] = target
    return function


def called(function: Callable[..., Any], environment: Any) -> Any:
    """Call the program's function; ``sys.exit(0)`` is a return.

    :raises UserCodeError: it does not take one argument, or a call of it runs nothing: an ``async def``, a generator.
    """
    try:
        result = function(environment)
        _check_that_it_ran(function, result, environment)
        return result
    except TypeError as error:
        # no frame below this one: the call itself may have been what is wrong
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            _check_parameters(function, environment)
        raise
    except SystemExit as error:
        if exit_code_of(error) != 0:
            raise
        return None


def _check_that_it_ran(function: Callable[..., Any], result: Any, environment: Any) -> None:
    """Find out whether a call has only made something that would run the program.

    :raises UserCodeError: it has.
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if inspect.iscoroutine(result):
        result.close()  # else Python warns of it
        what, remedy = "a coroutine", f"'def {name}(env): asyncio.run(work(env))', with the 'async def' as work"
    elif inspect.isasyncgen(result):
        what, remedy = (
            "an asynchronous generator",
            f"'def {name}(env): asyncio.run(work(env))', where it is looped over",
        )
    elif inspect.isgenerator(result) and inspect.isgeneratorfunction(function):
        what, remedy = "a generator", f"a {name} without 'yield', which returns its value: 'return values'"
    else:
        return
    raise UserCodeError(
        f"nothing of {name} has run: a call of it gives {what}",
        why="every worker calls the program's function and takes what it returns; it awaits and iterates over nothing",
        remedy=f"give {remedy}",
        where=_defined_at(function),
        details={"type": "TypeError", "worker": environment.worker_id},
    )


def _check_parameters(function: Callable[..., Any], environment: Any) -> None:
    """Find out whether a function can be called with the environment alone.

    :raises UserCodeError: it cannot.
    """
    try:
        # not what a decorator says that it wraps: the wrapper is what is called
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some functions written in C have none
        return
    try:
        signature.bind(environment)
    except TypeError as error:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        raise UserCodeError(
            f"{name}{signature} cannot be called with one argument: {error}",
            why="every worker calls the program's function with its environment, and nothing else",
            remedy=f"{name} takes one argument, env: 'def {name}(env): ...'; arguments of the job are in env.args",
            where=_defined_at(function),
            details={"type": "TypeError", "worker": environment.worker_id},
        ) from None


def _defined_at(function: Callable[..., Any]) -> str:
    """``file:line`` of a function's, an object's or a class's code; its module when there is none."""
    target = getattr(function, "func", function)  # of a functools.partial
    for part in (target, *(getattr(target, name, None) for name in ("__call__", "__init__"))):
        code = getattr(part, "__code__", None)
        if isinstance(code, types.CodeType):
            return f"{code.co_filename}:{code.co_firstlineno}"
    return str(getattr(function, "__module__", ""))


def exit_code_of(error: SystemExit) -> int:
    """The exit code that ``sys.exit`` meant: 0 for none, 1 for a text."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def user_error(error: BaseException, doing: str, **details: Any) -> Twister2Error:
    """The error for people: a UserCodeError with the user's traceback, or the error itself when it is one of ours."""
    if isinstance(error, Twister2Error):
        if not error.where or (isinstance(error, UsageError) and ".py:" not in error.where):
            # it was raised before anything that knows the line
            worker = f"worker {details['worker']}" if "worker" in details else ""
            parts = (error.where, user_line(error), "" if worker in error.where else worker)
            error.where = ", ".join(filter(None, parts))
        return error
    if isinstance(error, SystemExit) and "worker" in details:
        return WorkerExitedError(
            f"worker {details['worker']} called sys.exit({error.code!r})",
            why="the program ended this worker with an error code",
            remedy="raise an exception that says what is wrong, or return",
            where=user_line(error),
            details={"code": exit_code_of(error), **details},
        )
    remedy = "see the traceback below; the job is not restarted for an error of the program"
    if out_of_descriptors(error):
        ours = none_left(error, details.get("worker", ""))
        if ours is not None:
            return ours
        remedy = f"close files, or raise the limit on open ones ({hint()})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        from twister2.host.published import install_imported

        install = install_imported(error.name)
        remedy = f"{install}, on the hosts of all workers" if install else remedy
    from twister2.spec.user_code import why_and_remedy  # of programs that fail

    why, remedy = why_and_remedy(error, f"the program raised it while {doing}", remedy)
    text, said = user_traceback(error), _said(error)
    where = user_line(error)
    return UserCodeError(
        f"{type(error).__name__}: {said}" if said else type(error).__name__,
        why=why,
        remedy=remedy,
        where=where,
        details={"traceback": text, "type": type(error).__name__, **details},
    )


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as worse:  # the program's own __str__
        return f"its text cannot be told ({type(worse).__name__})"
