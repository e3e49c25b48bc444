"""Workers on several hosts, reached with OpenSSH: this side (``manager``) and what runs on each host (``agent``)."""

from __future__ import annotations
