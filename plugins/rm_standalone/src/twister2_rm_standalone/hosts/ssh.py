"""The command line of ssh, and what it means when ssh ends."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import MissingToolError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2_rm_standalone.config import StandaloneConfig

FIRST_LINE = "import sys; exec(sys.stdin.readline())"
"""What the host's Python is given; everything else, secrets above all, comes over its standard input."""
ALIVE_S = 2
"""Seconds between two questions of ssh whether the host is still there; it gives up after three without answer."""
PERSIST_S = 15
"""How long the shared connection to a host stays when nobody uses it: other processes of the job take it over."""
LEFT_S = 60
"""A folder that has not changed for so long is not one in which a socket is about to be made."""
SOCKET_LIMIT = 80
"""Longest path of a socket of ours: ssh adds 17 characters while it makes one, and 107 are the most."""


class Ssh:
    """Calls of ssh for one job. What they share lies in a private folder: a connection per host.

    :raises MissingToolError: there is no ssh.
    """

    def __init__(self, config: StandaloneConfig, job_id: str) -> None:
        self._config = config
        self._program = shutil.which(config.ssh[0]) if config.ssh else None
        if self._program is None:
            raise MissingToolError(
                f"{config.ssh[0] if config.ssh else 'ssh'} is not there, by which hosts are reached",
                why="it is no program in the search path (PATH)",
                remedy="install OpenSSH's client, or set rm.standalone.ssh",
                where=os.uname().nodename,
            )
        mark = hashlib.sha256(job_id.encode()).hexdigest()[:12]
        self.folder = os.path.join(tempfile.gettempdir(), f"t2ssh-{os.getuid()}-{mark}")

    def command(self, host: str, words: str) -> list[str]:
        """The command that runs ``words``, for the shell of the host. Never asks for anything."""
        assert self._program is not None
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(max(1, round(self._config.connect_s))),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": str(ALIVE_S),
            "ServerAliveCountMax": "3",
            "ForwardX11": "no",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "RequestTTY": "no",
            "LogLevel": "ERROR",
        }
        shared = self._socket(host)
        if shared:
            options |= {"ControlMaster": "auto", "ControlPath": shared, "ControlPersist": str(PERSIST_S)}
        else:
            options |= {"ControlMaster": "no", "ControlPath": "none"}
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [self._program, *given, *self._config.ssh[1:], "-T", "--", host, words]

    def python(self) -> str:
        """Words for the host's shell that start its Python and have it do what comes by standard input."""
        python = self._config.python or sys.executable
        return "\n".join([*self._config.prologue, f"{shlex.quote(python)} -c '{FIRST_LINE}'"])

    def _socket(self, host: str) -> str:
        """Where the connection to a host is shared; empty when it cannot be."""
        path = os.path.join(self.folder, hashlib.sha256(host.encode()).hexdigest()[:10])
        if len(os.fsencode(path)) > SOCKET_LIMIT or "%" in path or '"' in path:
            return ""
        try:
            if not os.path.exists(self.folder):
                _tidy(self.folder)
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            if not _is_own(self.folder):
                return ""
            os.utime(self.folder)  # it is in use: nobody may tidy it away before the socket is there
        except OSError:
            return ""
        return path

    def hang_up(self, hosts: Sequence[str]) -> None:
        """Share the connections to these hosts no more: each ends with the last that uses it, which may be another
        process that tidies up too. Remove their folder.
        """
        assert self._program is not None
        for host in hosts:
            path = os.path.join(self.folder, hashlib.sha256(host.encode()).hexdigest()[:10])
            if os.path.exists(path):
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    subprocess.run(
                        [self._program, *self._config.ssh[1:], "-o", f"ControlPath={path}", "-O", "stop", "--", host],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        timeout=5,
                        check=False,
                    )
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_own(folder: str) -> bool:
    """Whether it is a folder of this user's that nobody else may enter."""
    facts = os.lstat(folder)
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077


