"""Twister2 over the default transports: the same."""

# benchmark: venv=twister2 launch=submit packages=twister2-core,twister2-net,twister2-tset,numpy
from __future__ import annotations

from harness.iterations import main as main
