"""A Nomad as operators have it: certificates on both sides, a region, namespaces, tasks that are isolated."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request
import uuid
import zipfile
from pathlib import Path

import pytest

from twister2.spec.errors import ResourceError
from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_nomad.config import NomadConfig
from twister2_rm_nomad.plugin import NomadPlugin
from twister2_testkit.managed import MPI_PROGRAM

pytestmark = [pytest.mark.needs_nomad, pytest.mark.timeout(300)]
SCRIPT = Path(__file__).parents[3] / "tests" / "clusters" / "nomad.sh"
PROGRAM = """
import os
from twister2_net import allreduce

def main(env):
    most = allreduce(env, env.worker_id, "max")
    print("worker", most, "as", os.getuid(), "in", sorted(os.listdir("/"))[:3], flush=True)

def shipped(env):
    import kit_shipped
    print(kit_shipped.VALUE, kit_shipped.__file__, flush=True)

def eats(env):
    kept = []
    while True:
        kept.append(bytearray(b"x" * (16 << 20)))
"""
NOBODY = 65534
EXEC = ("rm.nomad.driver=exec", f"rm.nomad.ticket_uid={NOBODY}", "job.python=/usr/local/bin/python3")


class Secure:
    """The Nomad, and a shell whose environment names it."""

    def __init__(self, home, folder):
        self._folder = folder
        self.environment = {
            **os.environ,
            "TWISTER2_NOMAD_HOME": home,
            "TWISTER2_NOMAD_TLS": "1",
            "TWISTER2_NOMAD_REGION": "far",
            "TWISTER2_NOMAD_PYTHON": sys.executable,
            "TWISTER2__JOB__STATE_DIR": str(folder / "state"),
        }
        (folder / "program.py").write_text(PROGRAM)
        (folder / "mpi.py").write_text(MPI_PROGRAM)

    def script(self, *arguments):
        done = subprocess.run(
            [str(SCRIPT), *arguments], env=self.environment, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        self.script("start", "1")
        self.environment.update(re.findall(r"(\w+)=(\S+)", self.script("env")))
        self.call("POST", "/namespace/team", {"Name": "team"})

    def call(self, method, path, body=None):
        context = ssl.create_default_context(cafile=self.environment["NOMAD_CACERT"])
        context.load_cert_chain(self.environment["NOMAD_CLIENT_CERT"], self.environment["NOMAD_CLIENT_KEY"])
        headers = {"X-Nomad-Token": self.environment["NOMAD_TOKEN"]}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.environment["NOMAD_ADDR"] + "/v1" + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    def twister2(self, *arguments, **changes):
        """Exit code, stdout, stderr."""
        done = subprocess.run(
            [sys.executable, "-m", "twister2.cli.main", *map(str, arguments)],
            cwd=self._folder,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def listed(self):
        jobs = [each["ID"] for each in self.call("GET", "/jobs?namespace=*")]
        return jobs + [each["Path"] for each in self.call("GET", "/vars?namespace=*")]


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    made = Secure(f"/tmp/t2-nomad-s{os.getpid()}", tmp_path_factory.mktemp("secure"))
    try:
        made.start()
        yield made
    finally:
        made.script("clean")


@pytest.fixture
def backend(secure, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("NOMAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NOMAD_TOKEN", secure.environment["NOMAD_TOKEN"])

    def make(**options):
        config = NomadConfig(address=secure.environment["NOMAD_ADDR"], **options)
        return NomadPlugin().rm_create(config, RmContext(str(tmp_path), 10.0))

    return make


def test_isolated_copies_in_another_namespace_and_a_kill_that_does_not_name_it(secure):
    options = [word for option in (*EXEC, "rm.nomad.namespace=team") for word in ("-o", option)]
    code, out, err = secure.twister2("submit", "nomad", "-n", 2, *options, "program.py")
    assert code == 0, err
    assert out.splitlines() == [f"worker 1 as {NOBODY} in ['alloc', 'bin', 'dev']"] * 2
    assert secure.listed() == []

    raw = ("--detach", "-n", 1, "program.py:eats")
    code, out, err = secure.twister2("submit", "nomad", *raw, NOMAD_NAMESPACE="team", NOMAD_REGION="far")
    assert code == 0, err
    job_id = out.strip()
    assert f"twister2-{job_id}" in secure.listed()
    code, _, err = secure.twister2("kill", job_id)
    assert code == 0, err
    assert secure.twister2("clean", job_id)[0] == 0
    assert secure.listed() == []


def test_wheels_that_are_shipped_reach_isolated_copies(secure, tmp_path):
    """They are unpacked in each copy's own file system."""
    with zipfile.ZipFile(wheel := tmp_path / "kit_shipped-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("kit_shipped.py", "VALUE = 42\n")
    options = [word for option in (*EXEC, f"job.wheels={wheel}") for word in ("-o", option)]
    code, out, err = secure.twister2("submit", "nomad", "-n", 2, *options, "program.py:shipped")
    assert code == 0, err
    said = [line.split() for line in out.splitlines()]
    assert [value for value, _ in said] == ["42", "42"]
    assert not any(Path(place).exists() for _, place in said), out
    assert secure.listed() == []


@pytest.mark.needs_mpi
def test_mpi_between_isolated_copies_of_one_node(secure):
    """Each has a /dev/shm of its own: MPI must take them for hosts."""
    options = [word for option in (*EXEC, "job.comm=mpi") for word in ("-o", option)]
    code, out, err = secure.twister2("submit", "nomad", "-n", 2, *options, "mpi.py")
    assert code == 0, err
    assert out.splitlines() == ["True 3.0 1 with 2 memories"] * 2
    assert secure.listed() == []


def test_out_of_memory_is_told(secure):
    options = [word for option in (*EXEC, "job.memory_mb=200") for word in ("-o", option)]
    code, _, err = secure.twister2("submit", "nomad", "-n", 1, "-o", "job.attempts=1", *options, "program.py:eats")
    assert code != 0
    assert "worker 0 was ended by the kernel: out of memory (asked for 200 MiB)" in err, err
    assert secure.listed() == []


def allocation(tmp_path):
    job_id = f"no-{uuid.uuid4().hex[:12]}"
    return Allocation(
        job_id=job_id,
        name="refused",
        groups=(ResourceGroup("worker", 1, cpus=0.1),),
        worker_command=("sleep", "60"),
        master_command=(),
        environment={},
        ticket=b"s3cr3t",
        master_ticket=b"",
        folder=str(tmp_path / job_id),
    )


def test_certificates(secure, backend, tmp_path):
    folder = Path(secure.environment["NOMAD_CACERT"]).parent
    pair = {"client_cert": str(folder / "user.crt"), "client_key": str(folder / "user.key")}
    known = {"ca_cert": str(folder / "ca.crt"), **pair}
    for options, words in (
        ({**known, "ca_cert": str(folder / "other-ca.crt")}, "Nomad's certificate is not accepted"),
        (pair, "Nomad's certificate is not accepted"),
        ({**known, "tls_server_name": "server.near.nomad"}, "Nomad's certificate is not accepted"),
        ({"ca_cert": known["ca_cert"]}, "client_cert"),
        ({**known, "client_key": str(folder / "nothing")}, "certificates for Nomad cannot be used"),
        ({**known, "region": "near"}, "No path to region"),
        ({**known, "namespace": "nosuch"}, "namespace"),
    ):
        with pytest.raises(ResourceError) as caught:
            backend(**options).submit(allocation(tmp_path))
        assert re.search(words, str(caught.value)), (options, caught.value)
    for more in ({}, {"tls_server_name": "server.far.nomad"}, {"region": "far"}):
        assert backend(**known, **more).find("unknown") is None
    assert secure.listed() == []
