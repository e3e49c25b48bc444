"""What comes over the wire: bytes that are no text, https and principals, a server that takes a connection and says
nothing.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from twister2.spec.errors import ResourceError
from twister2_rm_mesos.api import Api, RefusedError
from twister2_rm_mesos.config import MesosConfig
from twister2_rm_mesos.logs import LogReader

WRITTEN = "grüße 数据 ".encode() * 5 + b"\xff\xfe" + b"ende"


class Agent(http.server.BaseHTTPRequestHandler):
    """Master and agent in one; files come in pieces of 7 bytes, as they are.

    With ``server.secret`` it answers nobody else.
    """

    def do_GET(self):
        asked = urlsplit(self.path)
        wanted = getattr(self.server, "secret", "")
        if wanted and self.headers["Authorization"] != "Basic " + base64.b64encode(wanted.encode()).decode():
            self.send_error(401)
            return
        if asked.path == "/slaves":
            body = '{"slaves": [{"id": "a1", "hostname": "localhost", '
            body = (body + f'"pid": "slave(1)@127.0.0.1:{self.server.server_port}"}}]}}').encode()
        elif asked.path == "/files/read":
            query = parse_qs(asked.query)
            at = int(query["offset"][0])
            piece = WRITTEN[at : at + 7] if query["path"] == ["/box/stdout"] else b""
            body = b'{"data": "' + piece + b'", "offset": ' + str(at).encode() + b"}"
        else:
            body = b'{"frameworks": [{"executors": [{"id": "t1", "directory": "/box"}]}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Not to stderr."""


@contextlib.contextmanager
def serving(secret="", pair=None):
    """An agent's port; with TLS when there is a certificate."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        server.secret = secret
        if pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair / "crt", pair / "key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two certificates for this host, each its own authority."""
    made = []
    for name in ("one", "other"):
        folder = tmp_path_factory.mktemp(name)
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout key -out crt"
        words = [*command.split(), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        try:
            subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=60)
        except FileNotFoundError:
            pytest.skip("openssl makes the certificates of this test")
        made.append(folder)
    return made


def text_of(config):
    return "".join(chunk.text for chunk in LogReader(Api(config, 20.0), None).read([("t1", 0, "a1")]))


def test_logs_are_read_to_the_end_whatever_bytes_they_hold():
    with serving() as port:
        assert text_of(MesosConfig(masters=(f"http://127.0.0.1:{port}",))) == WRITTEN.decode("utf-8", "replace")


def test_agents_are_asked_by_https_and_as_the_principal(pairs, tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")
    who = {"principal": "anna", "secret_file": str(tmp_path / "secret")}
    with serving("anna:s3cret", pairs[0]) as port:
        masters = (f"https://localhost:{port}",)
        known = MesosConfig(masters=masters, ca_cert=str(pairs[0] / "crt"), **who)
        assert text_of(known) == WRITTEN.decode("utf-8", "replace")
        with pytest.raises(RefusedError, match="401"):
            Api(MesosConfig(masters=masters, ca_cert=str(pairs[0] / "crt")), 20.0).get("/slaves")


def test_a_wrong_authority_and_no_tls_at_all_are_told(pairs):
    with serving(pair=pairs[0]) as port:
        masters = (f"https://localhost:{port}",)
        for config in (MesosConfig(masters=masters, ca_cert=str(pairs[1] / "crt")), MesosConfig(masters=masters)):
            with pytest.raises(ResourceError, match="Mesos' certificate is not accepted") as caught:
                Api(config, 20.0).get("/slaves")
            assert "rm.mesos.ca_cert" in caught.value.remedy
        with pytest.raises(ResourceError, match="certificate for Mesos cannot be used"):
            Api(MesosConfig(masters=masters, ca_cert="/nowhere/ca.pem"), 20.0).get("/slaves")
    with serving() as port, pytest.raises(ResourceError, match="no secure connection"):
        Api(MesosConfig(masters=(f"https://localhost:{port}",)), 20.0).get("/slaves")


def test_a_subscription_that_is_not_answered_does_not_take_as_long_as_a_silent_stream_may():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        api = Api(MesosConfig(masters=(f"http://127.0.0.1:{mute.getsockname()[1]}",)), 0.3)
        begun = time.monotonic()
        with pytest.raises(ResourceError, match="Mesos does not answer"):
            api.subscribe({}, 25.0)
        assert time.monotonic() - begun < 20
