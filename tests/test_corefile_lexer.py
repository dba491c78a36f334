"""The words of a Corefile; the cases of Caddy's lexer_test.go, and what they leave out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import Source, Token
from corepy.corefile.lexer import decode, source_of, tokenize


def words(content: str | bytes) -> list[tuple[int, str]]:
    return [(token.line, token.text) for token in tokenize(source_of("Corefile", content))]


def texts(content: str | bytes) -> list[str]:
    return [text for _, text in words(content)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("host:123", [(1, "host:123")]),
        ("host:123\n\n\tdirective", [(1, "host:123"), (3, "directive")]),
        (
            "host:123 {\n\tdirective\n}",
            [(1, "host:123"), (1, "{"), (2, "directive"), (3, "}")],
        ),
        (
            "host:123 { directive }",
            [(1, "host:123"), (1, "{"), (1, "directive"), (1, "}")],
        ),
        (
            "host:123 {\n#comment\ndirective\n# comment\nfoobar # another comment\n}",
            [(1, "host:123"), (1, "{"), (3, "directive"), (5, "foobar"), (6, "}")],
        ),
        (
            'a "quoted value" b\n\tfoobar',
            [(1, "a"), (1, "quoted value"), (1, "b"), (2, "foobar")],
        ),
        (r'A "quoted \"value\" inside" B', [(1, "A"), (1, 'quoted "value" inside'), (1, "B")]),
        (r'"don\'t\escape"', [(1, r"don\'t\escape")]),
        (r'"don\'t\\escape"', [(1, r"don\'t\\escape")]),
        (
            'A "quoted value with line\n\tbreak inside" {\n\tfoobar\n}',
            [
                (1, "A"),
                (1, "quoted value with line\n\tbreak inside"),
                (2, "{"),
                (3, "foobar"),
                (4, "}"),
            ],
        ),
        (r'"C:\php\php-cgi.exe"', [(1, r"C:\php\php-cgi.exe")]),
        ('empty "" string', [(1, "empty"), (1, ""), (1, "string")]),
        ("skip those\r\nCR characters", [(1, "skip"), (1, "those"), (2, "CR"), (2, "characters")]),
        (b"\xef\xbb\xbf:8080", [(1, ":8080")]),
    ],
)
def test_the_cases_of_caddy(content: str | bytes, expected: list[tuple[int, str]]) -> None:
    assert words(content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", []),
        (" \t\v\f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\n", []),
        ("a\x1cb\x1fc\u200bd\u180ee", ["a\x1cb\x1fc\u200bd\u180ee"]),
        ("a\xa0b\u3000c", ["a", "b", "c"]),
        # A comment inside a word ends at the next white space; one of its own at the line's end.
        ("foo#bar baz", ["foo", "baz"]),
        ("foo #bar baz\nnext", ["foo", "next"]),
        ('"foo"#bar baz\nnext', ["foo", "next"]),
        ("a\r#b c", ["a", "c"]),
        ("#", []),
        # A quote is special where a word starts only.
        ('a"b c"', ['a"b', 'c"']),
        ('"a"b', ["a", "b"]),
        ('"a""b"', ["a", "b"]),
        ('"#a"', ["#a"]),
        # Carriage returns vanish outside of quotes, without ending a word.
        ("a\rb", ["ab"]),
        ('a\r"b', ['a"b']),
        ('\r"a\r\nb"', ["a\r\nb"]),
        # The end of the file ends a quote.
        ('a "b c', ["a", "b c"]),
        ('a "', ["a"]),
        ('a "\\', ["a"]),
        ('"b\\', ["b"]),
        ('"b\\\\', ["b\\\\"]),
        (r'"b\"', ['b"']),
        (r'"\\\""', [r"\\" + '"']),
        ("\ufeff\ufeffa", ["\ufeffa"]),
        ("\0 a\0b", ["\0", "a\0b"]),
    ],
)
def test_the_rest_of_the_lexer(content: str, expected: list[str]) -> None:
    assert texts(content) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xe2\x82a", "\ufffd\ufffda"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xf0\x9f\x98", "\ufffd\ufffd\ufffd"),
        (b"\xe2\x82\xac", "\u20ac"),
    ],
)
def test_what_is_not_utf8_is_replaced_byte_by_byte(data: bytes, expected: str) -> None:
    assert decode(data) == expected


def test_lone_surrogates_in_a_text_are_replaced() -> None:
    assert texts("a\udc80") == ["a" + "\ufffd" * 3]


def test_an_open_quote_is_noted() -> None:
    source = source_of("Corefile", 'a "b')
    assert [token.text for token in tokenize(source)] == ["a", "b"]
    assert source.open_quote is not None
    assert (source.open_quote.line, source.open_quote.column) == (1, 3)


def spelled(token: Token, source: Source) -> str:
    """What stands in the source where the token says that it is."""
    lines = source.text.split("\n")
    start = sum(len(line) + 1 for line in lines[: token.line - 1]) + token.column - 1
    return source.text[start : start + token.length]


def meant(spelling: str) -> str:
    if not spelling.startswith('"'):
        return spelling.replace("\r", "")
    inside = spelling[1:]
    before_quote = inside.removesuffix('"')
    if (len(inside) - len(before_quote.rstrip("\\"))) % 2:
        inside = inside[:-1]
    return inside.replace('\\"', '"')


TEXT = (
    st.text(st.sampled_from('"\\#{}$%(),\r\n\t ab\xa0\x85\0\x1c\u3000\ufeff\U0001f600')) | st.text()
)


@given(TEXT)
@settings(max_examples=500, deadline=None)
def test_positions_point_at_the_text(content: str) -> None:
    source = source_of("Corefile", content)
    end = (1, 0)
    for token in tokenize(source):
        assert meant(spelled(token, source)) == token.text
        assert (token.line, token.column) > end
        end = (token.line, token.column)


@given(st.binary())
@settings(max_examples=200, deadline=None)
def test_any_bytes_have_tokens(content: bytes) -> None:
    for text in texts(content):
        assert isinstance(text, str)
