"""The API server over HTTPS: the dozen requests that a job needs, on the standard library alone.

``kubernetes`` brings 29 packages and 188 MB, ``kr8s`` 21 and 82 MB, ``lightkube`` 17 and 40 MB and no port-forward;
all of them for thousands of kinds of objects, of which a job uses five. Everything here is JSON over HTTP.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from twister2.spec.errors import ResourceError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

    from twister2_rm_k8s.kubeconfig import Access

MERGE = "application/merge-patch+json"
Object = dict[str, Any]


class RefusedError(Exception):
    """An answer that is no.

    :ivar status: HTTP status. :ivar reason: Kubernetes' word for it. :ivar message: its sentence.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason or status})")
        self.status, self.reason, self.message = status, reason, message


class Api:
    """One connection to the API server, kept open between requests. Not for several threads at once."""

    def __init__(self, access: Access, timeout_s: float, user: str = "") -> None:
        """
        :param user: who it acts as, which the server lets some do; empty: as whom the access names.
        """
        self.access, self._timeout_s, self._user = access, timeout_s, user
        self._connection: http.client.HTTPConnection | None = None

    def another(self, user: str = "") -> Api:
        """A client of the same server: for another thread, or as another user."""
        return Api(self.access, self._timeout_s, user)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()  # backends are made for a single call, too, and dropped

    # -- objects -------------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> Object | None:
        """An object, or a list; None when there is none.

        :raises RefusedError: any other refusal. :raises ResourceError: no answer.
        """
        try:
            return self.call("GET", path, query=query)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, **query: str) -> list[Object]:
        """All objects of a list."""
        found: list[Object] = (self.get(path, **query) or {}).get("items") or []
        return found

    def create(self, path: str, body: Object) -> Object:
        return self.call("POST", path, body)

    def patch(self, path: str, body: Object) -> Object | None:
        """Merge into an object; None when there is none."""
        try:
            return self.call("PATCH", path, body, kind=MERGE)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def delete(self, path: str, *, grace_s: int | None = None, **query: str) -> None:
        """Delete an object, or all of a list that a ``labelSelector`` names; one that is not there is no error."""
        options: Object = {"propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            self.call("DELETE", path, options, query=query)
        except RefusedError as error:
            if error.status not in (404, 409):
                raise

    def call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> Object:
        """One request, one answer of JSON.

        :raises RefusedError: the server says no. :raises ResourceError: it does not answer.
        """
        answer = self._exchange(method, path, body, query or {}, kind)
        data = self._read(answer)
        if answer.status >= 400:
            raise refused(answer.status, data)
        try:
            value: Object = json.loads(data) if data else {}
        except ValueError as error:
            raise ResourceError(
                "what answers there is no API server of Kubernetes",
                why=f"to {method} {path} it says {data[:80]!r}",
                remedy="see the server's address in the kubeconfig, and whether a proxy or login page is in between",
                where=self.access.server,
            ) from error
        return value

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        """The whole body.

        :raises ResourceError: the connection ends before it.
        """
        try:
            return answer.read()
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise self._silent(error) from error

    def _exchange(
        self, method: str, path: str, body: Object | None, query: Mapping[str, str], kind: str
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        target = self.access.path + path + (f"?{urlencode(query)}" if query else "")
        renewed = False
        for attempt in range(3):
            kept = self._connection is not None
            try:
                connection = self._connection or self._connect()
                self._connection = connection
                headers = {"Accept": "application/json", "Content-Type": kind, **self.access.headers()}
                headers |= {"Impersonate-User": self._user} if self._user else {}
                connection.request(method, target, data, headers)
                answer = connection.getresponse()
            except (http.client.HTTPException, OSError) as error:
                self.close()
                # The server closes connections that were idle: what was sent on one was not looked at.
                if kept and attempt < 2 and not isinstance(error, TimeoutError):
                    continue
                raise self._silent(error) from error
            if answer.status == 401 and not renewed and self.access.renew():
                self._read(answer)
                renewed = True
                continue
            return answer
        raise ResourceError(
            "the API server of Kubernetes closes every connection",
            why=f"{self.access.server} ended three connections without an answer",
            remedy="try again; see whether a proxy or load balancer in between is down",
        )

    # -- streams -------------------------------------------------------------------------------------------------------

    def stream(self, path: str, query: Mapping[str, str], *, timeout_s: float | None = None) -> Iterator[bytes]:
        """Pieces of a body as they come, on a connection of its own, which ends with the generator.

        :param timeout_s: how long to wait for a next piece; the API's own timeout when None.
        :raises RefusedError: the server says no. :raises ResourceError: it does not answer, or falls silent.
        """
        connection = self._connect(timeout_s)
        try:
            connection.request("GET", f"{self.access.path}{path}?{urlencode(query)}", None, self.access.headers())
            answer = connection.getresponse()
            if answer.status >= 400:
                raise refused(answer.status, answer.read())
            while data := answer.read1(1 << 16):
                yield data
        except (http.client.HTTPException, OSError) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def socket(self) -> socket.socket:
        """A connection without HTTP on it yet, for protocols that upgrade.

        :raises ResourceError: the server cannot be reached.
        """
        connection = self._connect()
        try:
            connection.connect()
        except (http.client.HTTPException, OSError) as error:
            raise self._silent(error) from error
        sock: socket.socket = connection.sock
        return sock

    def _connect(self, timeout_s: float | None = None) -> http.client.HTTPConnection:
        access = self.access
        url = urlsplit(access.server)
        host, port = url.hostname or "localhost", url.port or (443 if url.scheme == "https" else 80)
        timeout = timeout_s or self._timeout_s
        proxy = urlsplit(access.proxy) if access.proxy else None
        at = (proxy.hostname or "", proxy.port or 3128) if proxy else (host, port)
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            connection = _Https(*at, timeout=timeout, context=access.tls(), name=access.tls_name)
        else:
            connection = http.client.HTTPConnection(*at, timeout=timeout)
        if proxy:
            connection.set_tunnel(host, port)
        return connection

    def _silent(self, error: Exception) -> ResourceError:
        server = self.access.server
        if isinstance(error, ssl.SSLCertVerificationError):
            return ResourceError(
                "the API server of Kubernetes is not the one that the kubeconfig names",
                why=f"its certificate is not trusted: {error.verify_message}",
                remedy="see certificate-authority in the kubeconfig, or get a new one from whoever runs the cluster",
                where=server,
            )
        if isinstance(error, ssl.SSLError):
            why = f"no TLS with it: {error.reason or error}"
        elif isinstance(error, TimeoutError):
            why = f"no answer within {self._timeout_s:g} s"
        else:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ResourceError(
            "the API server of Kubernetes does not answer",
            why=why,
            remedy="try again later, and see that this host reaches it; jobs that run go on without it",
            where=server,
        )


class _Https(http.client.HTTPSConnection):
    """Checks the certificate against another name where the kubeconfig says so."""

    def __init__(self, host: str, port: int, *, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls, self._name = context, name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        tunnel: str | None = getattr(self, "_tunnel_host", None)
        name = self._name or tunnel or self.host
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=name)


def refused(status: int, data: bytes) -> RefusedError:
    """The error for an answer with such a status."""
    try:
        told = json.loads(data)
        return RefusedError(status, str(told.get("reason") or ""), str(told.get("message") or ""))
    except (ValueError, AttributeError):
        return RefusedError(
            status, "", data.decode(errors="replace").strip()[:500] or http.client.responses.get(status, "")
        )
