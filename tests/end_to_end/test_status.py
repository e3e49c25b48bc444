"""``twister2 status`` shows what is known of every worker, of those that say little, too."""

from __future__ import annotations

import json

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until


def test_workers_outside_of_collective_calls(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import pathlib, time

        def main(env):
            if "steps" in env.args:
                env.barrier("meeting")
            for number in range(3000):
                if env.worker_id == 1:
                    env.progress(number, 3000, "rounds")
                if pathlib.Path("stop").exists():
                    return
                time.sleep(0.1)
        """
    )
    for words, text in (((), "no collective call yet"), (("steps",), "after step 1: barrier meeting at ")):
        done = jobs.start(
            "submit", "standalone", "-n", "2", "--detach", "-o", "job.heartbeat_s=0.1", program, *words
        ).finish()
        job = done.out.strip()

        def workers(job: str = job) -> list[dict[str, object]]:
            facts = json.loads(jobs.cli("status", job, "--json").out)
            return list(facts.get("workers") or ())

        wait_until(
            lambda wanted=bool(words): (rows := workers()) != [] and bool(rows[1]["progress"]) and all(
                bool(row["latest"]) == wanted for row in rows
            ),
            60,
            lambda: f"{workers()}",
        )  # fmt: skip
        shown = jobs.cli("status", job).out.splitlines()[-2:]
        assert all(text in line and " s ago" in line for line in shown), shown
        assert "of 3,000 rounds" in shown[1]
        if words:
            assert "prog.py:" in shown[0]
        (jobs.folder / "stop").touch()
        assert jobs.cli("wait", job).code == 0
        (jobs.folder / "stop").unlink()
