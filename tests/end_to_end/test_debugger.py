"""``breakpoint()`` where the error of a function says that it works: read from the client's standard input."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

SOURCE = """
    import sys
    import twister2
    from twister2_tset import TSetContext

    def half(x):
        if x == "seven":
            breakpoint()
        return len(x) // 2

    def main(env):
        print("halves", TSetContext(env).parallelize(["six", "seven", "eight"]).map(half).collect())

    def fails(env):
        TSetContext(env).parallelize([0]).map(lambda x: 1 // x).collect()

    if __name__ == "__main__":
        twister2.run(main, workers=int(sys.argv[1]), settings=sys.argv[2:])
"""


def settings_of_the_error(jobs: Jobs) -> list[str]:
    """Those that the error of a function names."""
    done = jobs.submit(f"{jobs.program(SOURCE)}:fails", workers=1)
    (line,) = [line for line in done.err.splitlines() if "breakpoint()" in line]
    words = line.split()
    return [words[index + 1] for index, word in enumerate(words) if word == "-o"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_of_a_graph_can_be_stepped_through(jobs: Jobs, workers: int) -> None:
    settings = settings_of_the_error(jobs)
    assert len(settings) == 3
    program = jobs.program(SOURCE)
    options = [word for setting in settings for word in ("-o", setting)]
    submit = ["-m", "twister2.cli.main", "submit", "standalone", "-n", str(workers), *options, program]
    for words in ([program, str(workers), *settings], submit):
        done = jobs.python(*words, stdin="p x\nc\n")
        assert done.code == 0, done
        assert "(Pdb) 'seven'" in done.out, done
        assert done.out.count("halves [1, 2, 2]") == workers, done
