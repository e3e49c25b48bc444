"""The words of the displays: one job as one or two lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twister2_observe_progress.view import JobView

BAR = 24
REASON = 200
"""Characters of a reason that are shown: the rest is in the error, or in ``twister2 status``."""
_STEPS = ("", "k", "M", "G", "T", "P")


def amount(value: float) -> str:
    """A number in four significant places at most: ``999``, ``1.23k``, ``45.6M``."""
    step = 0
    while abs(value) >= 999.5 and step < len(_STEPS) - 1:
        value /= 1000
        step += 1
    if step == 0 and value == int(value):
        return str(int(value))
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{_STEPS[step]}"


def span(seconds: float) -> str:
    """A time: ``4.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def plain(text: str) -> str:
    """Text of users without control characters: it must not move the cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def short(reason: str) -> str:
    """The beginning of a reason: of a job that failed it is what its program said, which may be any data."""
    return plain(reason if len(reason) <= REASON else f"{reason[: REASON - 3]}...")


def headline(view: JobView) -> str:
    """``words RUNNING, 4/4 workers, attempt 2, 12.3 s, 410M bytes of memory``."""
    parts = [f"{plain(view.job.name)} {view.state.upper()}"]
    if view.attempt or view.joined:
        parts.append(f"{len(view.joined)}/{view.n_workers} worker{'s' if view.n_workers != 1 else ''}")
    else:
        parts.append(f"{view.n_workers} worker{'s' if view.n_workers != 1 else ''}")
    if view.attempt > 1:
        parts.append(f"attempt {view.attempt}")
    if view.checkpoint is not None:
        parts.append(f"checkpoint {view.checkpoint}")
    parts.append(span(view.seconds))
    if view.memory:
        parts.append(f"{amount(view.memory)}B memory")
    return ", ".join(parts) + (f" ({short(view.reason)})" if view.reason else "")


def work(view: JobView, bar: bool) -> str:
    """``run words [#####...] 45 % (450/1000 files), 1.2M records/s, 85M bytes/s``; empty when nothing is reported."""
    parts = []
    done = view.done()
    if done is not None:
        count, total, unit = done
        of = f"{amount(count)}/{amount(total)}" if total is not None else amount(count)
        counted = f"{of} {plain(unit)}".strip()
        if total:
            share = min(1.0, max(0.0, count / total))
            filled = int(share * BAR)
            drawn = f"[{'#' * filled}{'.' * (BAR - filled)}] " if bar else ""
            counted = f"{drawn}{int(share * 100)} % ({counted})"
        parts.append(counted)
    for field, rate in view.rates().items():
        if rate > 0:
            parts.append(f"{amount(rate)} {field}/s")
    text = ", ".join(parts)
    return " ".join(part for part in (plain(view.step), text) if part)


def last_line(view: JobView, state: str, reason: str, seconds: float) -> str:
    """``words COMPLETED in 12.3 s: 4 workers, 12.3M records (510MB) read``.

    Read are records and bytes of decoded input, as sources count them; a graph without such sources says nothing of it.
    """
    facts = [f"{view.n_workers} worker{'s' if view.n_workers != 1 else ''}"]
    if view.attempt > 1:
        facts.append(f"{view.attempt} attempts")
    records, n_bytes = view.read()
    if records:
        facts.append(f"{amount(records)} records ({amount(n_bytes)}B) read")
    ending = f"; {short(reason)}" if reason else ""
    return f"{plain(view.job.name)} {state.upper()} in {span(seconds)}: {', '.join(facts)}{ending}"
