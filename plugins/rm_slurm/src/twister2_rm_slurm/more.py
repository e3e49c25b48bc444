"""Jobs that grow: what a job gets beside its allocation are additional batch jobs, each with slots of its own."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import ResourceError
from twister2_rm_slurm import commands, states, steps
from twister2_rm_slurm.files import files_of, folder_of
from twister2_rm_slurm.plan import Plan, Shape
from twister2_rm_slurm.script import more_script

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twister2.spec.rm import JobHandle
    from twister2_rm_slurm.config import SlurmConfig
    from twister2_rm_slurm.files import Files
    from twister2_rm_slurm.queue import Queue


NOT_YET = ("PENDING", "CONFIGURING")
"""States of a job that starts its copies when it begins to run."""


@attrs.frozen
class Additional:
    """An additional batch job.

    :ivar number: of its files. :ivar native_id: Slurm's number. :ivar slots: those it was submitted for.
    """

    number: int
    native_id: str
    slots: tuple[int, ...]
    shape: Shape


@attrs.frozen
class Place:
    """Slots that one allocation holds, and how copies are started in it.

    :ivar native_id: the allocation; empty where there is none any more.
    :ivar waits: it is not there yet, and starts its copies itself when it is.
    """

    native_id: str
    part: steps.Part
    waits: bool = False


def additional(files: Files) -> list[Additional]:
    """The additional jobs of a job, oldest first; those that have ended, too."""
    found = []
    for path in files.more():
        with suppress(OSError, ValueError, KeyError, TypeError):
            number, native_id = path.stem.split("-")[1:]
            values = json.loads(path.read_bytes())
            found.append(Additional(int(number), native_id, tuple(values["slots"]), Shape(**values["shape"])))
    return found


def size_of(plan: Plan) -> int:
    """How many slots a job has now."""
    with suppress(OSError, ValueError):
        return int(plan.files.size.read_text("ascii"))
    return plan.n_workers


def set_size(plan: Plan, n_slots: int) -> None:
    """:raises ResourceError: the folder cannot be written."""
    plan.files.write(plan.files.size, str(n_slots).encode())


def owner(found: Iterable[Additional], slot: int) -> Additional | None:
    """The additional job that has a slot: the latest that was submitted for it."""
    holders = [each for each in found if slot in each.slots]
    return holders[-1] if holders else None


class More:
    """Submits, looks at and gives back additional jobs."""

    def __init__(self, config: SlurmConfig, timeout_s: float, queue: Queue) -> None:
        self._config, self._timeout_s, self._queue = config, timeout_s, queue

    def submit(self, handle: JobHandle, plan: Plan, shape: Shape, slots: Sequence[int]) -> Additional:
        """Ask for an additional job.

        :raises ResourceError: Slurm refuses it. Nothing has changed then.
        """
        files = plan.files
        number = self.next_number(files)
        row = self._queue.row(handle.native_id, handle.job_id)
        end = row.ends_at if row is not None else 0.0
        script, log = files.more_script(number), files.step_log(0, number)
        shape = attrs.evolve(shape, count=len(slots))
        try:
            files.write(script, more_script(plan, self._config, shape, slots, number, end).encode(), 0o700)
            answer = commands.run(self._config, ["sbatch", "--parsable", str(script)], self._timeout_s)
            native_id = answer.out.strip().split(";")[0]
            if answer.code or not native_id.isdigit():
                raise commands.refusal(answer)
            files.write(log, f"slots {states.compress(slots)}\n".encode())
            record = {"slots": list(slots), "shape": attrs.asdict(shape)}
            files.write(files.path(f"more-{number:04d}-{native_id}.json"), json.dumps(record).encode())
        except BaseException:
            script.unlink(missing_ok=True)
            log.unlink(missing_ok=True)
            self._take_back(handle, files)
            raise
        self._queue.forget()
        return Additional(number, native_id, tuple(slots), shape)

    def _take_back(self, handle: JobHandle, files: Files) -> None:
        """Cancel additional jobs of which there is no record: one may have been accepted although no answer came (a
        timeout, Ctrl-C), or although nothing could be written down.
        """
        self._queue.forget()
        with suppress(ResourceError):
            known = {each.native_id for each in additional(files)}
            self.cancel([native_id for native_id in self.alive(handle) if native_id not in known])
        self._queue.forget()

    @staticmethod
    def next_number(files: Files) -> int:
        """A number that neither a step's log nor an additional job has had."""
        used = [int(path.stem.rpartition("-")[2]) for path in files.step_logs()]
        used += [int(path.stem.split("-")[1]) for path in files.more()]
        return max(used, default=-1) + 1

    def alive(self, handle: JobHandle) -> dict[str, states.Row]:
        """The additional jobs that have not ended, whether their records are there or not.

        :raises ResourceError: the controller does not answer.
        """
        rows = self._queue.rows()
        return {row.native_id: row for row in rows if row.more() == handle.job_id and row.alive}

    def look(self, handle: JobHandle, plan: Plan, ended: dict[int, str]) -> str:
        """Add to what is known of slots those whose additional job has ended or waits; forget those that were given up.

        :returns: why slots are not there yet; empty when all are.
        """
        found = additional(plan.files)
        size, waits = size_of(plan), []
        for slot in [slot for slot in ended if slot >= size]:
            del ended[slot]
        for each in found:
            slots = [slot for slot in each.slots if slot < size and owner(found, slot) is each]
            row = self._queue.row(each.native_id, "") if slots else None
            if not slots:
                continue
            if row is not None and row.alive:
                if row.state in NOT_YET:
                    text = f"{states.describe(row)}, Slurm job {each.native_id}"
                    waits.append(text)
                    ended.update(dict.fromkeys(slots, text if text.startswith("waits") else f"waits: {text}"))
                continue
            why = states.describe(row) if row is not None else "Slurm knows it no more"
            for slot in slots:
                ended.setdefault(slot, f"ended with its additional Slurm job {each.native_id}: {why or 'completed'}")
        return "; ".join(dict.fromkeys(waits))

    def places(self, handle: JobHandle, plan: Plan, slots: Sequence[int]) -> list[Place]:
        """Where these slots are."""
        found, places = additional(plan.files), []
        left = set(slots)
        rows = self.alive(handle)
        for part in steps.parts_of(plan):
            mine = sorted(left.intersection(part.slots))
            if mine:
                places.append(Place(handle.native_id, attrs.evolve(part, slots=mine)))
            left.difference_update(mine)
        for each in found:
            mine = sorted(slot for slot in left if owner(found, slot) is each)
            if mine:
                row = rows.get(each.native_id)
                state = row.state if row is not None else ""
                native_id = each.native_id if state in (*NOT_YET, "RUNNING") else ""  # else it is at its end
                places.append(Place(native_id, steps.Part(each.shape, mine), state in NOT_YET))
            left.difference_update(mine)
        if left:  # of another run of the job
            places.append(Place("", steps.Part(plan.shapes[-1], sorted(left))))
        return places

    def give_back(self, handle: JobHandle, n_slots: int) -> None:
        """Let the additional jobs go whose slots are all given up.

        :raises ResourceError: Slurm does not do it.
        """
        files = files_of(handle)
        rows = self.alive(handle)
        for each in additional(files):
            if each.native_id in rows and min(each.slots) >= n_slots:
                files.write(files.released_more(each.number), b"")
                self.cancel([each.native_id])
        self._queue.forget()

    def cancel(self, native_ids: Sequence[str]) -> None:
        """:raises ResourceError: not allowed."""
        if not native_ids:
            return
        answer = commands.run(self._config, ["scancel", *native_ids], self._timeout_s)
        if answer.code and not answer.says((*commands.UNKNOWN_JOB, *commands.TOO_LATE)):
            raise ResourceError(
                f"Slurm jobs {', '.join(native_ids)} could not be cancelled",
                why=commands.last_line(answer),
                remedy="do it as the user who submitted them, or ask an administrator",
            )


def highest(handle: JobHandle) -> int:
    """One more than the highest slot that a job has had."""
    with suppress(ResourceError):
        plan = Plan.load(folder_of(handle))
        return max([plan.n_workers, *(slot + 1 for each in additional(plan.files) for slot in each.slots)])
    return 0
