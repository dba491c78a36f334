"""A directive as a part of another one: its words, errors, hooks, replies, and its explanation."""

import pytest

from corepy.plugin import CorefileError, Handler, hookimpl
from corepy.testing import controller_for, inline, serve
from corepy.testing.installed import installed

EVENTS: list[str] = []


class Inner(Handler):
    """The handler of the embedded directive."""

    name = "inner"

    def __init__(self, words, options):
        self.words = words
        self.options = options

    async def serve_dns(self, request):
        if request.name == "bad.test.":
            return None
        return request.error(5, f"{self.words} {self.options}")

    @hookimpl
    def before_listen(self, context):
        EVENTS.append("started")

    @hookimpl
    def shutdown(self):
        EVENTS.append("stopped")


def set_up_inner(controller):
    options = []
    for _ in controller.single():
        words = [token.text for token in controller.arguments()]
        if "wrong" in words:
            raise controller.error("the word is wrong", controller.token, "write another one")
        if "odd" in words:
            controller.warn("the word is odd")
        if "two" in words:
            controller.add_handler(Inner([], []))

        def read():
            options.append([token.text for token in controller.arguments()])

        controller.options({"option": read})
    controller.provides_labels(["inner/label"])
    controller.echo_option(65_001)
    controller.add_handler(Inner(words, options))


class Outer(Handler):
    """Embeds `inner` with the words of its lines."""

    name = "outer"

    def __init__(self, embedded):
        self.embedded = (embedded,)

    async def serve_dns(self, request):
        if request.name == "next.test.":
            return await self.next.serve_dns(request)
        return await self.embedded[0].serve_dns(request)


def set_up_outer(controller):
    for _ in controller.single():
        first, *words = controller.arguments(1)
        lines = [[token.text for token in words]]
        while controller.next_block():
            lines.append([controller.val, *controller.remaining_args()])
        controller.add_handler(Outer(controller.embed("inner", lines, first)))


PLUGINS = {
    **installed(),
    "inner": inline("inner", set_up_inner),
    "outer": inline("outer", set_up_outer),
}


def controller(text, monkeypatch):
    monkeypatch.setattr("corepy.testing.chain.installed", lambda: PLUGINS)
    found = controller_for(text)
    set_up_outer(found)
    return found


WORDS = [
    "plain",
    "with space",
    'a"quote',
    "#hash",
    "a{b",
    "",
    "back\\slash",
    "192.0.2.1:53",
    "é",
]


def test_words_and_options_arrive_as_they_were(monkeypatch):
    monkeypatch.setattr("corepy.testing.chain.installed", lambda: PLUGINS)
    found = controller_for("outer x")
    found.next()
    assert found.token is not None
    options = [["option", *WORDS], ["option"]]
    inner = found.embed("inner", [WORDS, *options], found.token).next
    assert (inner.words, inner.options) == (WORDS, [WORDS, []])
    assert found.embed("inner", [[]], found.token).next.words == []


def test_what_the_directive_declares_becomes_that_of_the_outer_one(monkeypatch):
    found = controller("outer x odd", monkeypatch)
    (handler,) = found.handlers
    assert found.hooks == [handler.embedded[0].next]
    assert found.labels_provided == {"inner/label": True}
    assert found.echoed_options == {65_001}
    (warning,) = found.warnings
    assert (warning.message, warning.token.text) == ("the word is odd", "x")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("outer here wrong", "the word is wrong", "write another one"),
        ("outer here {\nunknown\n}", "unknown option 'unknown'", "known options: option"),
    ],
)
def test_errors_are_reported_at_the_word_of_the_outer_directive(text, message, hint, monkeypatch):
    with pytest.raises(CorefileError) as caught:
        controller(text, monkeypatch)
    (found,) = caught.value.diagnostics
    assert (found.message, found.token.text, found.hint) == (message, "here", hint)


def test_a_plugin_that_is_not_installed():
    found = controller_for("outer here")
    found.next()
    assert found.token is not None
    with pytest.raises(CorefileError) as caught:
        found.embed("inner", [[]], found.token)
    message = "it needs the plugin inner, which is not installed"
    assert caught.value.diagnostics[0].message == message


def test_a_directive_with_several_handlers_cannot_be_embedded():
    with pytest.raises(CorefileError, match="inner has 2 handlers to embed, not one"):
        serve(". {\n outer x two\n}", plugins=PLUGINS).__enter__()


def test_in_a_server():
    EVENTS.clear()
    with serve(". {\n outer x word\n whoami\n errors\n}", plugins=PLUGINS) as server:
        assert EVENTS == ["started"]
        assert server.ask("www.test.").header.rcode == 5
        assert server.ask("next.test.").ar  # of whoami
        assert server.ask("bad.test.").header.rcode == 2  # its reply is validated
    assert EVENTS == ["started", "stopped"]
