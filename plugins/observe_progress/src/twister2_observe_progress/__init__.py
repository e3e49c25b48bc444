"""Observer plugin ``progress``: how far a job is, on a terminal or in quiet lines."""

from __future__ import annotations
