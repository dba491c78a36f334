"""The *chaos* directive: what it takes and what it refuses (plugin/chaos/setup_test.go)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.release import version
from corepy.testing import refusal, set_up
from corepy_chaos.chaos import Chaos

DEFAULT = [b"the corepy authors"]
LONG = "a" * 256


@pytest.mark.parametrize(
    ("text", "version_text", "authors"),
    [
        # The accepted cases of CoreDNS.
        ("chaos v2", b"v2", DEFAULT),
        ('chaos v3 "Miek Gieben"', b"v3", [b"Miek Gieben"]),
        # Our own.
        ("chaos", f"corepy-{version()}".encode(), DEFAULT),
        ('chaos ""', b"", DEFAULT),
        ("chaos v b a b", b"v", [b"b", b"a"]),
        ("chaos v é", b"v", ["é".encode()]),
        ("chaos v {\n}", b"v", DEFAULT),
        ("chaos v\nchaos w", b"v", DEFAULT),
    ],
)
def test_accepted(text, version_text, authors):
    controller = set_up(text)
    (handler,) = controller.handlers
    assert isinstance(handler, Chaos)
    assert (handler.version, handler.authors) == (version_text, authors)
    assert controller.warnings == []


def test_long_texts_are_cut_with_a_warning():
    controller = set_up(f"chaos {LONG}v {LONG}a {LONG}b")
    (handler,) = controller.handlers
    assert (handler.version, handler.authors) == (b"a" * 255, [b"a" * 255])
    assert [str(it) for it in controller.warnings] == [
        f"Corefile:2:{column}: warning: the text has 257 bytes; it is cut to 255"
        for column in (7, 265, 523)
    ]


def test_refused():
    diagnostic = refusal("chaos v2 {\n    unknown\n}")  # CoreDNS: unknown property
    assert str(diagnostic) == (
        "Corefile:3:5: unknown option 'unknown' (this directive has no options)"
    )


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters='"\\\n\r\0{}#$'), max_size=300)))
def test_any_words_become_strings_of_the_wire(words):
    quoted = " ".join(f'"{word}"' for word in ["v", *words])
    (handler,) = set_up(f"chaos {quoted}").handlers
    assert all(len(text) <= 255 for text in (handler.version, *handler.authors))
    assert len(set(handler.authors)) == len(handler.authors)
