"""Collectives of the MPI library: how calls are started, and how members learn of one that makes another call."""

from __future__ import annotations
