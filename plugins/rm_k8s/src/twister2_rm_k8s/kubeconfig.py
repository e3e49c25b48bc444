"""How to reach a cluster and as whom: kubeconfig files, or what every pod is given."""

from __future__ import annotations

import base64
import datetime
import json
import os
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs

from twister2.spec.errors import MissingToolError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2_rm_k8s.config import KubernetesConfig

POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
IN_CLUSTER = "TWISTER2_K8S_IN_CLUSTER"
"""Set in the pod of a job master: the submitter's kubeconfig is not there."""
EXEC_S = 60.0
TOKEN_EVERY_S = 60.0
"""How often a token in a file is read again; that of a pod changes every hour."""


@attrs.frozen(kw_only=True)
class Server:
    """Where a cluster is, and how it proves to be it.

    :ivar ca: certificates to trust (PEM), the system's when empty. :ivar tls_name: the name in its certificate, where
        that is another than in its address.
    :ivar in_cluster: this process is in a pod of it. :ivar source: where all this was found, for messages.
    """

    url: str
    namespace: str = "default"
    ca: bytes = b""
    insecure: bool = False
    tls_name: str = ""
    proxy: str = ""
    in_cluster: bool = False
    source: str = ""


class Access:
    """A server and credentials. Files are read and commands run when they are first needed."""

    def __init__(self, server: Server, user: Mapping[str, Any], base: Path = Path()) -> None:
        """
        :param user: a ``user`` of a kubeconfig. :param base: folder that relative paths of it start from.
        """
        url = urlsplit(server.url)
        self.server, self.path, self.namespace = server.url, url.path.rstrip("/"), server.namespace
        self.in_cluster, self.source, self.tls_name = server.in_cluster, server.source, server.tls_name
        self.proxy = server.proxy or _proxy(url.scheme, url.hostname or "")
        self._ca, self._insecure, self._base = server.ca, server.insecure, base
        self._user = dict(user)
        self._context: ssl.SSLContext | None = None
        self._token, self._read = "", 0.0
        self._given: dict[str, Any] = {}

    def tls(self) -> ssl.SSLContext:
        """:raises ResourceError: a certificate or key is not there, or is none."""
        if self._context is None:
            try:
                self._context = self._make_context()
            except (OSError, ValueError) as error:
                raise self._wrong(f"a certificate or key of it cannot be used: {error}") from error
        return self._context

    def _make_context(self) -> ssl.SSLContext:
        # CAs of clusters are often made by tools that leave out what newer Python demands of them.
        context = ssl.create_default_context(cadata=self._ca.decode("ascii") if self._ca else None)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        user = {**self._user, **self._exec()}
        certificate = _pem(user, "client-certificate", self._base)
        key = _pem(user, "client-key", self._base)
        if certificate and key:
            _load_pair(context, certificate, key)
        return context

    def headers(self) -> dict[str, str]:
        """What says who asks.

        :raises ResourceError: the credentials cannot be had.
        """
        user = self._user
        if user.get("username"):
            pair = f"{user['username']}:{user.get('password', '')}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        token = self._bearer()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _bearer(self) -> str:
        user = self._user
        if user.get("tokenFile"):
            if not self._token or time.monotonic() - self._read > TOKEN_EVERY_S:
                try:
                    self._token = (self._base / str(user["tokenFile"])).read_text().strip()
                except OSError as error:
                    raise self._wrong(f"the token cannot be read: {error}") from error
                self._read = time.monotonic()
            return self._token
        return str(user.get("token") or self._exec().get("token") or "")

    def renew(self) -> bool:
        """The server did not accept the credentials: whether there may be new ones now."""
        had = bool(self._token or self._given)
        self._token, self._given, self._context = "", {}, None if self._given else self._context
        return had

    def _exec(self) -> dict[str, Any]:
        """What the command of the kubeconfig's ``exec`` gives: a token or a certificate; empty when there is none."""
        spec = self._user.get("exec")
        if not spec:
            if self._user.get("auth-provider"):
                raise self._wrong("it uses auth-provider, which Kubernetes itself has given up for exec")
            return {}
        if self._given and not _expired(self._given.get("expirationTimestamp")):
            return self._given
        version = spec.get("apiVersion", "client.authentication.k8s.io/v1")
        environment = {**os.environ, **{item["name"]: str(item["value"]) for item in spec.get("env") or []}}
        info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
        environment["KUBERNETES_EXEC_INFO"] = json.dumps(info)
        command = str(spec.get("command", ""))
        if os.sep in command:
            command = str(self._base / command)
        try:
            done = subprocess.run(
                [command, *map(str, spec.get("args") or [])],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=EXEC_S,
                check=False,
            )
            if done.returncode:
                said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
                raise self._wrong(f"its command {command} ended with exit code {done.returncode}: {said}")
            self._given = _credential(json.loads(done.stdout)["status"])
        except FileNotFoundError as error:
            hint = str(spec.get("installHint") or "").strip()
            raise MissingToolError(
                f"{command} is not installed",
                why="the kubeconfig gets its credentials from it" + (f": {hint}" if hint else ""),
                remedy="install it, or put it on PATH",
                where=self.source,
            ) from error
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
            raise self._wrong(f"its command {command} gave no credentials: {error}") from error
        return self._given

    def _wrong(self, why: str) -> ResourceError:
        return ResourceError(
            "there are no credentials for the cluster",
            why=why,
            remedy="mend the kubeconfig, or get a new one (log in again where your cluster has a login)",
            where=self.source,
        )


