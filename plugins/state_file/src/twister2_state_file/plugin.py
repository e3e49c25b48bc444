"""Entry point of the plugin."""

from __future__ import annotations

from twister2.spec.plugin import hookimpl
from twister2.spec.state import StateContext, StateSpec, StateStore
from twister2_state_file.config import FileStateConfig


class FileStatePlugin(StateSpec):
    """Files of a folder, the user's state folder by default."""

    api = (1, 0)
    config_class = FileStateConfig

    @hookimpl
    def state_create(self, config: FileStateConfig, context: StateContext) -> StateStore:
        from twister2_state_file.store import FileStore

        return FileStore(config.path or context.root)
