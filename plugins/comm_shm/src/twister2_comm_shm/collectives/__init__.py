"""Collective operations of the workers of one host, through memory that all members of a group map.

:mod:`area` is that memory, :mod:`group` the calls of a group in their order, :mod:`flat` the operations on small arrays
and :mod:`staged` those on large ones.
"""

from __future__ import annotations
