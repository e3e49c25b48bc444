"""A small client of Nomad's HTTP API: what the plugin needs of it, over TCP, TLS or a Unix socket."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import pathlib
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import attrs

from twister2.spec.errors import ResourceError, SubmissionRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2_rm_nomad.config import NomadConfig

TOKEN = "nomad-token"
"""Name of the file among a job master's secrets that holds the user's token."""
SOCKET = "api.sock"
"""The agent's own API, which every allocation finds among its secrets."""


class NotFoundError(Exception):
    """Nomad knows no such thing."""


@attrs.frozen
class Access:
    """Where and as whom Nomad is asked.

    :ivar host: empty for a Unix socket.
    """

    address: str
    token: str = attrs.field(repr=False)
    namespace: str
    region: str

    @classmethod
    def of(cls, config: NomadConfig, environ: Mapping[str, str] | None = None) -> Access:
        """From the options, the environment, or, inside an allocation of ours, what that has.

        :raises ResourceError: the file with the token cannot be read.
        """
        source = os.environ if environ is None else environ
        namespace = config.namespace or source.get("NOMAD_NAMESPACE", "") or "default"
        region = config.region or source.get("NOMAD_REGION", "")
        inside = pathlib.Path(source.get("NOMAD_SECRETS_DIR", "/nonexistent"))
        if (inside / TOKEN).exists():
            token = _read(inside / TOKEN) or source.get("NOMAD_TOKEN", "")
            if (inside / SOCKET).exists():
                return cls(f"unix://{inside / SOCKET}", token, namespace, region)
            return cls(config.address or source.get("NOMAD_ADDR", "") or DEFAULT, token, namespace, region)
        token = _read(pathlib.Path(config.token_file)) if config.token_file else source.get("NOMAD_TOKEN", "")
        return cls(config.address or source.get("NOMAD_ADDR", "") or DEFAULT, token, namespace, region)


SELF = "/acl/token/self"
DEFAULT = "http://127.0.0.1:4646"


def _read(path: pathlib.Path) -> str:
    try:
        return path.expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ResourceError(
            f"the token for Nomad cannot be read from {path}",
            why=str(error),
            remedy="put the token alone into that file, or set rm.nomad.token_file to another",
        ) from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _TlsConnection(http.client.HTTPSConnection):
    """One that may expect another name in the certificate than that of the address: Nomad's own are for roles."""

    def __init__(self, host: str, port: int | None, *, context: ssl.SSLContext, name: str, timeout: float) -> None:
        super().__init__(host, port, context=context, timeout=timeout)
        self._settings, self._name = context, name

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._settings.wrap_socket(plain, server_hostname=self._name or self.host)


