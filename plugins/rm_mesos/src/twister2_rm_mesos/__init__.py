"""Resource manager plugin ``mesos``: the workers of a job are tasks of one framework of Mesos."""

from __future__ import annotations
