"""Stores of fsspec: web servers with and without parts and lengths, fresh listings, credentials that nobody sees."""

from __future__ import annotations

import gzip
import http.server
import re
import threading
import traceback

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from twister2.spec.data import WriteRequest
from twister2.spec.errors import DataAccessError, DataFormatError, DataNotFoundError, Twister2Error
from twister2_data_file import remote

LINES = [f"line {number}" for number in range(90_000)]
SECRET = "".join(["hu", "sh"])  # not to be found in the lines of this file that a traceback shows
TEXT = "".join(f"{line}\n" for line in LINES).encode()


class Web(http.server.ThreadingHTTPServer):
    """A web server. ``kind``: ``parts`` gives parts, ``whole`` ignores what is asked, ``endless`` tells no length,
    ``cut`` ends too early."""

    daemon_threads = True

    def __init__(self, kind):
        self.kind = kind
        self.files = {}
        self.asked = []
        super().__init__(("127.0.0.1", 0), Answer)

    def url(self, name, user=""):
        return f"http://{user}127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, request, client_address):
        """A client that hangs up is no error."""


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        """Nothing."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        kind, body = self.server.kind, self.server.files.get(self.path.partition("?")[0].lstrip("/"))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.server.asked.append((self.command, bool(wanted)))
        if kind == "broken" or body is None:
            self.send_response(500 if kind == "broken" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if wanted and kind == "parts":
            first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            body = body[first : last + 1]
        else:
            self.send_response(200)
        if kind == "endless":
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)
            if kind == "cut":
                self.close_connection = True


@pytest.fixture
def web():
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    servers = []

    def start(kind):
        server = Web(kind)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.mark.parametrize("kind", ["parts", "whole", "endless"])
@pytest.mark.parametrize("n_tasks", [1, 3])
def test_text_of_a_web_server(files, web, kind, n_tasks):
    server = web(kind)
    server.files = {"a.txt": TEXT, "b.txt.gz": gzip.compress(b"packed\n"), "c.txt": b"last"}
    uris = [server.url(name) for name in server.files]
    assert files.read(*uris, n_tasks=n_tasks) == [*LINES, "packed", "last"]
    _, plan = files.plan(server.url("a.txt"), n_tasks=3)
    assert (len(plan.splits) > 1) == (kind == "parts")


@pytest.mark.parametrize("kind", ["parts", "whole", "endless"])
@pytest.mark.parametrize("format", ["parquet", "arrow", "csv", "json", "binary"])
def test_formats_of_a_web_server(files, web, tmp_path, kind, format):
    options = {"dtype": "<i8"} if format == "binary" else {}
    rows = list(range(20_000)) if format == "binary" else [{"n": number} for number in range(20_000)]
    files.write(tmp_path / "out", format, [rows], **options)
    (part,) = (tmp_path / "out").glob("part-*")
    server = web(kind)
    server.files = {"x": part.read_bytes()}
    assert files.read(server.url("x"), format=format, n_tasks=2, **options) == rows


@pytest.mark.parametrize("kind", ["parts", "whole", "endless"])
def test_positions_in_a_file_of_a_web_server(files, web, kind):
    server = web(kind)
    server.files = {"a.txt": TEXT}
    request, plan = files.plan(server.url("a.txt"), n_tasks=1)
    reader = files.backend.open(request, plan.splits)
    first = list(reader.poll())
    again = files.backend.open(request, plan.splits)
    again.restore(reader.position())
    reader.close()
    assert [*first, *again.poll()][: len(first) + 10] == LINES[: len(first) + 10]
    again.close()


def test_skipping_reads_a_web_server_twice(files, web):
    server = web("endless")
    server.files = {"a.txt": b"good\n", "b.txt": b"bad \xff\n"}
    assert files.read(server.url("a.txt"), server.url("b.txt"), on_decode_error="skip") == ["good"]


def test_links_of_a_page(files, web):
    server = web("parts")
    page = b'<html><a href="a.txt">a</a><a href="b.txt">b</a><a href="c.csv">c</a></html>'
    server.files = {
        "folder": page,
        "folder/": page,
        "folder/a.txt": b"a\n",
        "folder/b.txt": b"b\n",
        "folder/c.csv": b"c\n",
    }
    assert files.read(server.url("folder/*.txt")) == ["a", "b"]
    with pytest.raises(DataNotFoundError, match="no link that matches"):
        files.read(server.url("folder/*.none"))


def test_what_a_web_server_does_not_have(files, web):
    server = web("parts")
    server.files = {"there": b"x\n"}
    with pytest.raises(DataNotFoundError) as caught:
        files.plan(server.url("absent.txt"), server.url("there"), server.url("gone.txt"))
    assert "absent.txt" in str(caught.value)
    assert "gone.txt" in str(caught.value)


def test_a_web_server_with_errors(files, web):
    with pytest.raises(DataAccessError, match="500"):
        files.plan(web("broken").url("x"))
    server = web("cut")
    server.files = {"x": TEXT}
    with pytest.raises(DataAccessError, match="cannot read"):
        files.read(server.url("x"))


def test_nobody_listens(files, web):
    server = web("parts")
    url = server.url("x")
    server.shutdown()
    server.server_close()
    with pytest.raises(DataAccessError, match="cannot read"):
        files.plan(url)


def test_a_silent_web_server_is_given_up(files, monkeypatch):
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    import socket

    monkeypatch.setattr(remote, "SILENCE_S", 0.3)
    fsspec.filesystem("http").clear_instance_cache()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DataAccessError, match="cannot read"):
        files.plan(f"http://127.0.0.1:{silent.getsockname()[1]}/x")


def test_web_servers_take_no_files(files):
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    request = WriteRequest(f"http://127.0.0.1:1/out?sig={SECRET}", "text", 0, 1, 1, "k", {})
    with pytest.raises(DataAccessError, match="take none") as caught:
        files.backend.create_writer(request).write(["x"])
    assert SECRET not in told(caught.value)


def told(error):
    """Everything that a log may say of an error."""
    details = str(error.details) if isinstance(error, Twister2Error) else ""
    return "".join(traceback.format_exception(error)) + str(error) + repr(error) + details


@pytest.mark.parametrize(
    ("name", "body", "format"),
    [
        ("absent", None, "text"),
        ("x", b"\xff", "text"),
        ("x", b'{"a":1}\nnull\n', "json"),
        ("x", b"nothing", "parquet"),
        ("x", b"nothing", "arrow"),
        ("x.gz", b"nothing", "text"),
        ("x.csv", b"a,b\n1,2\n3\n", "csv"),
        ("x.csv", b"a,a\n1,2\n", "csv"),
    ],
)
@pytest.mark.parametrize("kind", ["parts", "broken", "cut"])
def test_credentials_are_in_no_error(files, web, kind, name, body, format):
    server = web(kind)
    server.files = {} if body is None else {name: body * 2 if kind == "cut" else body}
    with pytest.raises(Twister2Error) as caught:
        files.read(server.url(f"{name}?sig={SECRET}&x={SECRET}", user=f"{SECRET}:{SECRET}@"), format=format)
    assert SECRET not in told(caught.value)
    assert "***" in str(caught.value)


def test_credentials_are_in_no_plan(files, web):
    server = web("parts")
    server.files = {"x": TEXT, "b": b"bad \xff\n"}
    urls = [server.url(f"{name}?sig={SECRET}", user=f"{SECRET}:{SECRET}@") for name in server.files]
    _, plan = files.plan(*urls, on_decode_error="skip")
    assert [split.label for split in plan.splits if SECRET in split.label or "***" not in split.label] == []
    (reader,) = files.readers(*urls, n_tasks=1, on_decode_error="skip")
    while not reader.skipped():
        reader.poll()
    reader.close()
    assert SECRET not in str(reader.skipped())


def test_two_files_that_differ_show_no_credentials(files, web):
    server = web("parts")
    server.files = {"a": b"x,y\n1,2\n", "b": b"x,z\n1,2\n"}
    with pytest.raises(DataFormatError) as caught:
        files.read(*(server.url(f"{name}?sig={SECRET}") for name in server.files), format="csv")
    assert SECRET not in told(caught.value)


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_new_files_are_seen(files, memory):
    memory.pipe("memory://new/a.txt", b"a\n")
    assert files.read("memory://new") == ["a"]
    memory.pipe("memory://new/b.txt", b"b\n")
    assert files.read("memory://new") == ["a", "b"]


def test_listings_are_not_kept(files, memory, monkeypatch):
    """Stores remember what a folder held; every plan asks them anew."""
    cleared = []
    monkeypatch.setattr(type(memory), "invalidate_cache", lambda *_: cleared.append(1))
    memory.pipe("memory://new/a.txt", b"a\n")
    for times in (1, 2):
        files.plan("memory://new")
        assert len(cleared) == times


@pytest.mark.parametrize("format", ["csv", "json", "parquet", "arrow"])
def test_formats_in_memory(files, memory, format):
    rows = [{"n": number, "s": f"é{number}"} for number in range(1000)]
    files.write("memory://out/x", format, [rows[:500]], [rows[500:]])
    assert files.read("memory://out/x", format=format, n_tasks=3) == rows
    with pytest.raises(DataAccessError, match="not empty"):
        files.write("memory://out/x", format, [rows], key="another")


def test_a_package_that_is_missing_is_named(files, monkeypatch):
    def missing(uri, **_):
        raise ImportError("install it")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(DataAccessError, match="cannot reach") as caught:
        files.read(f"s3://key:{SECRET}@bucket/x")
    assert "pip install s3fs" in str(caught.value)
    assert SECRET not in told(caught.value)


def test_the_server_in_a_uri_is_kept(files):
    """Two servers of one scheme are two stores."""

    class Named:
        protocol = "named"

        @staticmethod
        def _strip_protocol(uri):
            return "/" + uri.partition("://")[2].partition("/")[2]

        @staticmethod
        def unstrip_protocol(name):
            return f"named://{name}"

    store = object.__new__(remote.RemoteStore)
    store._fs, store._uri, store._web = Named, "named://server:80/data/*.txt", False
    assert store._named("/data/a.txt") == "named://server:80/data/a.txt"


def test_schemas_are_of_all_files(files, memory):
    for number, column in enumerate(["a", "b"]):
        with memory.open(f"memory://p/{number}.parquet", "wb") as file:
            pa.parquet.write_table(pa.table({column: [1]}), file)
    with pytest.raises(DataFormatError, match="different schemas"):
        files.read("memory://p", format="parquet")
