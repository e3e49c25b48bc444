"""Transport over Unix and TCP sockets: plugin ``tcp`` of kind ``comm``."""

from __future__ import annotations
