"""What workers write as text on its way, and as the very bytes that they wrote at its ends.

Bytes that are not UTF-8 travel as lone surrogates (``surrogateescape``), which JSON carries.
"""

from __future__ import annotations

import codecs


def output_decoder() -> codecs.IncrementalDecoder:
    """Makes text of pieces of output; :func:`output_bytes` is the inverse."""
    return codecs.getincrementaldecoder("utf-8")("surrogateescape")


def output_bytes(text: str, encoding: str = "utf-8") -> bytes:
    """The bytes of a piece of output. What ``encoding`` cannot say is escaped."""
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:  # another half of a pair, or an encoding that knows few characters
        return b"".join(_character(one, encoding) for one in text)


def _character(one: str, encoding: str) -> bytes:
    try:
        return one.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return one.encode(encoding, "backslashreplace")


def readable(text: str) -> str:
    """Output as part of a message for people: bytes that are no text are replaced."""
    return output_bytes(text).decode("utf-8", "replace")
