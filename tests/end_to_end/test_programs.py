"""Programs that work: how they are found and shipped, what they are given, what comes back."""

from __future__ import annotations

import json

import pytest

from twister2_testkit.jobs import Jobs

HELLO = """
    import sys

    def main(env):
        print("hello from", env.worker_id, "of", env.n_workers, flush=True)
        print("to stderr from", env.worker_id, file=sys.stderr, flush=True)
        env.log.info("logged by %d", env.worker_id)
        env.log.debug("not shown")
        env.barrier()
"""


def test_what_workers_print_and_log_reaches_the_terminal(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program(HELLO), workers=3)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == [f"hello from {worker} of 3" for worker in range(3)]
    for worker in range(3):
        assert f"to stderr from {worker}\n" in done.err
        assert f"INFO worker {worker}: logged by {worker}\n" in done.err
        log = (jobs.job() / "logs" / f"worker-{worker}.log").read_text()
        assert f"hello from {worker} of 3" in log
        assert f"to stderr from {worker}" in log
        assert f"logged by {worker}" in log
    assert "not shown" not in done.err


def test_arguments_arrive_unchanged(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import json, sys
        def main(env):
            if env.worker_id == 1:
                print(json.dumps([env.args, sys.argv[1:]]))
        """
    )
    args = ["-n", "5", "--", "", "two words", "größe", "*.txt", "--name=x", "a:b", '"quoted" $HOME']
    done = jobs.submit(program, args=args)
    assert done.code == 0, done
    assert json.loads(done.out) == [args, args]


def test_another_function_is_named_after_a_colon(jobs: Jobs) -> None:
    program = jobs.program("def other(env):\n    print('other', env.worker_id)\n")
    done = jobs.submit(f"{program}:other", workers=1)
    assert (done.code, done.out) == (0, "other 0\n"), done


def test_results_of_every_worker_by_id(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import json, time
        import numpy as np
        import twister2

        class Box:
            def __init__(self, value): self.value = value

        def main(env):
            time.sleep(0.05 * (env.n_workers - env.worker_id))  # the last one returns first
            return {"id": env.worker_id, "array": np.arange(env.worker_id + 1), "box": Box(env.args), "nothing": None}

        if __name__ == "__main__":
            results = twister2.run(main, workers=3, args=["x", "--y"], name="results")
            assert [int(r["array"].sum()) for r in results] == [0, 1, 3]
            assert all(type(r["box"]) is Box for r in results)
            print(json.dumps([[r["id"], r["box"].value] for r in results]))
        """
    )
    done = jobs.python(program)
    assert done.code == 0, done
    assert json.loads(done.out) == [[worker, ["x", "--y"]] for worker in range(3)]
    assert json.loads((jobs.job() / "record.json").read_text())["name"] == "results"


def test_run_twice_in_one_process_and_a_large_result(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import twister2

        def main(env):
            return bytes(8 << 20)

        if __name__ == "__main__":
            for _ in range(2):
                print([len(r) for r in twister2.run(main, workers=2)])
        """
    )
    done = jobs.python(program)
    assert (done.code, done.out) == (0, f"{[8 << 20] * 2}\n" * 2), done
    assert len(jobs.folders()) == 2


NOTEBOOK = """
import twister2
factor = 3
def helper(x):
    return x * factor
def main(env):
    return helper(env.worker_id)
print(twister2.run(main, workers=2))
print(twister2.run(lambda env: env.worker_id + factor, workers=2))
"""


def test_functions_without_a_file_travel_by_value(jobs: Jobs) -> None:
    for words, stdin in ((["-"], NOTEBOOK), (["-c", NOTEBOOK], None)):
        done = jobs.python(*words, stdin=stdin)
        assert (done.code, done.out) == (0, "[0, 3]\n[3, 4]\n"), done


def test_a_function_defined_inside_another_travels_by_value(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import twister2
        def factory(n):
            def main(env):
                return n + env.worker_id
            return main
        if __name__ == "__main__":
            print(twister2.run(factory(10), workers=2))
        """
    )
    done = jobs.python(program)
    assert (done.code, done.out) == (0, "[10, 11]\n"), done


