"""A worker whose interpreter or plugins differ from the submitting side's: an error that names both, at once."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.faults

CHANGED = """
    import sys
    import twister2.client.prepare as prepare
    from twister2.cli.main import main

    code = {code!r}
    # what the copies run in place of the supervisor: the same, in an installation that differs
    prepare.WORKER_COMMAND = (
        sys.executable, "-c", code + "; import sys; from twister2.worker.supervisor import main; sys.exit(main())"
    )
    sys.exit(main(sys.argv[1:]))
"""


def submit_with(jobs: Jobs, code: str, *options: str) -> object:
    program = jobs.program(
        "from twister2_net import allreduce\ndef main(env):\n    print(allreduce(env, 1))\n", "prog.py"
    )
    client = jobs.program(CHANGED.format(code=code), "client.py")
    return jobs.python(client, "submit", "standalone", "-q", "-n", "2", *options, program)


def test_the_same_installation_works(jobs: Jobs) -> None:
    done = submit_with(jobs, "pass")
    assert (done.code, done.out) == (0, "2\n2\n"), done


OTHER_PYTHON = (
    "import sys, twister2.worker.program as p; "
    "p.sys = type('Sys', (), {'version_info': (3, 99), '__getattr__': lambda self, name: getattr(sys, name)})()"
)


def test_another_python(jobs: Jobs) -> None:
    done = submit_with(jobs, OTHER_PYTHON)
    assert done.code == 2, done
    assert "[T2-P107] this worker runs Python 3.99, the job was submitted with Python 3." in done.err
    assert done.err.count("[T2-") == 1


MISSING = (
    "import sys, importlib.abc as a; "
    "F = type('F', (a.MetaPathFinder,), {'find_spec': lambda self, name, path, target=None: "
    "(_ for _ in ()).throw(ModuleNotFoundError('No module named ' + repr(name), name=name)) "
    "if name.startswith('twister2_comm_tcp') else None}); sys.meta_path.insert(0, F())"
)


USED = ("-o", "job.comm=tcp")
"""What no pair of workers needs is not loaded."""


def test_another_version_of_a_plugin(jobs: Jobs) -> None:
    metadata = jobs.folder / "other" / "twister2_comm_tcp-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: twister2-comm-tcp\nVersion: 9.9.9\n")
    done = submit_with(jobs, f"import sys; sys.path.insert(0, {str(jobs.folder / 'other')!r})", *USED)
    assert done.code == 2, done
    assert "[T2-P107]" in done.err
    assert "twister2-comm-tcp" in done.err
    assert "9.9.9" in done.err
    assert "0.1.0" in done.err
    assert done.err.count("[T2-") == 1


def test_a_plugin_that_is_missing_on_the_workers(jobs: Jobs) -> None:
    done = submit_with(jobs, MISSING, *USED)
    assert done.code == 2, done
    assert "twister2-comm-tcp" in done.err or "twister2_comm_tcp" in done.err
    assert done.err.count("[T2-") == 1
