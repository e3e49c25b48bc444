"""Kind ``api``: programming interfaces such as TSet. Listed by ``twister2 plugins list``, never selected: users import
them by name. An API plugin builds graphs with :mod:`twister2.graph` and executes them with ``env.run``.
"""

from __future__ import annotations

from typing import ClassVar

from twister2.spec.plugin import PluginSpec


class ApiSpec(PluginSpec):
    """Base of every ``twister2.api`` plugin.

    :cvar module: the module users import; :cvar summary: one line for the list.
    """

    kind: ClassVar[str] = "api"
    module: ClassVar[str]
    summary: ClassVar[str]