def _credential(status: Mapping[str, Any]) -> dict[str, Any]:
    given = {"token": status.get("token"), "expirationTimestamp": status.get("expirationTimestamp")}
    for theirs, ours in (("clientCertificateData", "client-certificate"), ("clientKeyData", "client-key")):
        if status.get(theirs):
            given[f"{ours}-data"] = base64.b64encode(str(status[theirs]).encode()).decode()
    return given


def _expired(stamp: str | None) -> bool:
    if not stamp:
        return False
    until = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    return until.timestamp() - time.time() < 10


def _pem(values: Mapping[str, Any], name: str, base: Path) -> bytes:
    """Data beside its name, or the file that it names."""
    if values.get(f"{name}-data"):
        return base64.b64decode(str(values[f"{name}-data"]), validate=True)
    return (base / str(values[name])).read_bytes() if values.get(name) else b""


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads certificate and key from a file only: one in memory, without a name."""
    descriptor = os.memfd_create("client")
    try:
        os.write(descriptor, certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _proxy(scheme: str, host: str) -> str:
    return "" if proxy_bypass(host) else getproxies().get(scheme, "")


# -- finding it ------------------------------------------------------------------------------------------------------


def find_access(config: KubernetesConfig, environ: Mapping[str, str] | None = None) -> Access:
    """The cluster that the options mean.

    :raises ResourceError: there is no kubeconfig, or it makes no sense.
    """
    environ = os.environ if environ is None else environ
    if environ.get(IN_CLUSTER):
        return _of_pod(environ, config)
    listed = config.kubeconfig or environ.get("KUBECONFIG", "")
    paths = [Path(text).expanduser() for text in listed.split(os.pathsep) if text]
    if not paths:
        default = Path(environ.get("HOME") or "~").expanduser() / ".kube" / "config"
        if not default.exists() and environ.get("KUBERNETES_SERVICE_HOST") and (POD / "token").exists():
            return _of_pod(environ, config)
        paths = [default]
    return _of_files(paths, config)


def _of_pod(environ: Mapping[str, str], config: KubernetesConfig) -> Access:
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        ca, namespace = (POD / "ca.crt").read_bytes(), (POD / "namespace").read_text().strip()
    except OSError as error:
        raise ResourceError(
            "this pod has no access to its cluster",
            why=str(error),
            remedy="give it a service account: rm.k8s.service_account",
            where=str(POD),
        ) from error
    server = Server(
        url=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=config.namespace or namespace,
        ca=ca,
        in_cluster=True,
        source=str(POD),
    )
    return Access(server, {"tokenFile": str(POD / "token")})


def _of_files(paths: list[Path], config: KubernetesConfig) -> Access:
    source = ", ".join(map(str, paths))
    documents = [(path, document) for path in paths if (document := _read(path)) is not None]
    if not documents:
        raise ResourceError(
            "there is no access to a Kubernetes cluster",
            why=f"no kubeconfig at {source}, and this is no pod of one",
            remedy="set rm.k8s.kubeconfig or KUBECONFIG to the file that your cluster gave you",
            where="rm.k8s.kubeconfig",
        )
    current = next(
        (str(document["current-context"]) for _, document in documents if document.get("current-context")), ""
    )
    name = config.context or current
    context = _named(documents, "contexts", name)
    if context is None:
        known = sorted({str(item.get("name")) for _, document in documents for item in document.get("contexts") or []})
        raise ResourceError(
            f"the kubeconfig has no context '{name}'" if name else "the kubeconfig has no current context",
            why=f"it has {', '.join(known) or 'none'}",
            remedy="set rm.k8s.context to one of them",
            where=source,
        )
    values = context[1].get("context") or {}
    cluster = _named(documents, "clusters", str(values.get("cluster", "")))
    if cluster is None or not (cluster[1].get("cluster") or {}).get("server"):
        raise _senseless(
            source, f"context '{name}' names the cluster '{values.get('cluster', '')}', which it does not have"
        )
    user = _named(documents, "users", str(values.get("user", "")))
    facts = cluster[1]["cluster"]
    try:
        ca = _pem(facts, "certificate-authority", cluster[0].parent)
    except (OSError, ValueError) as error:
        raise _senseless(source, f"the certificate authority cannot be read: {error}") from error
    server = Server(
        url=str(facts["server"]),
        namespace=config.namespace or str(values.get("namespace") or "default"),
        ca=ca,
        insecure=bool(facts.get("insecure-skip-tls-verify")),
        tls_name=str(facts.get("tls-server-name") or ""),
        proxy=str(facts.get("proxy-url") or ""),
        source=source,
    )
    return Access(server, (user[1].get("user") or {}) if user else {}, user[0].parent if user else Path())


def _read(path: Path) -> dict[str, Any] | None:
    import yaml

    try:
        document = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _senseless(str(path), str(error).replace("\n", " ")) from error
    if not isinstance(document, dict):
        raise _senseless(str(path), "it is empty, or no mapping")
    return document


def _named(documents: list[tuple[Path, dict[str, Any]]], kind: str, name: str) -> tuple[Path, dict[str, Any]] | None:
    """An entry and the file it is from; the first file that has it wins."""
    for path, document in documents:
        for item in document.get(kind) or []:
            if isinstance(item, dict) and item.get("name") == name and name:
                return path, item
    return None


def _senseless(source: str, why: str) -> ResourceError:
    return ResourceError(
        "the kubeconfig makes no sense",
        why=why,
        remedy="mend it, or get a new one from whoever runs the cluster",
        where=source,
    )