def test_local_modules_packages_and_files_are_shipped(jobs: Jobs) -> None:
    jobs.program("VALUE = 'beside'\nfrom pack.deep import inner\n", "app/helper.py")
    jobs.program("", "app/pack/__init__.py")
    jobs.program("from . import sibling\nfrom .sub.leaf import LEAF\nvalue = sibling.NAME + LEAF\n", "app/pack/deep.py")
    jobs.program("inner = 1\n", "app/pack/sibling_unused.py")
    jobs.program("NAME = 'sibling'\n", "app/pack/sibling.py")
    jobs.program("", "app/pack/sub/__init__.py")
    jobs.program("from ..sibling import NAME\nLEAF = '+leaf+' + NAME\n", "app/pack/sub/leaf.py")
    jobs.program("from pack.deep import value\nfrom pack import deep\nVALUE = 'beside'\n", "app/helper.py")
    program = jobs.program(
        """
        import pathlib
        import helper
        def main(env):
            import pack.sub.leaf as late
            if env.worker_id == 0:
                print(helper.VALUE, helper.value, late.LEAF, helper.__file__)
                print(pathlib.Path.cwd())
        """,
        "app/program.py",
    )
    elsewhere = jobs.folder / "elsewhere"
    elsewhere.mkdir()
    done = jobs.start("submit", "standalone", program, cwd=elsewhere).finish()
    assert done.code == 0, done
    said, cwd = done.out.splitlines()
    assert said.startswith("beside sibling+leaf+sibling +leaf+sibling ")
    assert str(jobs.folder / "app") not in said, "the module was read beside the program, not from the package"
    assert cwd == str(elsewhere)


def test_further_files_are_shipped(jobs: Jobs) -> None:
    (jobs.folder / "data" / "deep").mkdir(parents=True)
    (jobs.folder / "data" / "deep" / "table.csv").write_text("1,2")
    (jobs.folder / "words.txt").write_bytes(b"\x00\xff")
    program = jobs.program(
        """
        import pathlib, sys
        def main(env):
            here = pathlib.Path(sys.path[0])
            print((here / "data/deep/table.csv").read_text(), (here / "words.txt").read_bytes())
        """
    )
    done = jobs.submit(program, "-o", "job.files=data,words.txt", workers=1)
    assert (done.code, done.out) == (0, "1,2 b'\\x00\\xff'\n"), done


