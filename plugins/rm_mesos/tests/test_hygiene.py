from __future__ import annotations

from twister2_testkit.hygiene import HygieneSuite


class TestHygiene(HygieneSuite):
    distribution = "twister2-rm-mesos"
