"""Logs of a copy that writes more than Nomad keeps: nothing is told twice, and the end is not lost."""

from __future__ import annotations

import sys
import time
import uuid

import pytest

from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_nomad import jobspec
from twister2_rm_nomad.config import NomadConfig
from twister2_rm_nomad.logs import DROPPED, LogReader
from twister2_rm_nomad.plugin import NomadPlugin

pytestmark = [pytest.mark.needs_nomad, pytest.mark.timeout(120)]
WRITER = """
import pathlib, sys, time

number = 0
for megabytes, go in ((2, "second"), (8, "third"), (1, "end")):
    for _ in range(megabytes * 10000):
        print(f"{number:0100d}")
        number += 1
    sys.stdout.flush()
    pathlib.Path(sys.argv[1], f"before-{go}").touch()
    while not pathlib.Path(sys.argv[1], go).exists():
        time.sleep(0.05)
"""


def test_a_log_is_read_on_when_its_oldest_files_have_been_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(jobspec, "LOGS_MB", 1)  # times 3 files
    rm = NomadPlugin().rm_create(NomadConfig(), RmContext(str(tmp_path)))
    (tmp_path / "writer.py").write_text(WRITER)
    job_id = f"logs-{uuid.uuid4().hex[:12]}"
    handle = rm.submit(
        Allocation(
            job_id=job_id,
            name="logs",
            groups=(ResourceGroup("worker", 1, cpus=0.1),),
            worker_command=(sys.executable, str(tmp_path / "writer.py"), str(tmp_path)),
            master_command=(),
            environment={},
            ticket=b"s3cr3t",
            master_ticket=b"",
            folder=str(tmp_path / job_id),
        )
    )

    def read(until):
        """What is new, until a line has come, in numbers; whether something was dropped before it."""
        text, end = "", time.monotonic() + 60
        while f"{until:0100d}\n" not in text:
            assert time.monotonic() < end, text[-300:]
            texts = reader.read(rm._job(handle.native_id), rm._allocs(handle.native_id))
            text += "".join(chunk.text for chunk in texts if chunk.stream != "stderr")
            time.sleep(0.05)
        whole = [line for line in text.replace(DROPPED, "\n").split() if len(line) == 100]
        return [int(line) for line in whole], DROPPED in text

    def wait_for(name):
        end = time.monotonic() + 60
        while not (tmp_path / name).exists():
            assert time.monotonic() < end
            time.sleep(0.05)

    reader = LogReader(rm._api, None)
    try:
        lines, dropped = read(19_999)
        assert lines == list(range(20_000))
        assert not dropped
        (tmp_path / "second").touch()
        wait_for("before-third")
        (tmp_path / "third").touch()
        lines, dropped = read(109_999)
        assert dropped
        assert lines == sorted(set(lines)), "told twice, or out of order"
        assert lines[0] >= 20_000
        (tmp_path / "end").touch()
        assert rm.state(handle)
    finally:
        rm.kill(handle, 0.1)
        assert rm.clean(handle) == []