def test_facts_in_the_environment(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os
        import twister2
        def main(env):
            volatile = env.volumes.volatile
            (volatile / "scratch").write_text("x")
            env.on_close(lambda: print("closing", env.worker_id))
            infos = env.controller.workers()
            assert [info.worker_id for info in infos] == [0, 1]
            assert infos[env.worker_id].node == env.node
            assert env.node.host == os.uname().nodename
            assert env.node.addresses
            assert env.config["job"]["workers"] == 2
            assert env.config["job"]["cpus"] == 0.5
            values = env.controller.exchange("mine", {"n": env.worker_id})
            return {
                "volatile": str(volatile),
                "memory": env.memory.use().limit,
                "asked": infos[0].memory_mb,
                "attempt": env.attempt,
                "job": [env.job_id, env.job_name],
                "values": values,
                "threads": os.environ["OMP_NUM_THREADS"],
            }
        if __name__ == "__main__":
            import json, pathlib
            results = twister2.run(main, workers=2, settings=["job.memory_mb=700", "job.cpus=0.5", "job.name=Facts!"])
            assert not any(pathlib.Path(r["volatile"]).exists() for r in results), "a volatile folder stays"
            print(json.dumps(results))
        """
    )
    done = jobs.python(program)
    assert done.code == 0, done
    *lines, answer = done.out.splitlines()
    assert sorted(lines) == ["closing 0", "closing 1"]
    first, second = json.loads(answer)
    assert first["volatile"] != second["volatile"]
    assert first["memory"] == 700 << 20
    assert first["asked"] == 700
    assert first["attempt"] == 1
    assert first["job"] == [jobs.job().name, "Facts!"]
    assert first["values"] == [{"n": 0}, {"n": 1}]
    assert first["threads"] == "1"


def test_one_worker_and_more_workers_than_cores(jobs: Jobs) -> None:
    program = jobs.program(HELLO)
    assert jobs.submit(program, workers=1).out == "hello from 0 of 1\n"
    done = jobs.submit(program, workers=7)
    assert done.code == 0, done
    assert len(done.out.splitlines()) == 7
    assert "CPUs" in done.err, "no warning about more workers than cores"


def test_two_jobs_at_once_do_not_see_each_other(jobs: Jobs) -> None:
    program = jobs.program(
        """
        def main(env):
            values = []
            for turn in range(30):
                values += env.controller.exchange("v", [env.job_id, env.args[0]])
            assert {tuple(v) for v in values} == {(env.job_id, env.args[0])}
            env.barrier()
            print(env.args[0], len(env.controller.workers()))
        """
    )
    clients = [jobs.start("submit", "standalone", "-n", "2", program, name) for name in ("one", "two", "three")]
    for client, name in zip(clients, ("one", "two", "three"), strict=True):
        done = client.finish()
        assert (done.code, done.out) == (0, f"{name} 2\n" * 2), done
    assert len(jobs.folders()) == 3


def test_children_and_daemons_of_the_program_end_with_it(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import subprocess, sys
        def main(env):
            subprocess.Popen(["sleep", "300"])
            subprocess.Popen(["sleep", "300"], start_new_session=True)
            daemon = "import os, time; os.fork() or (os.setsid(), os.fork() or time.sleep(300))"
            subprocess.Popen([sys.executable, "-c", daemon])
        """
    )
    done = jobs.submit(program)
    assert done.code == 0, done


@pytest.mark.parametrize("turn", range(2))
def test_output_without_newlines_and_much_of_it(jobs: Jobs, turn: int) -> None:
    program = jobs.program(
        """
        import os, sys
        def main(env):
            if env.worker_id == 0:
                for _ in range(2000):
                    print("x" * 999)
                os.write(1, "no newline ü".encode())
                os.write(2, b"bytes \\xff\\xfe")
        """
    )
    done = jobs.submit(program)
    assert done.code == 0, done.err
    assert done.out == ("x" * 999 + "\n") * 2000 + "no newline ü"
    assert "bytes \ufffd\ufffd" in done.err


def test_functions_of_sets_are_told_the_configuration(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_tset import TSetContext

        def about(context):
            return context.config["job"]["name"], context.config["job"]["workers"], context.worker_id

        def collects(records, collect, context):
            collect(about(context))

        def main(env):
            told = []
            words = TSetContext(env).parallelize(["to", "be"], 2)
            pairs = words.key_by(len)
            for answers in (
                words.map(lambda word, context: about(context)),
                words.flat_map(lambda word, context: [about(context)]),
                words.map_to_tuple(lambda word, context: (word, about(context))).values(),
                words.filter(lambda word, context: about(context)[1] == 2).map(lambda word, context: about(context)),
                words.map_batches(lambda batch, context: [about(context)] * len(batch)),
                words.compute(lambda records, context: about(context)),
                words.compute(collects, collector=True),
                words.map_partitions(lambda records, context: [about(context)]),
                pairs.map_values(lambda word, context: about(context)).values(),
                pairs.flat_map_values(lambda word, context: [about(context)]).values(),
            ):
                told.append(answers.collect())
            words.for_each(lambda word, context: told.append([about(context)]))
            assert env.config["job"]["name"] == "sets"
            print(told[:-1] == [[("sets", 2, 0), ("sets", 2, 1)]] * 10, told[-1])
        """
    )
    done = jobs.submit(program, "-q", "--name", "sets")
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == [f"True [('sets', 2, {worker})]" for worker in (0, 1)]
