"""The user's home folder, by one rule for configuration and state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def home_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """``HOME`` where it is an absolute path, else what the system's list of users says, else None.

    Daemons and batch systems may start processes without ``HOME``, and containers for users whom no list knows.
    """
    home = (os.environ if environ is None else environ).get("HOME", "")
    if os.path.isabs(home):
        return Path(home)
    import pwd

    try:
        listed = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None
    return Path(listed) if os.path.isabs(listed) else None
