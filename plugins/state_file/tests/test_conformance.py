from __future__ import annotations

from twister2.spec.state import StateContext
from twister2_state_file.config import FileStateConfig
from twister2_state_file.plugin import FileStatePlugin
from twister2_testkit.state import StateSuite


class TestFile(StateSuite):
    def make_store(self, root):
        return FileStatePlugin().state_create(config=FileStateConfig(), context=StateContext(str(root)))
