"""What a master knows of its job from the start."""

from __future__ import annotations

import attrs

from twister2.config import JobConfig
from twister2.spec.rm import ResourceGroup


@attrs.frozen
class JobFacts:
    """What the master knows of its job from the start.

    :ivar fresh_world: every attempt needs a new process world from the resource manager, hence all supervisors anew.
    """

    job_id: str
    name: str
    config: JobConfig
    groups: tuple[ResourceGroup, ...]
    master_public: str
    client_key: str = attrs.field(repr=False)
    state_root: str = ""
    state_shared: bool = True
    serve_pmi: bool = False
    fresh_world: bool = False

    @property
    def n_workers(self) -> int:
        return sum(group.count for group in self.groups)
