"""Secrets in a Corefile are not shown: neither in its text, nor in messages about it."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.corefile import CorefileError, Diagnostic, parse, to_json
from corepy.corefile.redaction import hide, masked, redact, without_secrets
from corepy.loading.registry import find
from corepy.plugin import Controller, control_client
from corepy.plugin.block_config import BlockConfig
from corepy.plugin.control_client import ask
from corepy.testing import inline, serve

KEY = "NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk="
HEX = "0123456789abcdef0123456789ABCDEF"
PASSWORD = '"my,password=hunter2"'


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("secret example.org.key. " + KEY, "secret *** ***"),
        ('secret a. "two words"', "secret *** ***"),
        ("secrets /etc/tsig.conf", "secrets ***"),
        ("token /run/secrets/x", "token ***"),
        ("aws_access_key AKID " + KEY, "aws_access_key *** ***"),
        ("azure_credentials x", "azure_credentials ***"),
        ("password {$PASSWORD}", "password ***"),
        ("PASSWORD hunter2", "PASSWORD ***"),
        ("option " + KEY, "option ***"),
        ("option " + HEX, "option ***"),
        ("trace zipkin http://user:pw@h:9411/x", "trace zipkin http://***@h:9411/x"),
        ("address http://me:pass/word?@h/x", "address http://***@h/x"),
        ("trace otlp https://h/x?api_key=abc&y=1", "trace otlp https://h/x?api_key=***&y=1"),
        ("header set my-token=abc", "header set my-token=***"),
        ("whoami # the password is hunter2", "whoami # ***"),
        (f"whoami # {KEY} was used", "whoami # *** was used"),
        ("whoami # http://user:pw@h/", "whoami # http://***@h/"),
        # These have no secrets.
        ("forward . 10.0.0.1 tls://9.9.9.9", "forward . 10.0.0.1 tls://9.9.9.9"),
        ("tls /etc/cert.pem /etc/key.pem", "tls /etc/cert.pem /etc/key.pem"),
        ("hosts /etc/a-Long/Path/to/Hosts2 fallthrough", None),
        ("rewrite name a-long-name-of-a-host.example.org b.example.org", None),
        ("forward . {$UPSTREAM}", None),
        ("cache 3600 in-addr.arpa # keep long", None),
        ('template IN TXT { answer "{{ .Name }} 60 IN TXT hello" }', None),
    ],
)
def test_words_that_may_be_secrets_are_hidden(line, shown):
    text = f". {{\n    {line}\n    whoami\n}}\n"
    assert redact(text).text == text.replace(line, line if shown is None else shown)


def test_words_that_a_plugin_has_marked_are_hidden():
    found = redact("whoami {\n    my pass word\n}\n", {(2, 8)})
    assert found.text == "whoami {\n    my *** word\n}\n"
    assert found.hidden == {"pass"}


def test_lines_keep_their_numbers():
    text = 'token "a\nb\n\nc"\nwhoami\n# password\n\nlog'
    found = redact(text)
    assert found.text == "token ***\n\n\n\nwhoami\n# ***\n\nlog"
    assert "a\nb\n\nc" in found.hidden


def test_hidden_words_are_hidden_in_messages():
    hidden = redact(f"secret {KEY} ab").hidden
    assert hide(f"{KEY!r} and ab", hidden) == "'***' and ab"  # "ab" is too short


def test_an_error_shows_no_secrets():
    message = textwrap.dedent(
        f"""\
        Corefile:3:12: {KEY!r} is not allowed
          3 |     secret {KEY}
            |            ^~~
          hint: remove {KEY}"""
    )
    shown = without_secrets(message)
    assert KEY not in shown
    assert shown.splitlines()[0] == "Corefile:3:12: '***' is not allowed"
    assert shown.splitlines()[-1] == "  hint: remove ***"
    ordinary = "Corefile:1:1: unexpected token '{', expecting an argument"
    assert without_secrets(ordinary) == ordinary


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("toke n hunter2", "    toke * *******"),
        ('pin "hunter 2" hunter2 x', "    pin ********** ******* *"),
        ('pin "hun\n ter2" hunter2', "****** *******"),
        ("token hunter2 hunter2", "    token ******* *******"),
        ("token=hunter2", "    token=*******"),
        ("other-token=hunter2&a=b", "    other-token=*******&a=b"),
        ("http://me:hunter2@host/", "    http://**********@host/"),
        ("wrong https://hunter2@host/", "    wrong *********************"),
        ("wrong # the token hunter2", "    wrong # *****************"),
        ("wrong { hunter2", "    wrong { *******"),
    ],
)
@pytest.mark.parametrize(
    "form", [str, lambda error: to_json(error.diagnostics)], ids=["text", "json"]
)
def test_an_error_of_an_option_shows_no_secrets(line, shown, form):
    def pin():
        controller.next_argument().hide()

    (block,) = parse(f". {{\n  vault {{\n    {line}\n  }}\n}}\n").blocks
    controller = Controller("vault", block, BlockConfig([]))
    controller.next()
    with pytest.raises(CorefileError) as raised:
        controller.options({"token": pin, "pin": pin})
    assert "hunter" not in form(raised.value)
    assert "ter2" not in form(raised.value)
    assert shown in [it.partition(" | ")[2] for it in str(raised.value).splitlines()]


def test_an_unknown_option_is_shown_with_its_arguments_if_no_option_is_about_secrets():
    (block,) = parse(". {\n  vault {\n    tll 5 s\n  }\n}\n").blocks
    controller = Controller("vault", block, BlockConfig([]))
    controller.next()
    with pytest.raises(CorefileError, match="tll 5 s"):
        controller.options({"ttl": print})


def test_a_message_shows_no_secrets_of_urls_and_no_hidden_words():
    (block,) = parse(". {\n  vault tulip http://me:hunter2@host/?token=hunter2 a\n}").blocks
    _, secret, url, last = block.directives["vault"]
    secret.hide()
    message = f"{secret.text!r} and {url.text}"
    shown = str(CorefileError(Diagnostic(message, url, message, related=((message, last),))))
    assert "tulip" not in shown
    assert "hunter" not in shown
    assert "'***' and http://***@host/?token=***" in shown
    assert "hunter" not in str(CorefileError(Diagnostic(message)))


def test_secrets_of_a_long_line_are_hidden():
    text = f". {{\n  vault {'a ' * 5000}token hunter2 {'b ' * 15}wrong hunter {'a ' * 500}\n}}\n"
    (block,) = parse(text).blocks
    (wrong,) = (it for it in block.directives["vault"] if it.text == "wrong")
    assert "hunter" not in str(CorefileError(Diagnostic("bad", wrong)))


@given(st.text(), st.integers(-1, 50))
def test_a_masked_line_has_the_same_length(line, shown):
    assert len(masked(line, shown)) == len(line)


def test_the_command_shows_the_corefile_and_its_problems(tmp_path, monkeypatch):
    """Also what was wrong at the last reload."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    (tmp_path / "more.conf").write_text("errors\n# my token: x\n")
    text = (
        f". {{\n    bind 127.0.0.1\n    import {tmp_path}/more.conf\n    cache 10 {PASSWORD}\n}}\n"
    )
    with serve(text, control=True) as server:
        (path,) = control_client.sockets()
        found = ask(path, "corefile")
        assert [it["text"] for it in found["files"]] == [
            text.replace("hunter2", "***"),
            "errors\n# ***\n",
        ]
        assert found["error"] is None
        (warning,) = found["diagnostics"]
        assert (warning["severity"], warning["file"], warning["line"]) == ("warning", "Corefile", 4)
        assert warning["message"] == "'my,password=***' is taken as one zone"
        assert "hunter2" not in str(found)
        server.call(server.server.reloads.record, "test", f"bad\n  1 | token {KEY}")
        assert ask(path, "corefile")["error"] == "bad\n  1 | token ***"


def test_the_command_hides_what_a_plugin_has_marked(tmp_path, monkeypatch):
    def set_up(controller):
        for _ in controller.single():
            controller.argument().hide()

    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    text = ". {\n    bind 127.0.0.1\n    vault tulip\n    whoami\n}\n"
    with serve(text, plugins={**find(), "vault": inline("vault", set_up)}, control=True):
        (path,) = control_client.sockets()
        (file,) = ask(path, "corefile")["files"]
    assert file["text"] == text.replace("tulip", "***")
