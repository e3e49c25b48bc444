from __future__ import annotations

import pytest

from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobState, RmContext
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plugin import SlurmPlugin
from twister2_testkit.rm import REPORT, ResourceManagerSuite

BY_TASK = (
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_TASK_PID", "SLURM_GTIDS"),
    *("SLURMD_NODENAME", "SLURM_CPUS_ON_NODE", "SLURM_TOPOLOGY_ADDR", "SLURM_CPU_BIND"),
)
BY_STEP = (
    *("SLURM_STEPID", "SLURM_STEP_ID", "SLURM_STEP_LAUNCHER_PORT", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_NODES"),
    *("SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_SRUN_COMM_PORT", "SLURM_SRUN_COMM_HOST"),
    *("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_TASKS_PER_NODE", "SLURM_NNODES", "SLURM_JOB_NUM_NODES"),
)


@pytest.mark.needs_slurm
class TestSlurm(ResourceManagerSuite):
    def make_backend(self, state_dir):
        return SlurmPlugin().rm_create(config=SlurmConfig(hold_s=0.0), context=RmContext(str(state_dir)))

    def own_variables(self):
        return {*super().own_variables(), *BY_TASK, *BY_STEP}

    def test_a_slot_starts_again_after_all_have_ended(self, rm, jobs, state_dir, reports):
        """Slurm takes the allocation back once all copies have ended well: there is nothing to start them in."""
        handle = self.submit(rm, jobs, state_dir, self.program(REPORT + "write('env', [os.getpid(), {}])", reports))
        self.until_state(rm, handle, JobState.COMPLETED)
        with pytest.raises(ResourceError, match="its allocation has ended"):
            rm.start_attempt(handle, 2, range(self.n_workers))
        assert len(self.read(reports, "env", self.n_workers)) == self.n_workers
