"""A small client of Mesos' V1 HTTP API: calls, the scheduler's stream of events, and the operator's questions."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import pathlib
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from twister2.spec.errors import ResourceError, SubmissionRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2_rm_mesos.config import MesosConfig

JSON = {"Content-Type": "application/json", "Accept": "application/json"}
SCHEDULER = "/api/v1/scheduler"
LARGEST = 64 << 20
"""Bytes of one event; more is no answer of Mesos."""


class RefusedError(Exception):
    """Mesos did not take a call: its status and words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text or 'no reason given'} (HTTP {status})")
        self.status = status


class Stream:
    """The events of one subscription: RecordIO, each a decimal length, a line feed, and so many bytes of JSON."""

    def __init__(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, base: str) -> None:
        self._connection, self._answer, self.base = connection, answer, base
        self.id = answer.getheader("Mesos-Stream-Id") or ""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Events until the stream breaks."""
        while True:
            try:
                head = self._answer.readline(32)
                size = int(head) if head.endswith(b"\n") else -1
                if not 0 <= size <= LARGEST:
                    return
                data = self._answer.read(size)
                if len(data) < size:
                    return
                yield json.loads(data)
            except (OSError, ValueError, http.client.HTTPException, AttributeError):
                return  # broken, silent for too long, or closed by another thread

    def close(self) -> None:
        """Break it; a thread that reads it ends."""
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(2)
        self._connection.close()


class Api:
    """Calls the leading master."""

    def __init__(self, config: MesosConfig, timeout_s: float) -> None:
        self._config, self._timeout_s = config, timeout_s
        self._leader = ""
        self._context: ssl.SSLContext | None = None

    @property
    def secure(self) -> bool:
        """Whether the leader is asked by https; agents then are, too, as by Mesos' own pages."""
        return (self._leader or self._config.masters[0]).startswith("https://")

    def _headers(self) -> dict[str, str]:
        if not self._config.secret_file:
            return dict(JSON)
        path = pathlib.Path(self._config.secret_file).expanduser()
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ResourceError(
                f"the secret for Mesos cannot be read from {path}",
                why=str(error),
                remedy="put the principal's secret alone into that file, or set rm.mesos.secret_file to another",
            ) from error
        words = base64.b64encode(f"{self._config.principal}:{secret}".encode()).decode()
        return {**JSON, "Authorization": f"Basic {words}"}

    def _connect(self, base: str, timeout_s: float) -> http.client.HTTPConnection:
        url = urlsplit(base)
        host = url.hostname or ""
        if url.scheme == "https":
            return http.client.HTTPSConnection(host, url.port or 5050, timeout=timeout_s, context=self._tls())
        return http.client.HTTPConnection(host, url.port or 5050, timeout=timeout_s)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._config.ca_cert or None)
            except (OSError, ssl.SSLError) as error:
                raise ResourceError(
                    "the certificate for Mesos cannot be used",
                    why=str(error),
                    remedy="set rm.mesos.ca_cert to a file with the authority's certificate (PEM)",
                    where=self._config.ca_cert,
                ) from error
        return self._context

    def _ask(
        self, method: str, path: str, body: Any, headers: dict[str, str], timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, str]:
        """Ask the leader, following what stands by to it; the answer is not read yet."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        waiting = [*([self._leader] if self._leader else []), *self._config.masters]
        last: Exception = OSError("no address")
        tried: set[str] = set()
        while waiting and len(tried) < 10:
            base = waiting.pop(0)
            if base in tried:
                continue
            tried.add(base)
            connection = self._connect(base, timeout_s)
            try:
                connection.request(method, path, body=data, headers={**self._headers(), **headers})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                last = error
                continue
            if answer.status in (307, 503):
                place = answer.getheader("Location") or ""
                last = RefusedError(answer.status, "it does not lead, and knows no leader")
                if answer.status == 307 and place:
                    scheme = urlsplit(base).scheme
                    waiting.insert(0, f"{scheme}://{urlsplit(place).netloc or place.split('/')[0]}")
                connection.close()
                continue
            self._leader = base
            return connection, answer, base
        raise unreachable(self._config, last)

    def subscribe(self, framework: dict[str, Any], silence_s: float) -> Stream:
        """Subscribe as a scheduler.

        :param framework: its info, with ``id`` to take over.
        :param silence_s: how long the stream may say nothing.
        """
        body: dict[str, Any] = {"type": "SUBSCRIBE", "subscribe": {"framework_info": framework}}
        if "id" in framework:
            body["framework_id"] = framework["id"]
        connection, answer, base = self._ask("POST", SCHEDULER, body, {}, self._timeout_s)
        if answer.status != 200:
            text = answer.read().decode(errors="replace").strip()
            connection.close()
            raise refusal(self._config, answer.status, text)
        if connection.sock is not None:
            connection.sock.settimeout(silence_s)
        return Stream(connection, answer, base)

    def call(self, stream: str, framework: str, kind: str, **parts: Any) -> None:
        """A call of a subscribed scheduler.

        :raises RefusedError: it was not taken, e.g. since the subscription is over.
        """
        body = {"framework_id": {"value": framework}, "type": kind, **parts}
        connection, answer, _ = self._ask("POST", SCHEDULER, body, {"Mesos-Stream-Id": stream}, self._timeout_s)
        text = answer.read().decode(errors="replace").strip()
        connection.close()
        if answer.status >= 300:
            raise RefusedError(answer.status, text)

    def operate(self, kind: str, **parts: Any) -> Any:
        """A call of the operator API.

        :raises RefusedError: it was not taken.
        """
        connection, answer, _ = self._ask("POST", "/api/v1", {"type": kind, **parts}, {}, self._timeout_s)
        text = answer.read()
        connection.close()
        if answer.status >= 300:
            raise RefusedError(answer.status, text.decode(errors="replace").strip())
        return json.loads(text) if text.strip() else None

    def teardown(self, framework: str) -> bool:
        """End a framework and all its tasks; False when the master does not know it (any more).

        :raises ResourceError: it is not allowed, or nobody answers.
        """
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        data = urlencode({"frameworkId": framework}).encode()
        connection, answer, _ = self._ask("POST", "/master/teardown", data, form, self._timeout_s)
        text = answer.read().decode(errors="replace").strip()
        connection.close()
        if answer.status in (401, 403):
            raise refusal(self._config, answer.status, text)
        return answer.status < 300

    def get(self, path: str, base: str = "", /, **query: str) -> Any:
        """JSON of an endpoint of the master, or of an agent.

        :param base: the agent's address.
        """
        asked = f"{path}?{urlencode(query)}" if query else path
        if not base:
            connection, answer, _ = self._ask("GET", asked, None, {}, self._timeout_s)
        else:
            connection = self._connect(base, self._timeout_s)
            try:
                connection.request("GET", asked, headers=self._headers())
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise unreachable(self._config, error, base) from error
        try:
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self._config, error, base) from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise RefusedError(answer.status, text.decode(errors="replace").strip()[:200])
        try:
            return json.loads(text.decode("utf-8", "surrogateescape"))  # files of a sandbox hold any bytes
        except ValueError as error:
            raise unreachable(self._config, error, base) from error


def submitter() -> str:
    """The name of the user of this process."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def unreachable(config: MesosConfig, error: Exception, base: str = "") -> ResourceError:
    """The error for no answer."""
    where = base or ", ".join(config.masters)
    if isinstance(error, ssl.SSLCertVerificationError):
        return ResourceError(
            "Mesos' certificate is not accepted",
            why=error.verify_message or str(error),
            remedy="set rm.mesos.ca_cert to the authority that signed it, and ask by a name that is in it",
            where=where,
        )
    if isinstance(error, ssl.SSLError):
        return ResourceError(
            "no secure connection to Mesos could be made",
            why=str(error),
            remedy="use http:// in rm.mesos.masters where Mesos has no TLS",
            where=where,
        )
    return ResourceError(
        "Mesos does not answer",
        why=str(error) or type(error).__name__,
        remedy="check rm.mesos.masters and whether a master leads. Running tasks go on without it",
        where=where,
    )


def refusal(config: MesosConfig, status: int, text: str) -> ResourceError:
    """The error for an answer that is no."""
    if status == 401:
        return SubmissionRefusedError(
            "Mesos does not accept the credentials"
            if config.secret_file
            else "Mesos wants a principal's secret, and none was given",
            why=text or f"HTTP {status}",
            remedy="set rm.mesos.principal and rm.mesos.secret_file to a principal that Mesos knows",
        )
    if status == 403:
        who = f"principal '{config.principal}'" if config.principal else "nobody in particular"
        return SubmissionRefusedError(
            f"Mesos does not permit this to {who}",
            why=text or f"HTTP {status}",
            remedy="set rm.mesos.principal and rm.mesos.secret_file to one who may, or have Mesos' ACLs changed",
        )
    return SubmissionRefusedError(
        "Mesos refused the framework",
        why=f"{text or 'no reason given'} (HTTP {status})",
        remedy="change what it objects to; 'twister2 submit --dry-run' shows the framework",
    )
