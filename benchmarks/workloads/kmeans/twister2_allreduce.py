"""Twister2, operators: a part of the points on each worker, one allreduce per iteration."""

# benchmark: venv=twister2 launch=submit packages=twister2-core,numpy
from __future__ import annotations

from harness.twister2_kmeans import main as main
