"""What the directive takes and refuses."""

import pytest
from corepy.testing import refusal, set_up


def settings(text, zone="."):
    (handler,) = set_up(text, zone).handlers
    return handler.settings


def test_defaults():
    found = settings("example", "example.org")
    assert list(found.zones.values()) == ["example.org."]
    assert (found.text, found.ttl) == ("Hello", 60)


def test_options():
    found = settings('example example.net 10.0.0.0/8 {\n text "a b" c\n ttl 1h30m\n}')
    assert list(found.zones.values()) == ["example.net.", "10.in-addr.arpa."]
    assert (found.text, found.ttl) == ("a b c", 5400)


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("example {\n colour red\n}", "unknown option 'colour'", "colour"),
        ("example {\n text\n}", "wrong argument count", "text"),
        (f"example {{\n text {'x' * 256}\n}}", "longer than 255 bytes", "x" * 256),
        ("example {\n ttl soon\n}", "soon", "soon"),
        ("example {\n ttl 1500ms\n}", "ttl 1500ms is not possible", "1500ms"),
        ("example {\n ttl 25h\n}", "ttl 25h is not possible", "25h"),
        ("example\nexample", "only be used once", "example"),
    ],
)
def test_mistakes_are_refused_where_they_are(text, message, at):
    mistake = refusal(text)
    assert message in mistake.message
    assert mistake.token.text == at
