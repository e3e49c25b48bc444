"""Which addresses are published and dialled, and which are refused."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import attrs
import pytest
import zmq

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2.spec.errors import NetworkError
from twister2.spec.transports import socket_path
from twister2_comm_tcp import dial
from twister2_comm_tcp.address import LOOPBACK, listen_addresses, targets
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.transport import TcpTransport

NODE = NodeFacts(
    "host",
    ("127.0.0.1", "192.0.2.7", "2001:db8::7"),
    boot_id="one",
    interfaces={"lo": "127.0.0.1", "eth0": "192.0.2.7"},
)


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    return TransportContext(
        job_id="job",
        attempt=1,
        rank=0,
        size=2,
        node=NODE,
        runtime_dir=str(folder),
        session="session",
        curve_public=public,
        curve_secret=secret,
        peer_keys={0: public, 1: public},
        aborted=lambda: False,
    )


def test_all_addresses_but_loopback_are_published(context):
    assert listen_addresses(TcpConfig(), context, ipc=True) == ["192.0.2.7", "2001:db8::7"]


def test_no_port_is_opened_when_nobody_could_dial_it(context):
    alone = attrs.evolve(context, node=NodeFacts("host", ("127.0.0.1",)))
    transport = TcpTransport(TcpConfig(), alone)
    address = transport.open()
    transport.close()
    assert (address["tcp"], address["port"]) == ([], 0)


@pytest.mark.parametrize("name", ["eth0", "192.0.2.7"])
def test_an_interface_may_be_chosen_by_name_or_address(context, name):
    assert listen_addresses(TcpConfig(interface=name), context, ipc=True) == ["192.0.2.7"]


def test_an_unknown_interface_is_an_error_that_names_the_known(context):
    with pytest.raises(NetworkError, match="eth0") as caught:
        listen_addresses(TcpConfig(interface="ib0"), context, ipc=True)
    assert "ib0" in caught.value.what


def test_plain_listens_on_loopback_only(context):
    assert listen_addresses(TcpConfig(plain=True, same_host="tcp"), context, ipc=False) == ["127.0.0.1"]
    with pytest.raises(NetworkError, match="loopback"):
        listen_addresses(TcpConfig(plain=True, interface="eth0"), context, ipc=True)


def test_plain_dials_loopback_only(context):
    config = TcpConfig(plain=True, same_host="tcp")
    assert targets(config, context, 1, {"tcp": ["127.0.0.1"], "port": 9}) == [("127.0.0.1", 9)]
    with pytest.raises(NetworkError, match="loopback"):
        targets(config, context, 1, {"tcp": ["192.0.2.8"], "port": 9})


def test_a_unix_socket_is_dialled_only_where_it_is_seen(context, tmp_path):
    path = str(tmp_path / "socket")
    address = {"boot": "one", "ipc": path, "tcp": ["192.0.2.8"], "port": 9}
    assert targets(TcpConfig(), context, 1, address) == [("192.0.2.8", 9)], "same kernel, other file system"
    open(path, "w").close()
    assert targets(TcpConfig(), context, 1, address) == [path, ("192.0.2.8", 9)]
    assert targets(TcpConfig(), context, 1, {**address, "boot": "two"}) == [("192.0.2.8", 9)]
    assert targets(TcpConfig(same_host="tcp"), context, 1, address) == [("192.0.2.8", 9)]


def test_loopback_comes_before_addresses_that_may_go(context):
    """Once a worker of this host was dialled at the address of a bridge, which was taken down in the middle."""
    transport = TcpTransport(TcpConfig(same_host="tcp"), context)
    address = transport.open()
    transport.close()
    own = [("127.0.0.1", address["port"])]
    others = [(host, address["port"]) for host in ("192.0.2.7", "2001:db8::7")]
    assert targets(TcpConfig(), context, 1, address) == own + others
    assert targets(TcpConfig(), context, 1, {**address, "loopback": "one 1"}) == others, "another namespace"
    one = TcpTransport(TcpConfig(same_host="tcp", interface="lo"), context)
    assert one.open()["loopback"] == ""
    one.close()


def test_a_folder_that_others_can_enter_is_refused(context):
    os.chmod(context.runtime_dir, 0o755)
    with pytest.raises(NetworkError, match="not private"):
        socket_path(context, "t")


def test_where_the_path_is_too_long_for_a_socket_workers_of_a_host_use_tcp(context, tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir(mode=0o700)
    context = attrs.evolve(context, runtime_dir=str(folder), node=attrs.evolve(context.node, addresses=("127.0.0.1",)))
    assert socket_path(context, "t") == ""
    transport = TcpTransport(TcpConfig(), context)
    try:
        assert transport.open()["tcp"] == ["127.0.0.1"]
    finally:
        transport.close()


def test_a_taken_port_is_named_and_nothing_stays_open(context):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        transport = TcpTransport(TcpConfig(same_host="tcp", interface="lo", port=port), context)
        with pytest.raises(NetworkError, match=str(port)):
            transport.open()
        transport.close()


def test_an_address_that_does_not_answer_is_asked_again_with_two_descriptors_at_most(monkeypatch):
    """Its queue is full: the system drops what comes, like a network that loses packets."""
    monkeypatch.setattr(dial, "AGAIN_S", 0.01)
    monkeypatch.setattr(dial, "SETTLE_S", 60.0)
    with socket.create_server((LOOPBACK, 0), backlog=0) as server, contextlib.ExitStack() as stack:
        target = server.getsockname()
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(target)
        asked = dial.Dial([target], lambda target: zmq.Context.instance().socket(zmq.PUSH), lambda *_: None)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            assert asked.poll() is None
            assert asked.target is None
            assert len(os.listdir("/proc/self/fd")) <= before + 1
            time.sleep(0.012)
        stack.close()
        server.setblocking(False)
        deadline = time.monotonic() + 30.0
        while asked.target is None:
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError):
                server.accept()[0].close()
            asked.poll()
        assert asked.target == target
        asked.close()


def test_nobody_listens_at_any_of_several_addresses(monkeypatch):
    monkeypatch.setattr(dial, "SETTLE_S", 60.0)
    with socket.create_server((LOOPBACK, 0)) as one, socket.create_server((LOOPBACK, 0)) as other:
        targets = [one.getsockname(), other.getsockname()]
    asked = dial.Dial(targets, pytest.fail, lambda *_: None)
    deadline = time.monotonic() + 30.0
    while not asked.failed:
        assert time.monotonic() < deadline
        assert asked.poll() is None
    assert "nobody listens" in asked.problem
