"""``twister2.run`` with the file of a program."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

CALLER = """
    import pathlib
    import twister2

    if __name__ == "__main__":
        print(twister2.run({main}, args=["x"], workers=2, files=["options.toml"]))
"""


@pytest.mark.parametrize(
    ("main", "answers"),
    [
        ('"worker.py"', "[('main', 0, 'x', 'named'), ('main', 1, 'x', 'named')]"),
        ('pathlib.Path("worker.py")', "[('main', 0, 'x', 'named'), ('main', 1, 'x', 'named')]"),
        ('"worker.py:other"', "[('other', 0), ('other', 1)]"),
    ],
)
def test_the_file_of_a_program_returns_results(jobs: Jobs, main: str, answers: str) -> None:
    jobs.program(
        """
        def main(env):
            return "main", env.worker_id, *env.args, env.job_name

        def other(env):
            return "other", env.worker_id
        """,
        "worker.py",
    )
    jobs.program('[job]\nname = "named"\n', "options.toml")
    done = jobs.python(jobs.program(CALLER.format(main=main), "caller.py"))
    assert done.code == 0, done
    assert answers in done.out


def test_a_file_that_does_not_exist(jobs: Jobs) -> None:
    jobs.program("", "options.toml")
    done = jobs.python(jobs.program(CALLER.format(main='"nowhere.py"'), "caller.py"))
    assert done.code != 0, done
    assert "cannot read the program nowhere.py" in done.err
