from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.errors import ConfigError, ResourcesExceededError
from twister2_rm_standalone.config import StandaloneConfig
from twister2_rm_standalone.hosts.places import Place, parse, parse_file, places_of, spread


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("h1", Place("h1")),
        ("h2:4", Place("h2", 4)),
        ("me@node-3.example.org:16", Place("me@node-3.example.org", 16)),
        ("10.0.0.7:2", Place("10.0.0.7", 2)),
        ("[fe80::1]:3", Place("fe80::1", 3)),
    ],
)
def test_a_host_and_its_number(text, place):
    assert parse(text) == place


@pytest.mark.parametrize("text", ["", "h1:0", "h1:many", "-oProxyCommand=evil", "h 1", "h1:4:5", "h1:-2"])
def test_what_is_no_host(text):
    with pytest.raises(ValueError, match="is no host"):
        parse(text)


def test_a_hosts_file():
    text = "# ours\nh1\nh2:4  # big\n\nh3 slots=2\nh4 8\n"
    assert parse_file(text) == [Place("h1"), Place("h2", 4), Place("h3", 2), Place("h4", 8)]
    with pytest.raises(ValueError, match="line 2"):
        parse_file("h1\nh2 a b\n")


def test_errors_name_the_option_and_the_host(tmp_path):
    with pytest.raises(ConfigError, match="h1 is named twice"):
        places_of(StandaloneConfig(hosts=("h1", "h1:2")))
    with pytest.raises(ConfigError, match="No such file"):
        places_of(StandaloneConfig(hosts_file=str(tmp_path / "none")))
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="names no host"):
        places_of(StandaloneConfig(hosts_file=str(tmp_path / "empty")))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 40), st.booleans())
def test_every_slot_has_one_host_and_no_host_too_many(counts, n, oversubscribe):
    places = [Place(f"h{number}", count) for number, count in enumerate(counts)]
    room = sum(counts) if all(counts) else n
    if n > room and not oversubscribe:
        with pytest.raises(ResourcesExceededError):
            spread(places, range(n), {}, oversubscribe)
        return
    shares = spread(places, range(n), {}, oversubscribe)
    assert [slot for slots in shares.values() for slot in slots] == [*range(n)]
    sizes = {place.name: len(shares.get(place.name, ())) for place in places}
    if n <= room:
        assert all(not place.count or sizes[place.name] <= place.count for place in places)
    free = [size for place, size in zip(places, sizes.values(), strict=True) if not place.count]
    assert not free or max(free) - min(free) <= 1, "hosts without a number get alike"


def test_slots_that_lost_their_host_go_where_room_is():
    places = [Place("h1", 2), Place("h2", 4)]
    assert spread(places, [4, 5], {"h1": [0, 1], "h2": [2, 3]}, False) == {"h2": [4, 5]}
    with pytest.raises(ResourcesExceededError, match="h1:2, h2:4"):
        spread(places, [4, 5, 6], {"h1": [0, 1], "h2": [2, 3]}, False)
