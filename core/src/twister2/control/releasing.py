"""Ending and removing what a job has with its resource manager, for whoever is there to do it: client or master."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import Twister2Error

if TYPE_CHECKING:
    from twister2.spec.rm import JobHandle, ResourceManager


def release(backend: ResourceManager, handle: JobHandle, grace_s: float) -> list[str]:
    """End every process of a job, then remove what its resource manager keeps of it.

    What cannot be ended now keeps nothing else here.

    :returns: what is left, in words; nothing is raised for it.
    """
    left: list[str] = []
    try:
        backend.kill(handle, grace_s)
    except Twister2Error as error:
        left.append(_words(error))
    try:
        left += backend.clean(handle)
    except Twister2Error as error:
        left.append(_words(error))
    return left


def _words(error: Twister2Error) -> str:
    return f"{error.what} ({error.why})" if error.why else error.what
