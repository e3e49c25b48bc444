"""Large things on the control channel: packages, results, output."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(200)


def test_a_package_that_is_fetched_in_chunks(jobs: Jobs) -> None:
    """The start may come while the last worker still fetches."""
    (jobs.folder / "big.bin").write_bytes(bytes(range(256)) * 40_000)
    program = jobs.program(
        """
        import pathlib, sys

        def main(env):
            folder = pathlib.Path(next(path for path in sys.path if path.rpartition("/")[2].startswith("package-")))
            assert (folder / "big.bin").stat().st_size == 10_240_000
            env.barrier()
            print("went on", env.worker_id)
        """
    )
    done = jobs.submit(program, "-o", "job.files=big.bin", workers=2)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["went on 0", "went on 1"]
    assert done.seconds < 50


def test_results_that_take_long_to_hand_over(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import twister2

        def main(env):
            return bytes(60 << 20)

        if __name__ == "__main__":
            results = twister2.run(main, workers=8, config={"job": {"oversubscribe": True}})
            print([len(result) >> 20 for result in results])
        """
    )
    done = jobs.python(program, timeout_s=150)
    assert done.code == 0, done
    assert done.out == f"{[60] * 8}\n"


def test_much_output_at_once_arrives_whole(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import sys

        def main(env):
            for number in range(400_000):
                sys.stdout.write(f"{env.worker_id} {number:06} {'x' * 90}\\n")
            sys.stdout.write("without a newline")
        """
    )
    done = jobs.submit(program, workers=2, timeout_s=150)
    assert done.code == 0, done.err
    for worker in range(2):
        numbers = [line[2:8] for line in done.out.splitlines() if line.startswith(f"{worker} ") and line[8:10] == " x"]
        assert len(numbers) > 399_900  # a line or two of both workers may share one
        assert numbers == sorted(numbers)
    assert len(done.out) == 2 * (400_000 * 100 + len("without a newline"))


def test_many_log_records_do_not_make_a_worker_seem_lost(jobs: Jobs) -> None:
    program = jobs.program(
        """
        def main(env):
            for number in range(60_000):
                env.log.info("record %d", number)
        """
    )
    options = ("-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=4")
    done = jobs.submit(program, *options, workers=2, timeout_s=150)
    assert done.code == 0, done.err[-2000:]
    assert done.err.count(" record ") == 120_000
