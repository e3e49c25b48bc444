"""Resource manager plugin ``standalone``: workers as processes or threads of this machine."""

from __future__ import annotations
