"""What a master knows of its job from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from twister2.config import JobConfig
from twister2.spec.rm import ResourceGroup
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.control.master_ticket import MasterTicket


@attrs.frozen(eq=False, repr=False)
class JobFacts(Value):
    """What the master knows of its job from the start.

    :ivar fresh_world: every attempt needs a new process world from the resource manager, hence all supervisors anew.
    :ivar expects_client: the submitting client follows the job, or is on its way to do so.
    :ivar elsewhere: the workers are not on this host. :ivar returns: the resource manager starts the master again.
    :ivar package: the package's name, where it does.
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
    segments: tuple[str, ...] = ()
    fresh_world: bool = False
    expects_client: bool = True
    returns: bool = False
    elsewhere: bool = False
    package: str = ""

    @classmethod
    def of(
        cls,
        ticket: MasterTicket,
        config: JobConfig,
        state_root: str,
        *,
        state_shared: bool = True,
        returns: bool = False,
        elsewhere: bool = False,
    ) -> JobFacts:
        """From what the client has put down for the master."""
        return cls(
            job_id=ticket.job_id,
            name=ticket.name,
            config=config,
            groups=tuple(ResourceGroup(**group) for group in ticket.groups),
            master_public=ticket.master_public,
            client_key=ticket.client_key,
            state_root=state_root,
            state_shared=state_shared,
            serve_pmi=ticket.serve_pmi,
            segments=ticket.segments,
            fresh_world=ticket.world is not None,
            expects_client=not ticket.detached,
            returns=returns,
            elsewhere=elsewhere,
            package=ticket.package,
        )

    @property
    def n_workers(self) -> int:
        return sum(group.count for group in self.groups)
