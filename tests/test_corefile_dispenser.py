"""Walking a directive's tokens; the cases of Caddy's dispenser_test.go."""

import pytest

from corepy.corefile import CorefileError, Dispenser, parse
from corepy.corefile.lexer import source_of, tokenize


def dispenser(text: str) -> Dispenser:
    return Dispenser(list(tokenize(source_of("Testfile", text))))


def test_next_stays_on_the_last_token() -> None:
    d = dispenser("host:port\n dir1 arg1\n dir2 arg2 arg3\n dir3")
    assert (d.val, d.token) == ("", None)
    seen = []
    while d.next():
        seen.append(d.val)
    assert seen == ["host:port", "dir1", "arg1", "dir2", "arg2", "arg3", "dir3"]
    assert not d.next()
    assert d.val == "dir3"


def test_next_arg_stays_on_the_line() -> None:
    d = dispenser("dir1 arg1\n dir2 arg2 arg3\n dir3")
    for name, args in ("dir1", ["arg1"]), ("dir2", ["arg2", "arg3"]), ("dir3", []):
        assert d.next()
        assert d.val == name
        for arg in args:
            assert d.next_arg()
            assert d.val == arg
        assert not d.next_arg()
    assert not d.next()


def test_next_line_leaves_the_line() -> None:
    d = dispenser("dir1 arg1\n dir2 arg2 arg3")
    steps = (d.next_line, d.next_line, d.next, d.next_line, d.next_line, d.next, d.next_line)
    assert [(step(), d.val) for step in steps] == [
        (True, "dir1"),
        (False, "dir1"),
        (True, "arg1"),
        (True, "dir2"),
        (False, "dir2"),
        (True, "arg2"),
        (False, "arg2"),
    ]


def test_next_block() -> None:
    d = dispenser("foobar1 {\n sub1 arg1\n sub2\n }\n foobar2 {\n }")
    assert not d.next_block()
    d.next()
    inside = []
    while d.next_block():
        inside.append(d.val)
    assert inside == ["sub1", "arg1", "sub2"]
    assert d.val == "}"
    d.next()
    assert d.val == "foobar2"
    assert not d.next_block()
    assert d.val == "}"


def test_next_block_ends_with_the_first_closing_brace() -> None:
    d = dispenser("a {\n b {\n c\n }\n d\n }")
    d.next()
    inside = []
    while d.next_block():
        inside.append(d.val)
    assert inside == ["b", "{", "c"]


def test_next_block_leaves_a_line_without_brace_alone() -> None:
    d = dispenser("a b\nc")
    d.next()
    assert not d.next_block()
    assert d.val == "a"
    assert d.next_arg()


def test_an_unclosed_block_ends_with_the_tokens() -> None:
    d = dispenser("foobar {\n sub1 arg1")
    d.next()
    steps = 0
    while d.next_block():
        steps += 1
    assert steps == 2


def test_args() -> None:
    d = dispenser("dir1 arg1 arg2 arg3\n dir2 arg4 arg5\n dir3 arg6 arg7\n dir4")
    d.next()
    assert d.args(3) == ["arg1", "arg2", "arg3"]
    d.next()
    assert d.args(3) == ["arg4", "arg5"]
    assert d.val == "arg5"
    d.next()
    assert d.args(1) == ["arg6"]
    d.next()
    d.next()
    assert d.args(0) == []
    assert d.args(1) == []


def test_remaining_args_stop_at_a_brace() -> None:
    d = dispenser("dir1 arg1 arg2 arg3\n dir2 arg4 arg5\n dir3 arg6 { arg7\n dir4")
    for expected in ["arg1", "arg2", "arg3"], ["arg4", "arg5"], ["arg6"]:
        d.next()
        assert d.remaining_args() == expected
    assert (d.next(), d.val) == (True, "{")
    assert (d.next(), d.val) == (True, "arg7")
    assert (d.next(), d.val) == (True, "dir4")
    assert d.remaining_args() == []
    assert Dispenser([]).remaining_tokens() == []


def test_a_quoted_line_end_does_not_end_the_line() -> None:
    d = dispenser('dir "a\nb" c\nd')
    d.next()
    assert d.remaining_args() == ["a\nb", "c"]
    tokens = parse(". {\n dir {$X} c\n d\n}", env={"X": "1\n2"}).blocks[0].directives["dir"]
    d = Dispenser(tokens)
    d.next()
    # Caddy counts the line end that a variable brought, and takes c for another line.
    assert d.remaining_args() == ["1\n2"]


def test_the_tokens_of_a_snippet_are_neither_argument_nor_new_line() -> None:
    text = "(s) {\n sub\n}\n. {\n dir {\n import s\n other\n }\n}"
    d = Dispenser(parse(text).blocks[0].directives["dir"])
    d.next()
    assert d.next_block()
    assert d.val == "sub"
    assert not d.next_arg()
    d = Dispenser(parse(text).blocks[0].directives["dir"])
    d.next()
    d.next()
    assert not d.next_arg()
    assert not d.next_line()


@pytest.mark.parametrize(
    ("steps", "make", "expected"),
    [
        (2, "arg_error", "Testfile:1:6: unexpected token '{', expecting an argument"),
        (6, "arg_error", "Testfile:3:12: wrong argument count or unexpected line ending"),
    ],
)
def test_errors_point_at_the_current_token(steps: int, make: str, expected: str) -> None:
    d = dispenser("dir1 {\n }\n dir2 arg1 arg2")
    for _ in range(steps):
        d.next()
    error = getattr(d, make)()
    assert isinstance(error, CorefileError)
    assert str(error).startswith(expected)


def test_a_block_on_one_line_gets_a_hint() -> None:
    d = dispenser("dir1 { option }")
    for _ in range(4):
        d.next()
    (diagnostic,) = d.arg_error().diagnostics
    assert diagnostic.hint == "write the closing brace on a line of its own"


def test_errors_about_something_else() -> None:
    d = dispenser("dir1 arg1")
    d.next()
    first = d.token
    d.next()
    assert str(d.error("foobar", first, "a hint")).splitlines() == [
        "Testfile:1:1: foobar",
        "  1 | dir1 arg1",
        "    | ^~~~",
        "  hint: a hint",
    ]
