"""Conformance suites, fakes and checks for authors of plugins. Nothing is imported here."""

from __future__ import annotations
