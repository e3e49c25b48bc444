"""The ``twister2`` command. One module per subcommand, imported when its name is typed."""

from __future__ import annotations
