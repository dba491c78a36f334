"""The *local* directive: what it takes and what it refuses (plugin/local/setup_test.go)."""

import pytest

from corepy.testing import refusal, set_up
from corepy_local.local import Local


@pytest.mark.parametrize(
    ("text", "with_prefix"),
    [
        # The accepted cases of CoreDNS.
        ("local", True),
        ("local {\n    localhost_prefix off\n}", False),
        # Our own.
        ("local {\n}", True),
        ("local {\n    localhost_prefix on\n}", True),
        ("local {\n    localhost_prefix off\n    localhost_prefix on\n}", True),
        ("local {\n    localhost_prefix off\n}\nlocal", False),
        ("local\nlocal {\n    localhost_prefix off\n}", False),
    ],
)
def test_accepted(text, with_prefix):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Local)
    assert handler.with_prefix is with_prefix


ARGUMENTS = "wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # The refused cases of CoreDNS.
        ("local example.org", f"Corefile:2:7: {ARGUMENTS} 'example.org'"),
        (
            "local {\n    foo\n}",
            "Corefile:3:5: unknown option 'foo' (known options: localhost_prefix)",
        ),
        (
            "local {\n    localhost_prefix maybe\n}",
            "Corefile:3:22: localhost_prefix is 'on' or 'off', not 'maybe'",
        ),
        # Our own.
        ("local {\n    localhost_prefix\n}", f"Corefile:3:5: {ARGUMENTS} 'localhost_prefix'"),
        ("local {\n    localhost_prefix on off\n}", f"Corefile:3:25: {ARGUMENTS} 'off'"),
        ("local {\n    localhost_prefix ON\n}", "localhost_prefix is 'on' or 'off', not 'ON'"),
    ],
)
def test_refused(text, message):
    assert str(refusal(text)).endswith(message)


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ValueError, match="too many values"):
        refusal("local {\n    localhost_prefix maybe\n    foo\n}")