class Api:
    """Calls Nomad. One connection per call: there are few, and a server may change behind an address."""

    def __init__(self, config: NomadConfig, timeout_s: float) -> None:
        self._config, self._timeout_s = config, timeout_s
        self._context: ssl.SSLContext | None = None
        self._place: dict[str, str] = {}

    def at(self, place: Mapping[str, Any]) -> None:
        """Ask from now on in this ``namespace`` and ``region``, where they are named: a job stays where it was
        submitted, whatever another shell's environment says.
        """
        self._place = {name: str(place[name]) for name in ("namespace", "region") if place.get(name)}

    @property
    def access(self) -> Access:
        """Read anew at each call: tokens are renewed while a job runs."""
        return attrs.evolve(Access.of(self._config), **self._place)

    def get(self, path: str, /, **query: str) -> Any:
        """:raises NotFoundError: no such thing. :raises ResourceError: no answer, or a refusal."""
        return self._json("GET", path, query)

    def send(self, method: str, path: str, /, body: Any = None, **query: str) -> Any:
        """Change something; see :meth:`get`."""
        return self._json(method, path, query, body)

    def text(self, path: str, /, **query: str) -> bytes:
        """An answer that is no JSON."""
        return self._call("GET", path, query, None)

    def _json(self, method: str, path: str, query: Mapping[str, str], body: Any = None) -> Any:
        data = self._call(method, path, query, body)
        try:
            return json.loads(data) if data.strip() else None
        except ValueError as error:
            raise ResourceError(
                "what answers is not Nomad",
                why=f"its answer to {path} is {data[:80]!r}",
                remedy="set rm.nomad.address to Nomad's API (port 4646 by default)",
                where=self.access.address,
            ) from error

    def _call(self, method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        access = self.access
        asked = {"namespace": access.namespace, **({"region": access.region} if access.region else {}), **query}
        headers = {"X-Nomad-Token": access.token} if access.token else {}
        data = None if body is None else json.dumps(body).encode()
        connection = self._connection(access)
        try:
            connection.request(method, f"/v1{path}?{urlencode(asked)}", body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(access.address, error) from error
        finally:
            connection.close()
        if answer.status == 404:
            raise NotFoundError(text.decode(errors="replace").strip())
        if answer.status >= 400:
            words = text.decode(errors="replace").strip()
            if answer.status == 403 and access.token and path != SELF:
                words = self._about_token(words)
            raise refusal(access, answer.status, words)
        return text

    def _about_token(self, words: str) -> str:
        """What is wrong with the token: of one that is unknown or has expired Nomad says no more than of any other."""
        try:
            token = json.loads(self._call("GET", SELF, {}, None))
            until = datetime.datetime.fromisoformat(f"{token['ExpirationTime'][:19]}+00:00")
        except (NotFoundError, ResourceError):
            return f"token not found ({words})"
        except (ValueError, KeyError, TypeError):
            return words  # it never expires
        if until < datetime.datetime.now(datetime.UTC):
            return f"token expired at {token['ExpirationTime']} ({words})"
        return words

    def _connection(self, access: Access) -> http.client.HTTPConnection:
        if access.address.startswith("unix://"):
            return _UnixConnection(access.address.removeprefix("unix://"), self._timeout_s)
        url = urlsplit(access.address)
        try:
            host, port = url.hostname or "", url.port
        except ValueError as error:
            raise unreachable(access.address, error) from error
        if url.scheme != "https":
            return http.client.HTTPConnection(host, port or 4646, timeout=self._timeout_s)
        name = self._config.tls_server_name or os.environ.get("NOMAD_TLS_SERVER_NAME", "")
        return _TlsConnection(host, port or 4646, context=self._tls(), name=name, timeout=self._timeout_s)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            config, environ = self._config, os.environ
            authority = config.ca_cert or environ.get("NOMAD_CACERT", "")
            cert = config.client_cert or environ.get("NOMAD_CLIENT_CERT", "")
            key = config.client_key or environ.get("NOMAD_CLIENT_KEY", "")
            try:
                context = ssl.create_default_context(cafile=authority or None)
                if cert:
                    context.load_cert_chain(cert, key or None)
            except (OSError, ssl.SSLError) as error:
                raise ResourceError(
                    "the certificates for Nomad cannot be used",
                    why=str(error),
                    remedy="check rm.nomad.ca_cert, client_cert and client_key (or NOMAD_CACERT, NOMAD_CLIENT_CERT, "
                    "NOMAD_CLIENT_KEY)",
                    where=", ".join(path for path in (authority, cert, key) if path),
                ) from error
            self._context = context
        return self._context


def part(text: str) -> str:
    """One part of a path."""
    return quote(text, safe="")


def unreachable(address: str, error: Exception) -> ResourceError:
    """The error for no answer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ResourceError(
            "Nomad's certificate is not accepted",
            why=error.verify_message or str(error),
            remedy="set rm.nomad.ca_cert to the authority that signed it, and rm.nomad.tls_server_name to the name in "
            "it (often 'server.global.nomad')",
            where=address,
        )
    if isinstance(error, ssl.SSLError):
        return ResourceError(
            "no secure connection to Nomad could be made",
            why=str(error),
            remedy="use http:// where Nomad has no TLS; give rm.nomad.client_cert and client_key where it wants them",
            where=address,
        )
    slow = isinstance(error, TimeoutError)
    return ResourceError(
        "Nomad gave no answer in time" if slow else "Nomad does not answer",
        why=str(error) or type(error).__name__,
        remedy="check rm.nomad.address (or NOMAD_ADDR) and whether the server runs: 'nomad status'. Running jobs go on "
        "without it",
        where=address,
    )


REMEDIES = {
    "nonexistent namespace": "choose a namespace that exists ('nomad namespace list'): rm.nomad.namespace",
    "no path to region": "choose a region that exists ('nomad server members'): rm.nomad.region",
    "node pool": "choose a pool of nodes that exists ('nomad node pool list'): rm.nomad.node_pool",
    "quota": "ask for less, or have the namespace's quota raised ('nomad quota status')",
}

AWAY = ("no cluster leader", "leadership lost", "no servers", "failed to get conn", "rpc error: eof")
"""Words of an agent that does not reach a server, or of servers that have no leader."""


def refusal(access: Access, status: int, text: str) -> ResourceError:
    """The error for an answer that is no."""
    if status in (401, 403) or "acl token" in text.lower() or "permission denied" in text.lower():
        lower = text.lower()
        if not access.token:
            what, why = "Nomad wants a token, and none was given", text or "permission denied"
        elif "expired" in lower:
            what, why = "the token for Nomad has expired", text
        elif "not found" in lower:
            what, why = "Nomad does not know the token: it has expired, was deleted, or is of another cluster", text
        else:
            what, why = f"the token may not do this in namespace '{access.namespace}'", text or "permission denied"
        return SubmissionRefusedError(
            what,
            why=why,
            remedy="set NOMAD_TOKEN or rm.nomad.token_file to a token whose policies hold submit-job, read-job, "
            "read-logs, alloc-lifecycle and variables (write) for nomad/jobs/*",
            where=access.address,
        )
    lower = text.lower()
    if any(phrase in lower for phrase in AWAY):  # it may take the same a moment later
        return ResourceError(
            "Nomad cannot answer now: its servers are away, or have no leader",
            why=f"{text} (HTTP {status})",
            remedy="try again; 'nomad server members' shows whether there is one. Running jobs go on",
            where=access.address,
        )
    remedy = next((words for phrase, words in REMEDIES.items() if phrase in lower), "")
    return SubmissionRefusedError(
        "Nomad refused",
        why=f"{text or 'no reason given'} (HTTP {status})",
        remedy=remedy or "change what Nomad objects to; 'twister2 submit --dry-run' shows the job's specification",
        where=access.address,
    )
