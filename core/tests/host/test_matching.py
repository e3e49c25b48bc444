"""Needs and offers of plugins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.host.matching import match, place_master
from twister2.spec.comm import TransportFacts
from twister2.spec.errors import CapabilityError
from twister2.spec.rm import ResourceOffers

TCP = TransportFacts(crosses_processes=True)
INPROC = TransportFacts(same_process=True, crosses_processes=False)
SHM = TransportFacts(same_host=True)
MPI = TransportFacts(worlds=("pmi2", "pmi1"))
LAPTOP = ResourceOffers(supervised=True, master_in_client=True, same_host=True)
THREADS = ResourceOffers(in_process=True, master_in_client=True, same_host=True)
CLUSTER = ResourceOffers(supervised=True, master_in_allocation=True, worlds=frozenset({"pmi2"}))


def fit(offers, workers=4, master="auto", **transports):
    return match(rm="some", offers=offers, transports=transports, workers=workers, master=master)


def test_processes_on_one_host():
    found = fit(LAPTOP, inproc=INPROC, tcp=TCP)
    assert found.transports == ("tcp",)
    assert (found.world, found.supervisors_serve, found.master) == (None, False, "client")
    assert "inproc" in found.notes[0]


def test_supervisors_serve_the_world_the_manager_does_not():
    assert (fit(LAPTOP, mpi=MPI).world, fit(LAPTOP, mpi=MPI).supervisors_serve) == (None, True)
    found = fit(CLUSTER, mpi=MPI)
    assert (found.world, found.supervisors_serve, found.master) == ("pmi2", False, "allocation")


def test_threads_have_no_world_and_need_none():
    assert fit(THREADS, inproc=INPROC, mpi=MPI).transports == ("inproc",)
    with pytest.raises(CapabilityError, match="mpi") as caught:
        fit(THREADS, mpi=MPI)
    assert "threads" in caught.value.why


def test_shared_memory_alone_serves_one_host_and_is_kept_beside_another_on_many():
    assert fit(LAPTOP, shm=SHM).transports == ("shm",)
    assert fit(CLUSTER, shm=SHM, tcp=TCP).transports == ("shm", "tcp")
    with pytest.raises(CapabilityError, match="shm"):
        fit(CLUSTER, shm=SHM)


def test_inproc_alone_under_processes_names_both_sides_and_a_remedy():
    with pytest.raises(CapabilityError) as caught:
        fit(LAPTOP, inproc=INPROC)
    error = caught.value
    assert "inproc" in error.what
    assert "'some'" in error.what
    assert "job.comm=tcp" in error.remedy


def test_one_worker_needs_no_transport():
    assert fit(LAPTOP, workers=1).transports == ()


def test_master_placement():
    assert place_master("x", LAPTOP, "client") == "client"
    with pytest.raises(CapabilityError, match="allocation"):
        place_master("x", LAPTOP, "allocation")
    behind_nat = ResourceOffers(master_in_allocation=True, why={"master_in_client": "nobody can dial the client"})
    with pytest.raises(CapabilityError, match="nobody can dial"):
        place_master("x", behind_nat, "client")
    with pytest.raises(CapabilityError):
        place_master("x", ResourceOffers(), "auto")
    either = ResourceOffers(master_in_client=True, master_in_allocation=True)
    assert place_master("x", either, "auto") == "allocation", "the client may go away"
    assert place_master("x", either, "client") == "client"


worlds = st.sampled_from(["pmi1", "pmi2", "pmix", "mpiexec"])
facts = st.builds(
    TransportFacts,
    worlds=st.lists(worlds, max_size=2).map(tuple),
    same_process=st.booleans(),
    same_host=st.booleans(),
    crosses_processes=st.booleans(),
)
offers = st.builds(
    ResourceOffers,
    worlds=st.frozensets(worlds),
    supervised=st.booleans(),
    in_process=st.booleans(),
    master_in_client=st.just(True),
    same_host=st.booleans(),
)


@given(offers, st.dictionaries(st.sampled_from("abc"), facts), st.integers(1, 5))
def test_a_match_never_promises_what_is_not_offered(offers, transports, workers):
    try:
        found = match(rm="some", offers=offers, transports=transports, workers=workers)
    except CapabilityError:
        return
    assert set(found.transports) <= set(transports)
    assert found.world is None or found.world in offers.worlds
    assert not found.supervisors_serve or offers.supervised
    if not offers.in_process and workers > 1:
        assert any(transports[name].crosses_processes for name in found.transports)
    for name in found.transports:
        served = offers.worlds | ({"pmi1"} if offers.supervised else set())
        assert not transports[name].worlds or set(transports[name].worlds) & served
