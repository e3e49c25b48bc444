"""Faulty implementations, one module per kind of plugin, that the conformance suites must reject."""

from __future__ import annotations
