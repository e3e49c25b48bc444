"""Transport over shared memory between the workers of one host: plugin ``shm`` of kind ``comm``."""

from __future__ import annotations
