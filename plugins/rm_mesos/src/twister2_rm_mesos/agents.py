"""What agents know: where sandboxes are, and whether a framework still has processes there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError
from twister2_rm_mesos.api import RefusedError

if TYPE_CHECKING:
    from twister2_rm_mesos.api import Api


def places(api: Api) -> dict[str, tuple[str, str]]:
    """Address and prefix of paths of each agent, by its id.

    :raises ResourceError: nobody answers. :raises RefusedError: it may not be looked at.
    """
    found = {}
    for each in api.get("/slaves")["slaves"]:
        prefix, _, place = each["pid"].partition("@")
        if api.secure:  # certificates are for names
            base = f"https://{each.get('hostname') or place.rpartition(':')[0]}:{place.rpartition(':')[2]}"
        else:
            base = f"http://{place}"
        found[each["id"]] = (base, f"/{prefix}")
    return found


def state_of(api: Api, place: tuple[str, str]) -> dict[str, Any]:
    """An agent's state; see :func:`places` for errors."""
    base, prefix = place
    state = api.get(f"{prefix}/state", base)
    return state if isinstance(state, dict) else {}


def wait_gone(api: Api, framework: str, seconds: float) -> bool:
    """Wait until no agent has an executor of a framework that was torn down; False when some still has, or one that
    does not answer may have.
    """
    until = time.monotonic() + seconds
    while True:
        left = False
        try:
            for place in places(api).values():
                known = state_of(api, place).get("frameworks", ())
                left |= any(each["id"] == framework for each in known)
        except RefusedError:
            return False  # it may not be looked at, however long one waits
        except (ResourceError, KeyError):
            left = True
        if not left or time.monotonic() > until:
            return not left
        time.sleep(0.05)
