"""Names: text to wire and back, and what is asked of a wire name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import names

labels = st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(
    lambda ls: sum(len(label) + 1 for label in ls) < 255
)


def wire_of(parts: list[bytes]) -> bytes:
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"


@pytest.mark.parametrize(
    ("text", "wire", "canonical"),
    [
        (".", b"\0", "."),
        ("org", b"\3org\0", "org."),
        ("Example.ORG.", b"\7Example\3ORG\0", "Example.ORG."),
        (r"a\.b.c.", b"\3a.b\1c\0", r"a\.b.c."),
        (r"a\\.c.", b"\2a\\\1c\0", r"a\\.c."),
        (r"\000\255.", b"\2\0\xff\0", r"\000\255."),
        (r"\065.", b"\1A\0", "A."),
        (r"a\ b.", b"\3a b\0", r"a\ b."),
        ("it's@(x);\"", b"\x0ait's@(x);\"\0", r"it\'s\@\(x\)\;\"."),
        ("ü.", b"\2\xc3\xbc\0", r"\195\188."),
        ("*.svc.", b"\1*\3svc\0", "*.svc."),
        ("x" * 63, b"\x3f" + b"x" * 63 + b"\0", "x" * 63 + "."),
    ],
)
def test_text_and_wire(text: str, wire: bytes, canonical: str) -> None:
    assert names.from_text(text) == wire
    assert names.to_text(wire) == canonical


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty label"),
        ("..", "empty label"),
        (".org", "empty label"),
        ("a..b", "empty label"),
        (r"a\.b..", "empty label"),
        ("x" * 64, "label longer than 63"),
        (".".join(["x" * 63] * 4), "name longer than 255"),
        ("a\\", "lone backslash"),
        (r"a\25", "bad \\DDD"),
        (r"a\256", "bad \\DDD"),
        (r"a\2x5", "bad \\DDD"),
        ("a\ud800.b", "half of a surrogate pair in name 'a\\ud800.b'"),
        ("a\\\ud800", "half of a surrogate pair"),
    ],
)
def test_bad_text_says_why(text: str, problem: str) -> None:
    with pytest.raises(names.InvalidName) as caught:
        names.from_text(text)
    assert problem in str(caught.value)


def test_longest_name() -> None:
    text = ".".join(["x" * 63] * 3 + ["y" * 61]) + "."
    assert len(names.from_text(text)) == 255
    with pytest.raises(names.InvalidName):
        names.from_text("z" + text)


@settings(deadline=None)
@given(labels)
def test_every_name_survives_the_round_trip(parts: list[bytes]) -> None:
    wire = wire_of(parts)
    text = names.to_text(wire)
    assert names.from_text(text) == wire
    assert text.isascii()
    assert text.isprintable()
    assert text.endswith(".")
    assert names.labels_of(wire) == parts


@settings(deadline=None)
@given(st.text(max_size=300))
def test_arbitrary_text_is_a_name_or_an_error(text: str) -> None:
    try:
        wire = names.from_text(text)
    except names.InvalidName:
        return
    assert len(wire) <= names.MAX_NAME
    assert names.from_text(names.to_text(wire)) == wire


def test_lower_keeps_length_bytes() -> None:
    wire = names.from_text("X" * 63 + ".Y" + "Z" * 40 + ".")
    assert names.lower(wire) == names.from_text("x" * 63 + ".y" + "z" * 40 + ".")


def test_parent_offsets() -> None:
    wire = names.from_text("a.bc.def.")
    parents = [names.to_text(wire[at:]) for at in names.parent_offsets(wire)]
    assert parents == ["a.bc.def.", "bc.def.", "def.", "."]
    assert names.parent_offsets(names.ROOT) == [0]


@pytest.mark.parametrize("text", ["x" * 10**6, "a." * 10**6, "\\256" + "x" * 10**6, "." * 10**6])
def test_a_long_text_that_is_no_name_is_not_shown_whole(text):
    with pytest.raises(names.InvalidName) as caught:
        names.from_text(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("child", "zone", "expected"),
    [
        ("a.example.org.", "example.org.", True),
        ("example.org.", "example.org.", True),
        ("anything.", ".", True),
        (".", ".", True),
        (".", "org.", False),
        ("org.", "example.org.", False),
        ("badexample.org.", "example.org.", False),
        ("example.net.", "example.org.", False),
    ],
)
def test_is_subdomain(child: str, zone: str, expected: bool) -> None:
    assert names.is_subdomain(names.from_text(child), names.from_text(zone)) is expected


def test_a_label_that_contains_a_zone_is_no_subdomain() -> None:
    inside = b"\x0dx\7example\3org" + b"\0"
    assert inside.endswith(names.from_text("example.org."))
    assert not names.is_subdomain(inside, names.from_text("example.org."))


@settings(deadline=None)
@given(labels, labels)
def test_is_subdomain_means_label_suffix(a: list[bytes], b: list[bytes]) -> None:
    expected = not b or a[-len(b) :] == b
    assert names.is_subdomain(wire_of(a), wire_of(b)) is expected
    if sum(len(x) + 1 for x in a + b) < 255:
        assert names.is_subdomain(wire_of(a + b), wire_of(b))
