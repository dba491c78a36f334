"""The *header* directive: what it takes and what it refuses (plugin/header/setup_test.go)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.constants import FLAG_AA, FLAG_RA, FLAG_RD
from corepy.plugin import CorefileError
from corepy.testing import refusal, set_up
from corepy_header.header import FlagChange, Header

AA, RA, RD = FLAG_AA, FLAG_RA, FLAG_RD
NONE = FlagChange()


def header(*rules):
    return "header {\n" + "".join(f"    {rule}\n" for rule in rules) + "}"


@pytest.mark.parametrize(
    ("text", "query", "response"),
    [
        # The accepted cases of CoreDNS.
        (header("query set rd"), FlagChange(RD), NONE),
        (header("response set aa"), NONE, FlagChange(AA)),
        (header("response set ra aa", "query clear rd"), FlagChange(0, RD), FlagChange(RA | AA)),
        # Our own.
        (header("Query SET Rd"), FlagChange(RD), NONE),
        (header("response set ra", "response clear rd"), NONE, FlagChange(RA, RD)),
        (header("query set rd", "query clear rd"), FlagChange(0, RD), NONE),
        (header("query clear rd", "query set rd aa ra"), FlagChange(RD | AA | RA), NONE),
        (header("response set ra ra"), NONE, FlagChange(RA)),
        ("header\n" + header("query set rd"), FlagChange(RD), NONE),
        (header() + "\n" + header("query set rd"), FlagChange(RD), NONE),
    ],
)
def test_accepted(text, query, response):
    controller = set_up(text)
    (handler,) = controller.handlers
    assert isinstance(handler, Header)
    assert (handler.query, handler.response) == (query, response)
    assert controller.warnings == []


def test_the_first_one_with_rules_counts():
    controller = set_up(f"{header('query set rd')}\n{header('query bad')}\nheader\n")
    (handler,) = controller.handlers
    assert (handler.query, handler.response) == (FlagChange(RD), NONE)
    assert [str(it) for it in controller.warnings] == [
        "Corefile:5:1: warning: this header is ignored "
        "(move its rules to the first header of the server block)"
    ]


ARGUMENTS = "wrong argument count or unexpected line ending after"
EMPTY = (
    "header without a rule has no effect (write at least one rule in a block, such as: "
    "response set ra)"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # The refused cases of CoreDNS.
        ("header {}", f"Corefile:2:8: {ARGUMENTS} '{{}}'"),
        (
            header("set ra"),
            "Corefile:3:5: unknown selector 'set' "
            "(a rule begins with query or response: response set ...)",
        ),
        (header("foo"), "Corefile:3:5: unknown selector 'foo' (known: query, response)"),
        (header("response set"), f"Corefile:3:14: {ARGUMENTS} 'set'"),
        (header("query foo"), f"Corefile:3:11: {ARGUMENTS} 'foo'"),
        (header("query foo rd"), "Corefile:3:11: unknown action 'foo' (known: set, clear)"),
        # Our own.
        ("header", f"Corefile:2:1: {EMPTY}"),
        (header(), f"Corefile:2:1: {EMPTY}"),
        (header("query"), f"Corefile:3:5: {ARGUMENTS} 'query'"),
        (header("qery set rd"), "Corefile:3:5: unknown selector 'qery' (did you mean 'query'?)"),
        (header("query claer rd"), "Corefile:3:11: unknown action 'claer' (did you mean 'clear'?)"),
        (header("query st rd"), "Corefile:3:11: unknown action 'st' (known: set, clear)"),
        (header("query set rd ad"), "Corefile:3:18: unknown flag 'ad' (known: aa, ra, rd)"),
        (header("query set tc"), "Corefile:3:15: unknown flag 'tc' (known: aa, ra, rd)"),
        ("header example.org {\n    query set rd\n}", f"Corefile:2:8: {ARGUMENTS} 'example.org'"),
    ],
)
def test_refused(text, message):
    assert str(refusal(text)) == message


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(CorefileError) as raised:
        set_up(header("foo", "query set rd", "query set x"))
    assert [it.token.line for it in raised.value.diagnostics] == [3, 5]


words = st.sampled_from(["query", "response", "set", "clear", "aa", "ra", "rd", "x", "{", "}", "é"])


@settings(deadline=None)
@given(st.lists(st.lists(words, min_size=1, max_size=5), max_size=5))
def test_any_words_are_accepted_or_refused(lines):
    text = header(*(" ".join(f'"{word}"' for word in line) for line in lines))
    try:
        (handler,) = set_up(text).handlers
    except CorefileError:
        return
    for change in (handler.query, handler.response):
        assert not change.set & change.clear
