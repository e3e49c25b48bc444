"""What people are shown of a URI: all but the credentials in it."""

from __future__ import annotations

import re

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_USER = re.compile(r"^([^/?#]*)@")
_VALUE = re.compile(r"([?&;][^=&;#/]+=)[^&;#]*")
HIDDEN = "***"


def without_secrets(text: str) -> str:
    """A URI, or a text with URIs in it, for error texts, plans and logs.

    ``***`` stands for the user and password before a host and for the values of a query, which may be signatures and
    tokens. Everything else, plain paths among it, stays as it is.
    """
    return _URI.sub(lambda found: _shown(found[0]), text) if "://" in text else text


def _shown(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://" + _VALUE.sub(r"\g<1>" + HIDDEN, _USER.sub(HIDDEN + "@", rest))
