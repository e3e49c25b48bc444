"""Options as text that is equal on all members that gave the same: part of the fingerprint of a step.

How values are described is for :mod:`twister2.spec.alike` to say. What an object that chooses targets knows does not
count: a partitioner may look at the rank of its worker. What a reducer has captured does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.alike import Texts, digest
from twister2_net.combining.reducers import name_of
from twister2_net.selectors.custom import is_two_phase

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 240
_SHOWN_EACH = 60

described_value = Texts(is_two_phase).of
"""One value as text that is equal in every process where the value is."""
_described_reducer = Texts(is_two_phase, captured=True).of


def described(options: Mapping[str, Any], rest: str = "") -> str:
    """Options for a fingerprint: a digest of everything (in front, because tables cut what follows) and readable text.

    :param rest: what must be equal besides, shown behind the options.
    :returns: the empty string when there is nothing to describe.
    """
    texts = {
        name: (_described_reducer if name == "reducer" else described_value)(name_of(value) or value)
        for name, value in sorted(options.items())
    }
    if not texts:
        return rest
    whole = ", ".join(f"{name}={text}" for name, text in texts.items())
    shown = ", ".join(f"{name}={_cut(text, _SHOWN_EACH)}" for name, text in texts.items())
    return f"#{digest(f'{whole} {rest}')} {_cut(shown, _SHOWN)} {rest}".rstrip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
