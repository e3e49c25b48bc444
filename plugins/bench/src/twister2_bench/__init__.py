"""``twister2 bench comm``: what the communication between the workers of a profile costs."""

from __future__ import annotations