def _tidy(folder: str) -> None:
    """Remove folders beside this one in which nobody listens any more: their processes were killed, and could not."""
    for other in glob.glob(glob.escape(folder.rpartition("-")[0]) + "-*"):
        with contextlib.suppress(OSError):  # not empty: somebody listens
            if other == folder or not _is_own(other) or time.time() - os.lstat(other).st_mtime < LEFT_S:
                continue
            for name in os.listdir(other):
                _remove_deaf(os.path.join(other, name))
            os.rmdir(other)


def _remove_deaf(path: str) -> None:
    """Remove a socket that nobody listens at."""
    with socket.socket(socket.AF_UNIX) as near:
        near.settimeout(1.0)
        try:
            near.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)


def failure(host: str, code: int, said: str, python: str) -> ResourceError:
    """What it means that ssh has ended with this code before the host has said anything.

    :param said: what ssh and the host's shell wrote. :param python: the interpreter that was asked for.
    """
    text = said.lower()
    why = " ".join(said.split())[-400:] or f"ssh ended with exit code {code} and no word"
    login = f"see that this works without a question: ssh -o BatchMode=yes {host} true"
    if "host identification has changed" in text:
        what = f"host {host} has another host key than the one that is known"
        why = "ssh refuses to talk to it: it was installed anew, or somebody sits between"
        remedy = f"ask who runs it; if the change is right: ssh-keygen -R {host}, then log in once by hand"
    elif "host key verification failed" in text or "no matching host key" in text or "host key is known" in text:
        what = f"the key of host {host} is not known here"
        remedy = f"log in once by hand and compare its fingerprint: ssh {host} true"
    elif ("permission denied" in text and code == 255) or "account is currently not available" in text:
        what = f"host {host} does not let this user in"
        remedy = f"put your key there (ssh-copy-id {host}), start ssh-agent for one with a passphrase; then {login}"
    elif "could not resolve" in text or "name or service not known" in text:
        what = f"host {host} is not known"
        remedy = "check the name in rm.standalone.hosts, or give it an entry in ~/.ssh/config"
    elif code in (126, 127) or "command not found" in text:
        what = f"there is no Python at {python} on host {host}"
        remedy = "set rm.standalone.python to the interpreter there that has twister2 installed"
    elif code == 255:
        what, remedy = f"host {host} cannot be reached", f"check that it runs and that its sshd listens; {login}"
    else:
        what = f"the Python of host {host} ended before it said anything"
        remedy = f"see what it says: ssh {host} {python} -c pass"
    return ResourceError(what, why=why, remedy=remedy, where=f"host {host}")


def unfit(host: str, hello: Mapping[str, Any]) -> ResourceError | None:
    """Why the interpreter of a host cannot run workers; None when it can."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    there = ".".join(str(hello["python"]).split(".")[:2])
    which = f"{hello.get('executable', '?')} on host {host}"
    if there != here:
        return ResourceError(
            f"host {host} has Python {hello['python']}, this is Python {here}",
            why=f"programs and values travel between them, and {which} is what workers would run",
            remedy=f"set rm.standalone.python to a Python {here} there that has twister2 installed",
            where=f"host {host}",
        )
    if "missing" in hello:
        return ResourceError(
            f"twister2 is not installed for {which}",
            why=str(hello["missing"]),
            remedy=f"install it there, as here: {hello.get('executable', 'python')} -m pip install twister2; "
            "or set rm.standalone.python to an interpreter that has it",
            where=f"host {host}",
        )
    import twister2

    if hello.get("core") != twister2.__version__:
        return ResourceError(
            f"host {host} has twister2 {hello.get('core')}, this is {twister2.__version__}",
            why=f"{which} is what workers would run",
            remedy="install the same version on both, or set rm.standalone.python to another interpreter there",
            where=f"host {host}",
        )
    return None
