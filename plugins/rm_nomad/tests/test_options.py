"""Options that become parts of Nomad's job."""

from __future__ import annotations

import json

import attrs
import pytest

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_nomad.api import Access, refusal
from twister2_rm_nomad.config import NomadConfig
from twister2_rm_nomad.jobspec import SECOND, job_spec
from twister2_rm_nomad.plugin import NomadPlugin

ALLOCATION = Allocation(
    "job-1", "job", (ResourceGroup("worker", 2, cpus=1.5),), ("worker",), ("master",), {}, b"t", b"m", "/nowhere"
)


def job(**options):
    return job_spec(ALLOCATION, NomadConfig(**options), mhz=2000.0)


def resources(made):
    return made["TaskGroups"][0]["Tasks"][0]["Resources"]


def test_priority_and_constraints():
    made = job(priority=77, constraints=("${attr.cpu.arch} = amd64", "${node.class} regexp big|huge"))
    assert made["Priority"] == 77
    assert [(each["LTarget"], each["Operand"], each["RTarget"]) for each in made["Constraints"]] == [
        ("${attr.cpu.arch}", "=", "amd64"),
        ("${node.class}", "regexp", "big|huge"),
    ]


def test_shares_or_whole_cores():
    assert resources(job())["CPU"] == 3000
    whole = resources(job(cores=True))
    assert whole["Cores"] == 2
    assert "CPU" not in whole


def test_the_grace_of_copies_that_nomad_stops():
    """The script ends a copy within it, and Nomad waits a little longer."""
    task = job(stop_grace_s=7.5)["TaskGroups"][0]["Tasks"][0]
    assert task["KillTimeout"] == 13 * SECOND
    assert "8" in task["Config"]["args"]


def test_the_speed_of_a_cpu_may_be_given(tmp_path):
    """Whatever the nodes have: ``job.cpus`` means the same wherever the job goes."""
    manager = NomadPlugin().rm_create(NomadConfig(cpu_mhz=1234.0), RmContext(str(tmp_path)))
    assert manager._mhz([]) == 1234.0


def test_a_dry_run_asks_nobody_where_the_speed_of_a_cpu_does_not_matter(tmp_path):
    def shown(**options):
        config = NomadConfig(address=f"unix://{tmp_path}/nobody", **options)
        return json.loads(NomadPlugin().rm_create(config, RmContext(str(tmp_path), 2.0)).render(ALLOCATION))["Job"]

    for options in ({"cpu_mhz": 2000.0}, {"cores": True}):
        assert shown(**options) == job(**options), options
    with pytest.raises(ResourceError, match="does not answer"):
        shown()


def test_the_job_master_asks_for_little():
    allocation = attrs.evolve(ALLOCATION, master=ResourceGroup("master", 1))
    made = job_spec(allocation, NomadConfig(master_cpus=0.5, master_memory_mb=400), mhz=2000.0)
    wants = {group["Name"]: resources({"TaskGroups": [group]}) for group in made["TaskGroups"]}
    assert wants == {"worker": {"CPU": 3000, "MemoryMB": 300}, "master": {"CPU": 1000, "MemoryMB": 400}}


@pytest.mark.parametrize(
    ("status", "words", "refused"),
    [
        (500, "No cluster leader", False),
        (500, "rpc error: leadership lost while committing log", False),
        (500, "rpc error: failed to get conn: dial tcp 127.0.0.1:4647: connect: connection refused", False),
        (500, "no servers", False),
        (500, "rpc error: EOF", False),
        (500, 'nonexistent namespace "x"', True),
        (403, "Permission denied", True),
    ],
)
def test_servers_that_are_away_or_have_no_leader_refuse_nothing(status, words, refused):
    error = refusal(Access("http://127.0.0.1:4646", "token", "default", ""), status, words)
    assert isinstance(error, SubmissionRefusedError) is refused
    assert ("try again" in error.remedy) is not refused
    assert words in error.why
