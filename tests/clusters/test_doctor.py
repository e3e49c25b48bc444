"""``twister2 doctor`` as a command on the real servers: all is well and nothing is left, or what is wrong is said."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest

from twister2_rm_mesos import probe as mesos
from twister2_rm_mesos.config import MesosConfig
from twister2_rm_nomad import probe as nomad
from twister2_rm_nomad.config import NomadConfig
from twister2_testkit.managed import ManagedJobs

pytestmark = pytest.mark.timeout(170)

NOBODY = Path(os.environ.get("TWISTER2_K8S_HOME", "")) / "cp" / "nobody.kubeconfig"


@pytest.fixture
def doctor(request, tmp_path):
    """Asks it about a manager: its exit code, and the checks by their names."""

    def ask(manager, *settings):
        options = ["job.cpus=0.1", *settings]
        if manager == "k8s":
            options = [*request.getfixturevalue("namespace").options, *options]
        with ManagedJobs(tmp_path, manager) as jobs:
            words = [word for option in options for word in ("-o", option)]
            code, out, err = jobs.run("doctor", manager, "--json", *words)
            assert out, err
            assert not jobs.jobs(), "the job of doctor is left"
        return code, {check["name"]: check for check in json.loads(out)}

    return ask


def nomad_left():
    headers = {"X-Nomad-Token": os.environ["NOMAD_TOKEN"]}
    found = []
    for path in ("jobs?prefix=twister2-doctor", "vars?prefix=nomad/jobs/twister2-doctor"):
        asked = urllib.request.Request(f"{os.environ['NOMAD_ADDR']}/v1/{path}", headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            found += json.load(answer)
    return found


def mesos_left():
    body = b'{"type": "GET_FRAMEWORKS"}'
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    asked = urllib.request.Request(os.environ["TWISTER2_MESOS_MASTER"] + "/api/v1", body, headers)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        known = json.load(answer)["get_frameworks"].get("frameworks", ())
    return [each for each in known if "doctor-" in json.dumps(each["framework_info"])]


@pytest.mark.parametrize(
    ("manager", "checks", "left"),
    [
        pytest.param("k8s", {"API server", "namespace", "rights"}, None, marks=pytest.mark.needs_k8s),
        pytest.param("nomad", {"Nomad's server", "namespace", "version"}, nomad_left, marks=pytest.mark.needs_nomad),
        pytest.param("mesos", {"Mesos' master", "agents"}, mesos_left, marks=pytest.mark.needs_mesos),
    ],
)
def test_all_is_well_and_nothing_is_left(request, doctor, manager, checks, left):
    code, found = doctor(manager)
    assert code == 0, found
    assert {check["result"] for check in found.values()} == {"ok"}, found
    assert checks | {"job of one worker", "Python of a worker", "plugins on a worker"} <= set(found)
    assert not (left or request.getfixturevalue("namespace").left)()


def of(manager, option, check, finding):
    name = option.split("=")[0].rpartition(".")[2]
    return pytest.param(
        manager, option, check, finding, marks=getattr(pytest.mark, f"needs_{manager}"), id=f"{manager}-{name}"
    )


@pytest.mark.parametrize(
    ("manager", "option", "check", "finding"),
    [
        of("k8s", "rm.k8s.namespace=nosuch", "namespace", "there is no namespace 'nosuch'"),
        of("k8s", f"rm.k8s.kubeconfig={NOBODY}", "rights", "you may not"),
        of("k8s", "rm.k8s.image=", "image", "rm.k8s.image is empty"),
        of("k8s", "rm.k8s.image=twister2/nosuch:1", "job of one worker", "the image is not on the node"),
        of("nomad", "rm.nomad.namespace=nosuch", "namespace", "there is no namespace 'nosuch'"),
        of("nomad", "rm.nomad.datacenters=['nowhere']", "nodes", "in datacenter nowhere: ready nodes are in: dc1"),
        of("nomad", "rm.nomad.node_pool=nosuch", "nodes", "ready nodes are in: none"),
        of("nomad", "rm.nomad.driver=exec", "nodes", "drivers that work there: raw_exec"),
        of("nomad", "rm.nomad.address=http://127.0.0.1:9", "Nomad's server", "does not answer"),
        of("mesos", "rm.mesos.constraints=['rack = nowhere']", "agents", "suits"),
        of("mesos", "rm.mesos.masters=['http://127.0.0.1:9']", "Mesos' master", "does not answer"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(doctor, manager, option, check, finding):
    code, found = doctor(manager, option)
    assert code == 1, found
    assert found[check]["result"] == "failed", found
    assert finding in found[check]["finding"]
    assert found[check]["remedy"]
    assert check == "job of one worker" or found["job of one worker"]["result"] == "skipped"


@pytest.mark.needs_k8s
def test_nothing_is_said_of_what_would_be_in_a_namespace_that_is_not_there(doctor):
    _, found = doctor("k8s", "rm.k8s.namespace=nosuch")
    assert "kubectl create namespace nosuch" in found["namespace"]["remedy"]
    assert {found[name]["result"] for name in ("rights", "service account", "quota")} == {"skipped"}


@pytest.mark.needs_nomad
def test_a_token_that_nobody_knows(doctor, tmp_path):
    token = tmp_path / "token"
    token.write_text("00000000-0000-0000-0000-000000000000\n")
    token.chmod(0o600)
    code, found = doctor("nomad", f"rm.nomad.token_file={token}")
    assert code == 1, found
    assert found["credentials"]["result"] == "failed", found
    assert found["job of one worker"]["result"] == "skipped"


@pytest.mark.needs_nomad
@pytest.mark.needs_mesos
def test_servers_that_are_too_old(monkeypatch):
    monkeypatch.setattr(nomad, "OLDEST", (99, 0))
    monkeypatch.setattr(mesos, "OLDEST", (99, 0))
    asked = MesosConfig(masters=(os.environ["TWISTER2_MESOS_MASTER"],))
    found = {check.name: check for check in [*nomad.doctor(NomadConfig(), 30.0), *mesos.doctor(asked, 30.0)]}
    assert (found["version"].result, found["version"].remedy) == ("failed", "use nodes of Nomad 99.0 or newer")
    assert (found["Mesos' master"].result, found["Mesos' master"].remedy) == ("failed", "use Mesos 99.0 or newer")
