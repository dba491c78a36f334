"""Handlers that a plugin adds to the chains of all server blocks, and what blocks share in setup."""

import pytest

from corepy import corefile
from corepy.corefile import CorefileError
from corepy.loading.registry import find
from corepy.plugin import Cacheability, FastHandler, ObservingHandler
from corepy.server.build.builder import build
from corepy.testing import inline, serve

ANSWER = 'template IN A {\nanswer "{{ .Name }} 60 IN A 192.0.2.1"\n}'


class Common(FastHandler):
    """Answers one name, and passes on all others."""

    name = "common"
    cacheability = Cacheability.SAFE
    inputs = b""

    def begin_dns(self, request):
        if request.name == "common.example.":
            return request.error(3)
        return self.next.begin_dns(request)


class Watches(ObservingHandler):
    name = "watches"

    def __init__(self):
        self.seen = []

    def observe(self, request, reply):
        self.seen.append(request.name)


class Texts(list[str]):
    """The arguments of all directives."""


def set_up_common(controller):
    for _ in controller.single():
        argument = controller.argument()
    texts = controller.shared(Texts)
    if not texts:
        controller.add_to_every_chain(Common)
    if argument.text in texts:
        raise controller.error("given twice", argument)
    texts.append(argument.text)


def set_up_watches(controller):
    controller.add_handler(Watches())


PLUGINS = {
    **find(),
    "common": inline("common", set_up_common),
    "watches": inline("watches", set_up_watches, before=("acl",)),
}


def block(zone, *lines):
    return f"{zone} {{\nbind 127.0.0.1\n" + "\n".join(lines) + "\n}\n"


def test_a_handler_answers_in_every_block():
    """Above the cache and the denials of the block, below observing handlers."""
    text = block("one.test:0", "common 1", ANSWER)
    text += block(".:0", "watches", "acl {\nblock\n}", "cache", ANSWER)
    with serve(text, plugins=PLUGINS) as server:
        assert server.ask("common.example.").header.rcode == 3
        assert server.ask("other.example.").header.rcode == 5
        assert server.ask("one.test.").header.rcode == 0
        (watches,) = server.plugins(Watches)
        assert watches.seen == ["common.example.", "other.example."]


def test_the_packet_cache_stays_on():
    text = block("one.test:0", "common 1") + block(".:0", "cache", ANSWER)
    with serve(text, plugins=PLUGINS) as server:
        for _ in range(3):
            server.ask("www.example.")
        assert server.packet_entries == 1


@pytest.mark.parametrize(("second", "mistakes"), [("common 2", 0), ("common 1", 1)])
def test_the_directives_of_all_blocks_are_checked_together(second, mistakes):
    text = block("one.test:0", "common 1") + block("two.test:0", second)

    def built():
        return build(corefile.parse(text), found=PLUGINS)

    for _ in range(2):  # nothing is left of an earlier build
        if not mistakes:
            assert built().routers
            continue
        with pytest.raises(CorefileError, match="given twice"):
            built()
