"""What people are shown of URIs."""

from __future__ import annotations

import pytest

from twister2.spec.uris import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:secret@bucket/x.csv", "s3://***@bucket/x.csv"),
        ("https://TOKEN@host", "https://***@host"),
        ("http://u:p@x@host/z", "http://***@host/z"),
        ("http://host/x?sig=abc/def&page=1#part", "http://host/x?sig=***&page=***#part"),
        ("404 at 'http://u:p@h:80/x?t=s' and http://u@g", "404 at 'http://***@h:80/x?t=***' and http://***@g"),
        ("http://host/a@b", "http://host/a@b"),
        ("memory:///x/?.txt", "memory:///x/?.txt"),
        ("/plain/a@b?c=d", "/plain/a@b?c=d"),
        ("", ""),
    ],
)
def test_secrets_are_not_shown(text, shown):
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown
