from __future__ import annotations

import pytest

from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobState, RmContext
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plugin import SlurmPlugin
from twister2_testkit.rm import REPORT, ResourceManagerSuite


class SlurmsOwn(set):
    """Variables of tasks and steps, and those that the batch step has and a client's srun has not."""

    def __contains__(self, name):
        return super().__contains__(name) or name.startswith(("SLURM_", "SLURMD_"))


@pytest.mark.needs_slurm
class TestSlurm(ResourceManagerSuite):
    def make_backend(self, state_dir):
        return SlurmPlugin().rm_create(config=SlurmConfig(hold_s=0.0), context=RmContext(str(state_dir)))

    def doctor(self, state_dir):
        return SlurmPlugin().rm_doctor(config=SlurmConfig(), context=RmContext(str(state_dir)))

    def own_variables(self):
        return SlurmsOwn({*super().own_variables(), "ENVIRONMENT", "HOSTNAME"})

    def test_a_slot_starts_again_after_all_have_ended(self, rm, jobs, state_dir, reports):
        """Slurm takes the allocation back once all copies have ended well: there is nothing to start them in."""
        handle = self.submit(rm, jobs, state_dir, self.program(REPORT + "write('env', [os.getpid(), {}])", reports))
        self.until_state(rm, handle, JobState.COMPLETED)
        with pytest.raises(ResourceError, match="its allocation has ended"):
            rm.start_attempt(handle, 2, range(self.n_workers))
        assert len(self.read(reports, "env", self.n_workers)) == self.n_workers
