"""Jobs whose workers differ: numbered through the groups, each worker with its own share, and schedulers see it."""

from __future__ import annotations

from twister2_testkit.jobs import Jobs

GROUPS = """
[job.groups.big]
memory_mb = 300
cpus = 2
[job.groups.small]
count = 2
memory_mb = 100
gpus = 1
"""


def test_workers_know_their_group_and_share(jobs: Jobs) -> None:
    (jobs.folder / "twister2.toml").write_text(GROUPS)
    program = jobs.program(
        """
        import os

        def main(env):
            me = env.controller.workers()[env.worker_id]
            print(env.worker_id, env.n_workers, me.group, me.memory_mb, me.gpus, os.environ["OMP_NUM_THREADS"])
        """
    )
    done = jobs.start("submit", "standalone", program).finish(60)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["0 3 big 300 0 2", "1 3 small 100 1 1", "2 3 small 100 1 1"]
    listed = jobs.cli("submit", "standalone", "--dry-run", program)
    assert "1 x big (2 CPUs, 300 MiB), 2 x small (1 CPU, 100 MiB, 1 GPUs)" in listed.out, listed


def test_tasks_go_where_what_they_ask_for_is(jobs: Jobs) -> None:
    (jobs.folder / "twister2.toml").write_text(GROUPS)
    program = jobs.program(
        """
        from twister2.graph import Graph
        from twister2.spec.tasks import END, Sink, Source

        class Numbers(Source):
            def __init__(self, index):
                self.batches = [[index]]

            def poll(self):
                return self.batches.pop() if self.batches else END

        class Where(Sink):
            def open(self, context):
                print("trained on", context.worker_id)

            def write(self, batch, edge):
                pass

        def main(env):
            graph = Graph("groups")
            graph.add_source("numbers", Numbers, 1)
            graph.add_sink("train", lambda index: Where(), 2, gpus=1)
            graph.connect("numbers", "train", "net.partition")
            env.run(graph)
        """
    )
    done = jobs.start("submit", "standalone", "-o", "job.sched=firstfit", program).finish(60)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["trained on 1", "trained on 2"], done
