"""What the tests of this plugin share."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from twister2_comm_shm.config import ShmConfig
from twister2_comm_shm.plugin import ShmPlugin
from twister2_testkit.comm_world import World


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No segment with a name, and no descriptor in the process that started the workers."""
    names, before = set(os.listdir("/dev/shm")), _shared_descriptors()
    yield
    assert _shared_descriptors() == before
    left = [name for name in set(os.listdir("/dev/shm")) - names if "twister2" in name]
    assert not left


def _shared_descriptors():
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if "memfd:twister2" in link or "eventfd" in link:
            found.append(link)
    return sorted(found)


def _mapped():
    with open("/proc/self/maps") as maps:
        return sum("memfd:twister2" in line for line in maps)


@pytest.fixture
def make_world():
    """A function that makes worlds of processes that talk through shared memory."""

    def make_world(size, *, close=True, timeout_s=30.0, **options):
        def make(context):
            return ShmPlugin().comm_create(config=ShmConfig(**options), context=context)

        return World(size, make, processes=True, timeout_s=timeout_s, close=close)

    return make_world


@pytest.fixture
def shared_in_use():
    """Called in a worker: its descriptors and its mappings of shared memory, and files in the job's folder.

    Without the descriptors of the process it was forked from: pyzmq, once used, keeps a few to the end.
    """
    inherited = Counter(_shared_descriptors())

    def look(rank):
        own = sorted((Counter(_shared_descriptors()) - inherited).elements())
        return own, _mapped(), sorted(os.listdir(rank.context.runtime_dir))

    return look
