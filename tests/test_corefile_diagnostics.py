"""How mistakes are shown: to people with their line, to machines as JSON; and near misses."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import (
    CorefileError,
    Diagnostic,
    Source,
    Token,
    parse,
    render,
    suggest,
    to_json,
)
from corepy.corefile.lexer import source_of, tokenize


def token(text: str, number: int = 0, name: str = "Corefile") -> Token:
    return list(tokenize(source_of(name, text)))[number]


def excerpt(text: str, number: int = 0) -> list[str]:
    return render([Diagnostic("wrong", token(text, number))]).splitlines()[1:]


def test_a_mistake_is_shown_in_its_line() -> None:
    diagnostic = Diagnostic("unknown directive 'forwrd'", token(". {\n    forwrd . 1\n}", 2), "x")
    assert render([diagnostic]).splitlines() == [
        "Corefile:2:5: unknown directive 'forwrd'",
        "  2 |     forwrd . 1",
        "    |     ^~~~~~",
        "  hint: x",
    ]
    assert str(diagnostic) == "Corefile:2:5: unknown directive 'forwrd' (x)"
    assert str(CorefileError(diagnostic, Diagnostic("other"))).endswith("hint: x\nother")


@pytest.mark.parametrize(
    ("text", "number", "shown"),
    [
        ("\ta\tb", 1, ["  1 | \ta\tb", "    | \t \t^"]),
        ("日本 bb", 1, ["  1 | 日本 bb", "    |      ^~"]),
        ("日本 bb", 0, ["  1 | 日本 bb", "    | ^~~~"]),
        ("e\u0301x bb", 1, ["  1 | e\u0301x bb", "    |    ^~"]),
        ('"a\nb" c', 0, ['  1 | "a', "    | ^~"]),
        ('"a\nb" c', 1, ['  2 | b" c', "    |    ^"]),
        ("a\x1b[31m b", 1, ["  1 | a\ufffd[31m b", "    |        ^"]),
        ("a b\r\nc", 1, ["  1 | a b", "    |   ^"]),
        ("\n" * 9 + "a", 0, ["  10 | a", "     | ^"]),
    ],
)
def test_the_caret_stands_below_the_token(text: str, number: int, shown: list[str]) -> None:
    assert excerpt(text, number) == shown


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_hidden_token_is_not_shown(number: int) -> None:
    tokens = list(tokenize(source_of("Corefile", 'a\nkey "se cret" x\nsecret')))
    tokens[2].hide()
    shown = render([Diagnostic("wrong", tokens[1 + number])])
    assert "cret" not in shown
    assert f"key {'*' * 9} x" in shown
    assert "secret" in render([Diagnostic("wrong", tokens[4])])


def test_a_long_line_is_cut() -> None:
    line, caret = excerpt("a " * 5000 + "wrong " + "b " * 5000, 5000)
    assert len(line) < 140
    column = caret.index("^")
    assert line[column : column + 5] == "wrong"
    line, caret = excerpt("x" * 100_000)
    assert len(line) < 140
    assert len(caret) < 140


def test_control_characters_of_a_message_are_not_printed() -> None:
    shown = render([Diagnostic("bad \x1b[2J", token("a", name="C\x07"), "\x9b")])
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\x9b" not in shown


def test_warnings_and_other_places() -> None:
    first, second = token("a b", 0), token("a b", 1)
    diagnostic = Diagnostic("twice", second, None, "warning", (("it is defined", first),))
    assert render([diagnostic]).splitlines() == [
        "Corefile:1:3: warning: twice",
        "  1 | a b",
        "    |   ^",
        "  it is defined: Corefile:1:1",
        "  1 | a b",
        "    | ^",
    ]


def test_a_token_without_its_text_is_no_mistake() -> None:
    made = Token("a", "a", Source("made", ""), 7, 9, 1)
    assert render([Diagnostic("wrong", made)]) == "made:7:9: wrong"


def test_json() -> None:
    with pytest.raises(CorefileError) as caught:
        parse("(s) {\n}\n(s) {\n}")
    assert json.loads(to_json(caught.value.diagnostics)) == {
        "valid": False,
        "diagnostics": [
            {
                "severity": "error",
                "message": "snippet 's' is defined twice",
                "hint": None,
                "file": "Corefile",
                "line": 3,
                "column": 1,
                "length": 3,
                "imports": [],
                "related": [
                    {
                        "message": "it is defined",
                        "file": "Corefile",
                        "line": 1,
                        "column": 1,
                        "length": 3,
                    }
                ],
            }
        ],
    }
    warning = Diagnostic("x", severity="warning")
    assert json.loads(to_json([warning]))["valid"] is True
    assert json.loads(to_json([], valid=False)) == {"valid": False, "diagnostics": []}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("forwrd", "forward"),
        ("froward", "forward"),
        ("Forward", "forward"),
        ("erors", "errors"),
        ("chache", "cache"),
        ("prom", "prometheus"),
        ("lgo", "log"),
        ("logs", "log"),
        ("lo", "log"),
        ("bnid", "bind"),
        ("xyz", None),
        ("", None),
        ("q", None),
        ("completely-else", None),
        ("x" * 1000, None),
    ],
)
def test_suggest(word: str, expected: str | None) -> None:
    known = ["forward", "errors", "cache", "prometheus", "log", "bind", "whoami"]
    assert suggest(word, known) == expected


def test_suggest_takes_the_nearest() -> None:
    assert suggest("hosst", ["host", "hosts", "ghost"]) == "hosts"
    assert suggest("cache", ["cache"]) is None
    assert suggest("a", []) is None


@pytest.mark.parametrize(("length", "found"), [(64, True), (65, False)])
def test_a_word_of_great_length_has_no_suggestion(length: int, found: bool) -> None:
    """The time to compare grows with the square of the length."""
    assert (suggest("x" * length, ["x" * 60]) is not None) is found


@given(st.text(), st.integers(0, 50))
@settings(max_examples=200, deadline=None)
def test_every_token_can_be_shown(text: str, number: int) -> None:
    tokens = list(tokenize(source_of("Corefile", text)))
    if tokens:
        shown = render([Diagnostic("wrong", tokens[number % len(tokens)])])
        assert shown.count("^") - shown.splitlines()[1].count("^") == 1
