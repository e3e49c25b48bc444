"""Who waits polls first where that helps, and sleeps at once where threads of the transport need the processor."""

from __future__ import annotations

import pytest

from twister2.spec.errors import DeadlineError
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.loopback import LoopbackTransport


@pytest.mark.parametrize("spins", [True, False])
def test_a_worker_polls_only_where_that_helps(spins):
    asked = 0

    class Transport(LoopbackTransport):
        def progress(self):
            nonlocal asked
            asked += 1
            return super().progress()

    Transport.spins = spins

    def main(env):
        nonlocal asked
        if env.worker_id == 0:
            env.network.spin_s, asked = 1.0, 0
            with pytest.raises(DeadlineError):
                env.network.wait_until(lambda: False, "nothing", 1.5)
        env.link.exchange("test", "over", None, 60)
        return asked

    count, _ = LocalCluster(2, Transport, deadline_s=90).run(main)
    # its sleeps are each twice as long: a dozen fit
    assert count > 100 if spins else count < 50
