"""The hostile resource manager keeps the contract, and is as hostile as it says."""

from __future__ import annotations

import json
import os
import socket
import time

import attrs
import pytest

from twister2.spec.rm import JobState, ResourceGroup, RmContext
from twister2_testkit.hostile.forward import forwarded
from twister2_testkit.hostile.plugin import HostileConfig, HostilePlugin
from twister2_testkit.rm import ResourceManagerSuite
from twister2_testkit.rm_harness import REPORT, STAND


def backend(state_dir, **options):
    return HostilePlugin().rm_create(config=HostileConfig(**options), context=RmContext(str(state_dir)))


class TestHostile(ResourceManagerSuite):
    slot_source = HostilePlugin.slot_source

    def make_backend(self, state_dir):
        return backend(state_dir, twice=0, late_s=0.1, secret_late_s=0.05, master_restarts=3)


class TestHostility(ResourceManagerSuite):
    """Its own tests; those of the suite are above."""

    slot_source = HostilePlugin.slot_source

    def make_backend(self, state_dir):
        return backend(state_dir, twice=2, late_s=0.5, secret_late_s=0.5)

    def test_some_copies_come_twice_and_all_know_their_slots(self, rm, jobs, state_dir, reports):
        self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        slots = sorted(self.slot(each) for each in self.environments(reports, self.n_workers + 2).values())
        assert set(slots) == set(range(self.n_workers))
        assert len(slots) == self.n_workers + 2

    @pytest.mark.needs_mount
    def test_copies_share_no_files_with_the_client(self, rm, jobs, state_dir, reports):
        allocation = self.allocation(state_dir, "true")
        folder = os.path.join(allocation.folder, "secret.txt")
        os.makedirs(allocation.folder)
        with open(folder, "w") as file:
            file.write("the client's")
        look = f"write('look', [os.path.exists({folder!r}), os.listdir(os.environ['HOME']), os.listdir('/dev/shm')])\n"
        command = self.program(REPORT + look + "open(os.environ['HOME'] + '/mine', 'w').close()", reports)
        jobs.append(rm.submit(attrs.evolve(allocation, worker_command=command)))
        for visible, home, shared in self.read(reports, "look", self.n_workers + 2):
            assert not visible
            assert sorted(home) == ["ticket", "tmp"]
            assert shared == []
        assert os.path.exists(folder)

    def test_a_duplicate_does_not_count_for_the_state(self, rm, jobs, state_dir, reports):
        handle = self.submit(rm, jobs, state_dir, ("true",))
        self.until_state(rm, handle, JobState.COMPLETED)
        assert rm.state(handle).slots == dict.fromkeys(range(self.n_workers), "exited 0")

    def test_no_secret_is_left_when_it_was_removed_and_pods_go_on(self, rm, jobs, state_dir, reports):
        handle = self.submit(rm, jobs, state_dir, self.program(STAND, reports))
        self.environments(reports, self.n_workers + 2)
        rm.remove_secrets(handle)
        rm.remove_secrets(handle)
        assert not {"ticket", "master"} & {path.name for path in rm._objects(handle.job_id).path.iterdir()}
        time.sleep(0.5)  # a node that missed them would end, and its pods with it
        assert rm.state(handle).state is JobState.RUNNING

    def test_the_master_is_reached_through_a_forwarder_only(self, rm, jobs, state_dir, reports):
        master = (
            REPORT
            + "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
            + "write('port', [server.getsockname()[1], 'TWISTER2_TICKET' in os.environ])\n"
            + "data = open(os.environ['TWISTER2_MASTER_TICKET']).read()\n"
            + "peer, _ = server.accept()\npeer.sendall(data.encode())\npeer.close()\n"
        )
        handle = self.submit(
            rm,
            jobs,
            state_dir,
            self.program(STAND, reports),
            master=ResourceGroup("master", 1),
            master_command=self.program(master, reports),
            master_ticket=b"the master's",
        )
        ((port, has_ticket),) = self.read(reports, "port", 1)
        assert not has_ticket
        with pytest.raises(Exception, match="cannot be reached"):
            rm.open_channel(handle)
        rm.publish(handle, json.dumps({"addresses": [f"tcp://127.0.0.1:{port}"]}).encode())
        with rm.open_channel(handle) as addresses:
            (address,) = addresses
            assert address != f"tcp://127.0.0.1:{port}"
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 5) as connection:
                received = b"".join(iter(lambda: connection.recv(100), b""))
        assert received == b"the master's"
        # the job ends with its master, whatever the workers do
        self.until_state(rm, handle, JobState.COMPLETED)


for _name in [name for name in dir(ResourceManagerSuite) if name.startswith("test_")]:
    setattr(TestHostility, _name, None)


def test_a_forwarder_passes_both_ways_and_closes():
    with socket.create_server(("127.0.0.1", 0)) as server, forwarded("127.0.0.1", server.getsockname()[1]) as address:
        near = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 5)
        far, _ = server.accept()
        with near, far:
            near.sendall(b"x" * 100_000)
            got = b""
            while len(got) < 100_000:
                got += far.recv(65536)
            far.sendall(b"back")
            assert near.recv(4) == b"back"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 5)
