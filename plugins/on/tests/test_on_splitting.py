"""Command lines and their words: the cases of flynn/go-shlex, and any text."""

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy_on.splitting import split_command


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # The cases of shlex_test.go.
        ("one", ["one"]),
        ("one two three", ["one", "two", "three"]),
        ('one "два ${three}" four', ["one", "два ${three}", "four"]),
        ("one 'два ${three}' four", ["one", "два ${three}", "four"]),
        ("onefile *file one?ile onefil[de]", ["onefile", "*file", "one?ile", "onefil[de]"]),
        (
            'one two "three four" "five \\"six\\"" seven#eight # nine # ten\n eleven',
            ["one", "two", "three four", 'five "six"', "seven#eight", "eleven"],
        ),
        # Our own.
        ("", []),
        (" \t\n ", []),
        ("a\\ b \\' \\\\", ["a b", "'", "\\"]),
        ('"a\\b" "\\\\" "\\\n"', ["ab", "\\", "\n"]),  # Python's shlex keeps the backslash of \b
        ("'a\\b'", ["a\\b"]),
        ("'' \"\" a''b", ["", "", "ab"]),
        ("''#a #b", ["#a"]),
        ("#a", []),
    ],
)
def test_words(text, words):
    assert split_command(text) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [("a 'b", "' is not closed"), ('"a\\"', '" is not closed'), ("a\\", "\\ escapes nothing")],
)
def test_open_ends(text, message):
    with pytest.raises(ValueError, match=message.replace("\\", r"\\")) as raised:
        split_command(text)
    assert str(raised.value) == message


@settings(deadline=None)
@given(st.lists(st.text()))
def test_quoted_words_come_back(words):
    assert split_command(shlex.join(words)) == words


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \t\n'\"\\#&é")))
def test_any_text_is_split_or_refused(text):
    try:
        words = split_command(text)
    except ValueError:
        return
    assert sum(map(len, words)) <= len(text)


def test_long_lines_take_linear_time():
    assert split_command("'a' \\b " * 100_000) == ["a", "b"] * 100_000
    with pytest.raises(ValueError, match="is not closed"):
        split_command('"' + "\\a" * 200_000)
