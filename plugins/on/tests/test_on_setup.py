"""The *on* directive: what it takes and what it refuses (caddy: onevent/on_test.go)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corepy_on
from corepy.corefile import parse
from corepy.plugin import CorefileError
from corepy.server.build.builder import build
from corepy.testing import controller_for, set_up
from corepy_on.command import Command
from corepy_on.events import EventCommands


def commands_of(text):
    controller = set_up(text)
    assert controller.handlers == []
    (hooks,) = controller.hooks
    assert isinstance(hooks, EventCommands)
    return hooks.commands


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The accepted cases of Caddy.
        ("on startup cmd arg", ("startup", ("cmd", "arg"), False)),
        ("on shutdown cmd arg &", ("shutdown", ("cmd", "arg"), True)),
        ("on certrenew cmd arg", ("certrenew", ("cmd", "arg"), False)),
        ("on startup cmd arg1 arg2", ("startup", ("cmd", "arg1", "arg2"), False)),
        ("on shutdown cmd arg1 arg2 &", ("shutdown", ("cmd", "arg1", "arg2"), True)),
        ("on certrenew cmd arg1 arg2", ("certrenew", ("cmd", "arg1", "arg2"), False)),
        # Our own.
        ("on StartUp cmd", ("startup", ("cmd",), False)),
        ("on startup cmd&", ("startup", ("cmd&",), False)),
        ("on startup cmd & x", ("startup", ("cmd", "&", "x"), False)),
        ('on startup "cmd a b"', ("startup", ("cmd", "a", "b"), False)),
        ("on startup cmd \"'a  b'\" c", ("startup", ("cmd", "a  b", "c"), False)),
        ('on startup cmd "#" a', ("startup", ("cmd",), False)),
        ("on startup é", ("startup", ("é",), False)),
    ],
)
def test_accepted(text, expected):
    assert commands_of(text) == [Command(*expected)]


def test_the_order_of_the_corefile():
    text = "on startup a\non shutdown b\non startup c &"
    assert [(it.event, str(it), it.in_background) for it in commands_of(text)] == [
        ("startup", "a", False),
        ("shutdown", "b", False),
        ("startup", "c", True),
    ]


ARGUMENTS = "wrong argument count or unexpected line ending after"
NOTHING = "the command is missing (write a program and its arguments after the event)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # The refused cases of Caddy.
        ("on", f"Corefile:2:1: {ARGUMENTS} 'on'"),
        (
            "on xyz cmd arg",
            "Corefile:2:4: unknown event 'xyz' (events: startup, shutdown, certrenew)",
        ),
        # Our own.
        ("on startup", f"Corefile:2:4: {ARGUMENTS} 'startup'"),
        ("on startp cmd", "Corefile:2:4: unknown event 'startp' (did you mean 'startup'?)"),
        ('on startup ""', f"Corefile:2:12: {NOTHING}"),
        ("on startup \"''\" a", f"Corefile:2:12: {NOTHING}"),
        ('on startup "#" a', f"Corefile:2:12: {NOTHING}"),
        ("on startup &", f"Corefile:2:12: {NOTHING}"),
        ("on startup cmd 'a b", "Corefile:2:12: cannot split the command: ' is not closed"),
        ("on startup cmd \\", "Corefile:2:12: cannot split the command: \\ escapes nothing"),
        (
            "on startup cmd {\n    a b\n}",
            "Corefile:2:16: unexpected token '{', expecting an argument",
        ),
    ],
)
def test_refused(text, message):
    with pytest.raises(CorefileError) as raised:
        set_up(text)
    assert str(raised.value.diagnostics[0]) == message


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(CorefileError) as raised:
        set_up("on xyz a\non startup b\non startup")
    assert [it.token.line for it in raised.value.diagnostics] == [2, 4]


def test_warnings():
    text = ". {\non startup corepy-no-such-program\non certrenew sh\nwhoami\n}"
    messages = [str(it) for it in build(parse(text), checking=True).warnings]
    never = "warning: the command never runs: corepy renews no certificates"
    assert messages == [
        "Corefile:2:12: warning: the program 'corepy-no-such-program' is not found or not"
        " executable",
        f"Corefile:3:4: {never}",
    ]
    assert len(build(parse(text)).warnings) == 1  # a start does not look at the program


words = st.text(st.characters(exclude_characters='"{}\r\n#$', min_codepoint=32)).filter(
    lambda word: not word.endswith("\\")  # would quote the quote
)


@settings(deadline=None)
@given(st.lists(words))
def test_any_words_are_commands_or_refused(words):
    text = " ".join(f'"{word}"' for word in ["startup", *words])
    controller = controller_for(f"on {text}")
    try:
        corepy_on.setup(controller)
    except CorefileError:
        return
    (hooks,) = controller.hooks
    assert hooks.commands[0].words[0]
