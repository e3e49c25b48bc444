"""Wheels shipped with a job: imported on the workers, unpacked once, checked before anything starts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

PROGRAM = """
    import kit_shipped, kit_apart

    def main(env):
        print(kit_shipped.VALUE, kit_apart.VALUE, kit_shipped.__file__.split("/wheels/")[0])
"""


def wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return folder / name


@pytest.fixture
def wheels(jobs: Jobs) -> Path:
    """A folder of two wheels; the second has its module where wheels may have it, too."""
    jobs.environment["XDG_CACHE_HOME"] = str(jobs.folder / "cache")
    folder = jobs.folder / "wheels"
    wheel(folder, "kit_shipped-1.0-py3-none-any.whl", {"kit_shipped.py": "VALUE = 42\n"})
    wheel(folder, "kit_apart-2.0-py3-none-any.whl", {"kit_apart-2.0.data/purelib/kit_apart.py": "VALUE = 43\n"})
    return folder


def test_workers_import_them_and_nodes_keep_them(jobs: Jobs, wheels: Path) -> None:
    program = jobs.program(PROGRAM)
    cache = jobs.folder / "cache" / "twister2"
    for _ in range(2):
        done = jobs.submit(program, "-o", f"job.wheels={wheels}", workers=3)
        assert (done.code, done.out) == (0, f"42 43 {cache}\n" * 3), done
    kept = [*(cache / "wheels").iterdir()]
    assert len(kept) == 2, kept
    (kept[0] / "kit_shipped.py").unlink(missing_ok=True)
    wheel(wheels, "kit_shipped-1.0-py3-none-any.whl", {"kit_shipped.py": "VALUE = 44\n"})
    done = jobs.submit(program, "-o", f"job.wheels={wheels}", workers=1)
    assert (done.code, done.out) == (0, f"44 43 {cache}\n"), "one of the same name and other content is another"


def test_where_nothing_can_be_kept_each_worker_unpacks_its_own(jobs: Jobs, wheels: Path) -> None:
    (jobs.folder / "cache").write_text("no folder")
    done = jobs.submit(jobs.program(PROGRAM), "-o", f"job.wheels={wheels}")
    assert done.code == 0, done
    assert done.out.count("42 43 ") == 2, done


def test_a_user_without_a_home_keeps_nothing_in_the_folder_of_the_job(jobs: Jobs, wheels: Path) -> None:
    jobs.environment.update(XDG_CACHE_HOME="cache-here", HOME="home-here")
    done = jobs.submit(jobs.program(PROGRAM), "-o", f"job.wheels={wheels}")
    assert done.code == 0, done
    assert done.out.count("42 43 ") == 2, done
    assert not [*jobs.folder.rglob("cache-here"), *jobs.folder.rglob("home-here")]


def test_what_is_wrong_with_them(jobs: Jobs, wheels: Path) -> None:
    program = jobs.program(PROGRAM)
    (jobs.folder / "none").mkdir()
    (jobs.folder / "broken-1-py3-none-any.whl").write_text("no zip")
    two = wheel(jobs.folder, "kit_shipped-2.0-py3-none-any.whl", {"kit_shipped.py": ""})
    other = wheel(jobs.folder, "kit_shipped-1.0-py3-none-any.whl", {"kit_shipped.py": "VALUE = 0\n"})
    for value, text in (
        ("none", "none of job.wheels is no wheel, nor a folder of wheels"),
        ("broken-1-py3-none-any.whl", "is no wheel"),
        ("missing.whl", "is no wheel"),
        (f"{wheels},{two}", "job.wheels has two versions of kit_shipped"),
        (f"{wheels},{other}", f"{wheels / other.name} and {other}"),
    ):
        done = jobs.submit(program, "-o", f"job.wheels={value}")
        assert done.code == 1, done
        assert text in done.err, done
    threads = jobs.submit(program, "-o", f"job.wheels={wheels}", "-o", "rm.standalone.workers_as=threads")
    assert threads.code == 2, threads
    assert "workers that are threads" in threads.err, threads
    assert not jobs.folders()
