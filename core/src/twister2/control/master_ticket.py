"""What the client hands to the job master and to nobody else."""

from __future__ import annotations

import json
from typing import Any

import attrs

from twister2.spec.values import Value

SHRINKS = 4
"""A package of so many times the room is not compressed in vain."""


@attrs.frozen(eq=False, repr=False)
class MasterTicket(Value):
    """What the master needs and nobody else may have.

    :ivar folder: the job's folder where the master runs. :ivar runtime_dir: the job's short-lived folder there.
    :ivar listen: addresses to bind: ``ipc://path`` or ``tcp://*``. :ivar in_client: whether it is a child of the
        client.
    :ivar detached: whether the job goes on when the client has gone.
    :ivar resolved: the configuration, :ivar pins: pinned plugins, :ivar groups: resource groups, as plain data.
    :ivar program: the program's name for people.
    :ivar handle: the allocation's handle when it was known in time.
    :ivar package: the package's name, by which one that comes from elsewhere is known to be it.
    :ivar has_package: the package lies in ``folder`` where the master can read it; else it is ``packed`` here, or a
        client pushes it.
    :ivar shares_state: ``folder`` and the state folder around it are the client's; else the master keeps files of its
        own.
    :ivar world: process world to start; :ivar serve_pmi: the supervisors serve PMI-1 instead.
    :ivar segments: what the transports may leave in shared memory (:mod:`twister2.worker.segments`).
    """

    job_id: str
    name: str
    folder: str
    runtime_dir: str
    listen: tuple[str, ...]
    in_client: bool
    detached: bool
    master_public: str
    master_secret: str = attrs.field(repr=False)
    client_key: str = attrs.field(repr=False)
    join_key: str = attrs.field(repr=False)
    resolved: dict[str, Any]
    pins: dict[str, Any]
    groups: list[dict[str, Any]]
    program: str = ""
    package: str = ""
    has_package: bool = True
    packed: str = attrs.field(default="", repr=False)
    shares_state: bool = True
    world: str | None = None
    serve_pmi: bool = False
    segments: tuple[str, ...] = ()
    handle: dict[str, Any] | None = None

    def with_package(self, package: bytes, limit: int) -> MasterTicket:
        """The ticket with the package in it; as it is if it had more than ``limit`` bytes then."""
        import binascii
        import zlib

        if len(package) > SHRINKS * limit:
            return self
        made = attrs.evolve(self, packed=binascii.b2a_base64(zlib.compress(package), newline=False).decode())
        return made if len(made.encode()) <= limit else self

    def unpacked(self) -> bytes:
        """The package that is in it; empty when there is none."""
        import binascii
        import zlib

        return zlib.decompress(binascii.a2b_base64(self.packed)) if self.packed else b""

    def encode(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> MasterTicket:
        values = json.loads(data)
        return cls(**{**values, "listen": tuple(values["listen"]), "segments": tuple(values["segments"])})
