"""The parts of the suite about keys and memory reject faulty operators, and accept a wrapper that passes calls on."""

from __future__ import annotations

import pytest

from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.mutants.ops import Sound, mutant
from twister2_testkit.mutants.ops_keyed import KEYED_FAULTS, keeps_memory, never_spills
from twister2_testkit.ops import OpsCapabilities
from twister2_testkit.ops_keyed import KeyedChecks
from twister2_testkit.ops_spill import SpillChecks

FAULTS = {
    **{name: mutant(fault) for name, fault in KEYED_FAULTS.items()},
    "never_spills": never_spills,
    "keeps_memory": keeps_memory,
}
SPILLING = {"never_spills", "keeps_memory", "forgets_state"}
SLOW = {"test_a_key_of_100_mb"}


def rejections(wrap, *parts, stop_at_first=True):
    class Suite(*parts):
        capabilities = OpsCapabilities(
            keyed_gather=True, join=True, keyed_reduce=True, streams=True, spills=True, arrays=True, arrow=True
        )
        transport = "loopback"

        def make_operators(self):
            return wrap(NetPlugin().ops_create(config=NetConfig()))

    failed = {}
    for name in [name for name in dir(Suite) if name.startswith("test_") and name not in SLOW]:
        try:
            getattr(Suite(), name)()
        except pytest.skip.Exception:
            continue
        except (Exception, pytest.fail.Exception) as error:
            failed[name] = error
            if stop_at_first:
                break
    return failed


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_rejected(fault):
    assert rejections(FAULTS[fault], SpillChecks if fault in SPILLING else KeyedChecks)


def test_a_sound_wrapper_is_accepted():
    assert rejections(mutant(Sound), KeyedChecks, SpillChecks, stop_at_first=False) == {}
