"""Transport between the threads of one process: plugin ``inproc`` of kind ``comm``."""

from __future__ import annotations
