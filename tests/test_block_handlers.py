"""The handlers of a block by directive and by protocol (`corepy.plugin.BlockHandlers`)."""

import pytest

from corepy import corefile
from corepy.dns.names import from_text
from corepy.plugin import (
    BlockHandlers,
    FastHandler,
    Handler,
    ObservingHandler,
    StartupError,
    control_client,
    hookimpl,
)
from corepy.plugin.protocols import (
    ExternalServiceSource,
    MessageTap,
    OwnNames,
    RecordBackend,
    SearchPathSource,
    SecondaryNotifier,
    Service,
    TransferSource,
)
from corepy.server.build.builder import build
from corepy.testing import controller_for, inline, serve

SEARCH = [from_text("a.example."), b"\0"]


class Paths(FastHandler):
    """Knows a search path; a third party's handler that imports none of its users."""

    name = "paths"

    def begin_dns(self, request):
        return request.error(0)

    def search_path(self, request):
        return SEARCH


class Watches(ObservingHandler):
    """Is not part of the chain of a query, and taps messages."""

    name = "watches"

    def observe(self, request, reply):
        pass

    def tap_message(self, request, message):
        pass


class Asks(Handler):
    """Looks for its siblings when it starts, and asks one for each query."""

    name = "asks"

    def __init__(self, block_handlers):
        self.block_handlers = block_handlers
        self.there, self.source = [], None

    @hookimpl
    def before_listen(self, context):
        self.there = list(self.block_handlers)
        self.source = self.block_handlers.require("paths", SearchPathSource)

    async def serve_dns(self, request):
        reply = await self.next.serve_dns(request)
        reply.error = f"{len(self.source.search_path(request))} suffixes"
        return reply


def adder(*kinds):
    def setup(controller):
        for _ in controller.single():
            for kind in kinds:
                asks = kind is Asks
                controller.add_handler(kind(controller.block_handlers) if asks else kind())

    return setup


PLUGINS = {
    "asks": inline("asks", adder(Asks), before=("paths",)),
    "paths": inline("paths", adder(Paths, Paths), after=("watches",)),
    "watches": inline("watches", adder(Watches), before=("asks",)),
    "hooks": inline("hooks", lambda controller: [*controller.single()] and None),
}


def built(body, **options):
    text = f".:0 {{\n{body}\n}}\nother.:0 {{\npaths\n}}\n"
    generation = build(corefile.parse(text, "Corefile"), found=PLUGINS, **options)
    (asks,) = [it for it in generation.plugins.get_plugins() if isinstance(it, Asks)]
    return asks.block_handlers


@pytest.mark.parametrize("options", [{}, {"checking": True}, {"hosts": [[""], [""]]}])
def test_complete_after_the_build_in_chain_order(options):
    """Also for `-check`, and in a follower: it gets the hosts of its leader."""
    found = built("paths\nhooks\nasks\nwatches", **options)
    assert [type(it) for it in found] == [Watches, Asks, Paths, Paths]
    assert found.get("paths") is list(found)[-1]  # the last one wins, as in CoreDNS
    assert (found.get("hooks"), found.get("forward")) == (None, None)


def test_by_protocol():
    found = built("paths\nasks\nwatches")
    watches, _, *paths = found
    assert found.of_kind(SearchPathSource) == paths
    assert found.of_kind(MessageTap) == [watches]
    assert found.of_kind(TransferSource) == []
    assert found.of_kind(Handler) == list(found)
    assert found.require("paths", SearchPathSource) is paths[-1]
    assert found.require("watches", Watches) is watches


def test_errors_explain_themselves():
    found = built("paths\nasks\nwatches")
    with pytest.raises(StartupError) as error:
        found.require("kubernetes", SearchPathSource)
    assert str(error.value) == (
        "the server block at Corefile:1 has no handler of kubernetes, only watches, asks, paths;"
        " add kubernetes to the block, or name one of those"
    )
    with pytest.raises(StartupError) as error:
        found.require("watches", SearchPathSource)
    assert str(error.value) == (
        "watches in the server block at Corefile:1 does not implement SearchPathSource; paths does"
    )
    with pytest.raises(StartupError) as error:
        found.require("watches", TransferSource)
    assert str(error.value) == (
        "watches in the server block at Corefile:1 does not implement TransferSource; none of its plugins does"
    )
    empty = BlockHandlers()
    empty.complete([])
    with pytest.raises(StartupError) as error:
        empty.require("file", TransferSource)
    assert str(error.value) == ("the server block has no plugin with a handler; add file to it")


def test_too_early():
    controller = controller_for("asks")
    for use in (list, lambda it: it.get("asks"), lambda it: it.of_kind(Handler)):
        with pytest.raises(RuntimeError, match="look for them in the hook before_listen"):
            use(controller.block_handlers)


def test_the_hooks_get_them_and_a_missing_one_refuses_the_start():
    block = ".:0 {{\n bind 127.0.0.1\n asks\n {0}\n}}\n"
    plugins = {**PLUGINS, "bind": find_bind()}
    with serve(block.format("paths"), plugins=plugins) as server:
        (asks,) = server.plugins(Asks)
        assert [type(it) for it in asks.there] == [Asks, Paths, Paths]
        assert asks.source in server.plugins(Paths)  # the plugin's own, without a guard
        assert server.ask("a.").header.rcode == 0
        with pytest.raises(StartupError, match="plugin/asks: the server block at Corefile:1 has"):
            server.reload(block.format("watches"))
        assert server.plugins(Asks) == [asks]
        server.reload(block.format("paths\n watches"))
        (renewed,) = server.plugins(Asks)
        assert renewed is not asks
        assert {*renewed.there}.isdisjoint(asks.there)
        assert asks.source.search_path(None) == SEARCH  # the old generation has its own to the end


def find_bind():
    from corepy.loading.registry import find

    return find()["bind"]


def test_explain_asks_the_handler_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    plugins = {**PLUGINS, "bind": find_bind()}
    with serve(".:0 {\nbind 127.0.0.1\nasks\npaths\n}\n", plugins=plugins, control=True):
        (path,) = control_client.sockets()
        explanation = control_client.ask(path, "explain", {"name": "a."})
    assert explanation["reply"]["error"] == "2 suffixes"


def test_each_protocol_tells_handlers_apart():
    """A handler is found by exactly the protocol whose methods it has."""

    class Zones(Handler):
        def transfer_zone(self, zone, serial):
            return None

    class Backend(Handler):
        async def services_at(self, request, *, exact):
            return [Service(b"\1a\0", "192.0.2.1", 80)]

        async def services_of_address(self, request):
            return None

        def backend_serial(self, zone):
            return 1

    class External(Handler):
        synced = True

        def add_external_zone(self, zone):
            pass

        def external_services(self, request, zone, *, headless):
            return None

        def all_external_services(self, zone, *, headless):
            return ()

        def name_server_addresses(self, request, *, headless):
            return ()

        def external_serial(self, zone):
            return 1

    class Own:
        async def has_names_below(self, name):
            return False

    class Changes:
        def notify_secondaries(self, zone):
            pass

    handlers = BlockHandlers()
    made = [Zones(), Paths(), Watches(), Backend(), External(), Own(), Changes()]
    handlers.complete([(type(it).__name__, it) for it in made])
    kinds = (
        *(TransferSource, SearchPathSource, MessageTap, RecordBackend, ExternalServiceSource),
        OwnNames,
        SecondaryNotifier,
    )
    assert [handlers.of_kind(kind) for kind in kinds] == [[it] for it in made]
