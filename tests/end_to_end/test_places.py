"""Jobs in odd places: long, spaced and unknown folders."""

from __future__ import annotations

from twister2_testkit.jobs import Jobs

PROGRAM = """
    from twister2_net import allreduce

    def main(env):
        print(allreduce(env, 1))
"""


def test_a_long_folder_for_temporary_files(jobs: Jobs) -> None:
    """Its paths are too long for sockets."""
    long = jobs.folder / ("l" * 120)
    long.mkdir()
    jobs.environment["TMPDIR"] = str(long)
    done = jobs.submit(jobs.program(PROGRAM))
    assert done.code == 0, done
    assert done.out == "2\n2\n"


def test_a_long_name_and_a_state_folder_with_blanks(jobs: Jobs) -> None:
    jobs.state = jobs.folder / "some where" / "größe"
    jobs.environment["TWISTER2__JOB__STATE_DIR"] = str(jobs.state)
    done = jobs.submit(jobs.program(PROGRAM), "--name", "n" * 300)
    assert done.code == 0, done
    assert done.out == "2\n2\n"


def test_no_home(jobs: Jobs) -> None:
    jobs.environment.pop("HOME", None)
    jobs.environment.pop("XDG_CONFIG_HOME")
    done = jobs.submit(jobs.program(PROGRAM))
    assert done.code == 0, done
