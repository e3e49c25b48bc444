"""Groups of workers: what a group leaves out, their order and names, and their sum."""

from __future__ import annotations

import json

import pytest

from twister2.config import Resolved
from twister2.config.groups import resource_groups
from twister2.spec.errors import ConfigError
from twister2.spec.rm import ResourceGroup

TWO = """
[job]
cpus = 2
memory_mb = 100
[job.groups.small]
count = 3
cpus = 0.5
scalable = false
[job.groups.big]
memory_mb = 0
disk_mb = 9
gpus = 1
"""


def test_groups_in_the_order_of_the_file_with_what_the_job_says(layers, host):
    found = layers(host, project=TWO)
    groups = (
        ResourceGroup("small", 3, 0.5, 100, 0, 0, scalable=False),
        ResourceGroup("big", 1, 2.0, 0, 9, 1),
    )
    assert resource_groups(found.job) == groups
    assert found.job.workers == 4
    assert "project" in found.origins["job.groups.big.gpus"].replace("twister2.toml", "project")
    again = Resolved.from_dict(json.loads(json.dumps(found.to_dict())), host)
    assert resource_groups(again.job) == groups


def test_one_group_where_none_is_named(layers, host):
    job = layers(host, settings=["job.workers=5", "job.gpus=1"]).job
    assert resource_groups(job) == (ResourceGroup("worker", 5, 1.0, 0, 0, 1),)


def test_layers_add_to_groups(layers, host):
    job = layers(host, project=TWO, settings=["job.groups.big.count=2", "job.groups.more={count=1}"]).job
    assert [(group.name, group.count) for group in resource_groups(job)] == [("small", 3), ("big", 2), ("more", 1)]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("job.workers=7", "job.workers: is 7, but job.groups has 4 workers (small 3, big 1)"),
        ("job.groups.small.count=0", "job.groups.small.count: must be >= 1: 0"),
        ("job.groups.big.cpu=1", "job.groups.big.cpu: unknown option; did you mean 'cpus'?"),
        ("job.groups.Big.count=1", "has a group 'Big'"),
        ("job.groups.master.count=1", "has a group 'master'"),
        ("job.groups=3", "job.groups: must be a table of table, is '3'"),
    ],
)
def test_what_is_wrong_with_groups_is_said_with_its_key(layers, host, setting, text):
    with pytest.raises(ConfigError) as caught:
        layers(host, project=TWO, settings=[setting])
    assert text in str(caught.value)


def test_the_sum_may_be_given_beside_them(layers, host):
    assert layers(host, project=TWO, settings=["job.workers=4"]).job.workers == 4
