"""The network module of a worker: all channels of all steps over whatever transports the job has.

``wire`` is the header of a message, ``codec`` turns batches into frames, ``ports`` keep credits per channel, ``steps``
number the collective actions of groups, ``forming`` brings transports up and chooses one per pair of workers, and
``network`` ties them together behind :class:`twister2.spec.network.Network`.
"""

from __future__ import annotations

from twister2.worker.network.codec import register_serializer
from twister2.worker.network.forming import form_network
from twister2.worker.network.network import WorkerNetwork

__all__ = ["WorkerNetwork", "form_network", "register_serializer"]
