"""Several server blocks with one zone and address: which one answers, and what is said about it."""

import asyncio
import importlib.util
import itertools
import logging
import threading
from pathlib import Path
from typing import ClassVar

import dnslib
import pytest

from corepy import corefile
from corepy.commands.explanation import render
from corepy.corefile import CorefileError
from corepy.dns import Request
from corepy.dns.names import from_text
from corepy.dns.presentation import read_record
from corepy.loading.registry import find
from corepy.plugin import BlockFilters, Cacheability, Handler, hookimpl, lookup
from corepy.plugin.failures import FAILURES
from corepy.server.banner import banner, packet_cache_lines
from corepy.server.build.builder import build
from corepy.server.contain.attribution import of_thread
from corepy.server.explain.explainer import explain_live
from corepy.server.listen.filtering_router import FilteringRouter
from corepy.server.listen.router import Router, ZoneRoute
from corepy.testing import (
    controller_for,
    free_port,
    http_get,
    inline,
    query,
    serve,
    with_handlers,
)

SPECIFICATION = importlib.util.spec_from_file_location(
    "split_plugin", Path(__file__).with_name("split_plugin.py")
)
assert SPECIFICATION is not None
assert SPECIFICATION.loader is not None
split_plugin = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(split_plugin)

HOME, AWAY = "127.0.0.1", "127.0.0.2"


@pytest.fixture(autouse=True)
def no_calls():
    split_plugin.calls.clear()
    yield
    split_plugin.calls.clear()


def plugins(**handlers):
    return {**with_handlers(**handlers), "split": inline("split", split_plugin.setup)}


def say(word):
    return f'template IN TXT {{\n answer "{{{{ .Name }}}} 60 IN TXT {word}"\n}}'


def block(zone, *lines):
    return "\n".join((f"{zone} {{", " bind 127.0.0.1", *lines, "}\n"))


TWO = (
    block("example.org", "split in from 127.0.0.2", say("inside"))
    + block("example.org", say("outside"))
    + block(".", say("root"))
)


def ask(server, name, source=HOME, qtype="TXT", *, tcp=False):
    """Return the text of the answer to a client at `source`, or the name of the rcode."""
    reply = server.ask(name, qtype, source=source, tcp=tcp)
    if reply.rr:
        return str(reply.rr[0].rdata).strip('"')
    return dnslib.RCODE[reply.header.rcode]


# -- which block answers


@pytest.mark.parametrize("tcp", [False, True])
def test_the_first_block_whose_filter_accepts_answers(tcp):
    with serve(TWO, plugins=plugins()) as server:
        for source, expected in ((AWAY, "inside"), (HOME, "outside"), (AWAY, "inside")):
            assert ask(server, "a.example.org", source, tcp=tcp) == expected
            assert ask(server, "example.net", source, tcp=tcp) == "root"


def test_the_order_of_the_file_decides():
    blocks = [block(".", f"split {word} name a", say(word)) for word in ("first", "second")]
    for one, other in (blocks, blocks[::-1]):
        expected = "first" if one == blocks[0] else "second"
        with serve(one + other, plugins=plugins()) as server:
            assert ask(server, "a.example") == expected
            assert ask(server, "b.example") == "REFUSED"


def test_all_filters_of_a_block_have_to_accept():
    text = block(".", "split - name a", "split both from 127.0.0.2", say("both"))
    with serve(text, plugins=plugins()) as server:
        assert ask(server, "a.example", AWAY) == "both"
        assert ask(server, "b.example", AWAY) == "REFUSED"
        assert ask(server, "a.example", HOME) == "REFUSED"
    # The second filter is not called if the first one rejects the query.
    assert [call[0] for call in split_plugin.calls] == ["name", "from", "name", "name", "from"]
    assert {call[3] for call in split_plugin.calls} == {""}  # no block is chosen yet


def test_a_query_falls_on_to_shorter_zones():
    text = "".join(
        block(zone, f"split v{number} name {word}", say(zone))
        for number, (zone, word) in enumerate(
            [("a.b.example", "one"), ("b.example", "two"), ("example", "three"), (".", "four")]
        )
    )
    with serve(text, plugins=plugins()) as server:
        for word, zone in (("one", "a.b.example"), ("two", "b.example"), ("three", "example")):
            assert ask(server, f"{word}.a.b.example") == zone
        assert ask(server, "four.a.b.example") == "."
        assert ask(server, "five.a.b.example") == "REFUSED"
    asked = [call[1] for call in split_plugin.calls if call[2].startswith("five")]
    assert asked == ["one", "two", "three", "four"]  # the root is last


@pytest.mark.parametrize(
    ("source", "name", "qtype", "expected"),
    [
        (HOME, "a.example", "DS", "parent"),
        (AWAY, "a.example", "DS", "inside"),  # the filter of the parent rejects it
        (AWAY, "b.a.example", "DS", "inside"),
        (HOME, "b.a.example", "DS", "parent"),
        (HOME, "example", "DS", "parent"),  # not the root
        (AWAY, "example", "DS", "root"),
        (HOME, "other", "DS", "root"),
    ],
)
def test_a_query_for_ds_belongs_to_the_parent(source, name, qtype, expected):
    def say_ds(word):
        return say(word).replace("IN TXT", "IN DS", 1)

    text = (
        block("a.example", "split in from 127.0.0.2", say_ds("inside"))
        + block("a.example", say_ds("child"))
        + block("example", "split out from 127.0.0.1", say_ds("parent"))
        + block(".", say_ds("root"))
    )
    with serve(text, plugins=plugins()) as server:
        assert ask(server, name, source, qtype) == expected


def test_an_accepting_block_without_handlers_refuses():
    text = block(".", "split in from 127.0.0.2", "split - from 127.0.0.2") + block(".", say("out"))
    with serve(text, plugins=plugins()) as server:
        assert (ask(server, "a", AWAY), ask(server, "a", HOME)) == ("REFUSED", "out")


def test_another_class_is_refused_before_the_filters():
    with serve(TWO, plugins=plugins()) as server:
        wire = bytearray(query("a.example.org", "TXT"))
        wire[-1] = 3
        assert server.exchange(bytes(wire))[3] & 15 == 5
    assert not split_plugin.calls


ZONES = (".", "a.", "b.a.", "a.b.a.", "b.")
NAMES = [
    ".".join([*labels, ""]) or "."
    for size in range(4)
    for labels in itertools.product("ab", repeat=size)
]


@pytest.mark.parametrize("qtype", ["A", "DS"])
@pytest.mark.parametrize("size", range(1, 6))
def test_without_a_filter_both_routers_agree(size, qtype):
    requests = [Request.from_wire(query(name, qtype)) for name in NAMES]
    for zones in itertools.combinations(ZONES, size):
        for empty in (None, *zones):
            routes = {
                from_text(zone): ZoneRoute(zone, None if zone == empty else Handler())
                for zone in zones
            }
            plain = Router(routes, any_class=False, dropped=None)
            several = {wire: [route] for wire, route in routes.items()}
            filtering = FilteringRouter(several, any_class=False, dropped=None)
            for request in requests:
                assert plain.route(request) is filtering.route(request)
            zones_of = {wire: tuple(blocks) for wire, blocks in filtering.zones.items()}
            assert plain.zones == zones_of


def test_a_corefile_without_filters_has_a_plain_router():
    text = block("a", say("a")) + block(".", say("root"))
    generation = build(corefile.parse(text, "Corefile"), 0, plugins())
    assert [type(router) for router in generation.routers.values()] == [Router]


# -- which Corefiles are valid (core/dnsserver/register.go, address_test.go)


SPLIT = "split in name a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (block(".", SPLIT, "whoami") + block(".", "whoami"), None),
        (block(".", SPLIT, "whoami") * 3, None),
        (block(".", SPLIT, "whoami") * 2 + block(".", "whoami"), None),
        (block(".", SPLIT, "whoami") + block("a . a", "whoami"), "it is already defined"),
        (block("a a", SPLIT, "whoami"), None),
        (block(".", SPLIT, "whoami") + block(".", "whoami") * 2, "it is already defined"),
        (block(".", "split - name a", "split b name b", "whoami"), None),
        (block(".", SPLIT, "split b name b"), "multiple views defined in server block"),
        (". {\nwhoami\n}\n" + block(".", SPLIT, "whoami"), "overlaps with another listen address"),
        (block(".", SPLIT, "whoami") + ". {\nwhoami\n}\n", None),  # a filtered one is not recorded
        (block(".", "whoami") + f". {{\n{SPLIT}\nwhoami\n}}\n", "overlaps with another"),
    ],
)
def test_blocks_of_one_zone(text, message):
    parsed = corefile.parse(text, "Corefile")
    if message is None:
        build(parsed, 0, plugins())
        return
    with pytest.raises(CorefileError) as failure:
        build(parsed, 0, plugins())
    assert message in str(failure.value)


def test_two_views_of_two_plugins():
    both = {**plugins(), "other": inline("other", split_plugin.setup)}
    text = block(".", "split one name a", "other two name b", "whoami")
    with pytest.raises(CorefileError) as failure:
        build(corefile.parse(text, "Corefile"), 0, both)
    (found,) = failure.value.diagnostics
    assert found.message == "multiple views defined in server block: 'two' by other and 'one'"
    assert (found.token.line, found.token.text) == (3, "split")


def test_a_block_below_one_without_a_filter_is_reported():
    text = block(".", "whoami") + block(".", SPLIT, "whoami")
    generation = build(corefile.parse(text, "Corefile"), 0, plugins())
    (warning,) = generation.warnings
    assert warning.severity == "warning"
    assert warning.message == "no query reaches this block for .: the one at Corefile:1 answers all"
    assert warning.token.line == 5
    with serve(text, plugins=plugins()) as server:
        assert ask(server, "a", qtype="A") == "NOERROR"
    assert not split_plugin.calls


async def coroutine(request):
    return True


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (coroutine, {}, "must be an ordinary function"),
        ("no function", {}, "must be an ordinary function"),
        (bool, {"view": 1}, "must be a str"),
        (bool, {"cacheability": Cacheability.OBSERVES}, "not a cacheability of a filter"),
        (bool, {"is_about_question": True}, "about the question is SAFE, not Cacheability.UNSAFE"),
    ],
)
def test_filters_that_cannot_be(function, options, message):
    def setup(controller):
        controller.add_filter(function, **options)

    with pytest.raises(CorefileError, match=message):
        build(corefile.parse(block(".", "odd"), "Corefile"), 0, {"odd": inline("odd", setup),
              **find()})  # fmt: skip


def test_the_filters_of_a_block():
    controller = controller_for("split in name a")
    split_plugin.setup(controller)
    (added,) = controller.config.get(BlockFilters).filters
    assert (added.view, added.name, added.cacheability) == ("in", "split", Cacheability.SAFE)
    assert controller.config.get(BlockFilters).view == "in"
    assert BlockFilters().view == ""


# -- what fails


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("raise", "ValueError: this filter is broken"),
        ("exit", "raised SystemExit: 3"),
        ("none", "TypeError: the filter returned NoneType instead of a bool"),
        ("coroutine", "TypeError: the filter returned coroutine instead of a bool"),
    ],
)
def test_a_filter_that_fails(word, shown, caplog):
    text = block(".", f"split in fails {word}", say("in")) + block(".", say("out"))
    before = FAILURES.labels("split", "exception").value
    with serve(text, plugins=plugins()) as server, caplog.at_level(logging.ERROR):
        for tcp in (False, True):
            assert ask(server, "a.example", tcp=tcp) == "SERVFAIL"  # not the next block
    assert FAILURES.labels("split", "exception").value == before + 2
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"a.example. TXT from 127.0.0.1: {shown}; answered SERVFAIL"] * 2
    assert {record.name for record in caplog.records} == {"corepy.plugin.split"}


def test_a_filter_that_blocks_the_loop_is_named(monkeypatch):
    """The search for the code that blocks the event loop finds the filter, also in a look-up."""
    found = []
    monkeypatch.setattr(
        split_plugin, "during", [lambda: found.append(of_thread(threading.get_ident()))]
    )
    text = block("example.org", "split in notes -", say("in")) + block(".", "alias")
    with serve(text, plugins=plugins(alias=Alias)) as server:
        assert ask(server, "a.example.org") == "in"
        assert ask(server, "a.example") == "in"
    assert [it.plugin for it in found] == ["split", "split"]


def scrape(port, name, label):
    """Return the series of a metric with a label, and their values."""
    lines = http_get(port, "/metrics").text.splitlines()
    return {line for line in lines if line.startswith(f"{name}{{") and label in line}


def test_queries_without_a_block_are_counted():
    port = free_port()
    text = block(".", f"prometheus 127.0.0.1:{port}", "split in from 127.0.0.2", say("in"))
    text += block("broken", "split in fails raise", say("in"))
    name = "coredns_dns_responses_total"
    with serve(text, plugins=plugins()) as server:
        assert ask(server, "a.example") == "REFUSED"
        assert ask(server, "broken", AWAY) == "SERVFAIL"
        assert ask(server, "b.example", AWAY) == "in"
        label = f'server="dns://127.0.0.1:{server.address[1]}"'
        assert scrape(port, name, label) == {
            f'{name}{{plugin="",rcode="REFUSED",{label},view="",zone="dropped"}} 1',
            f'{name}{{plugin="",rcode="SERVFAIL",{label},view="",zone="dropped"}} 1',
            f'{name}{{plugin="template",rcode="NOERROR",{label},view="in",zone="."}} 1',
        }


# -- look-ups of the server itself


class Alias(Handler):
    """Answers with the server's own reply for another name."""

    name = "alias"

    async def serve_dns(self, request):
        found = await lookup(request, from_text("target.example.org."))
        if found is None or found.rcode:
            return request.error(found.rcode if found else 2)
        texts = [str(rr.rdata).strip('"') for rr in found.record.rr]
        record = read_record(f"{request.name} 60 IN TXT {'+'.join(texts)}", 60)
        return request.reply(answer=[record.wire])


@pytest.mark.parametrize("tcp", [False, True])
def test_a_look_up_takes_the_same_way(tcp):
    text = (
        block("example.org", "split in from 127.0.0.2", say("inside"))
        + block("example.org", "split out name target", say("outside"))
        + block(".", "alias")
    )
    with serve(text, plugins=plugins(alias=Alias)) as server:
        assert ask(server, "a.example", AWAY, tcp=tcp) == "inside"
        assert ask(server, "a.example", HOME, tcp=tcp) == "outside"
        assert ask(server, "x.example.org", HOME, tcp=tcp) == "outside"  # by way of the root


def test_a_failing_filter_of_a_look_up(caplog):
    text = block("example.org", "split in fails raise", say("in")) + block(".", "alias")
    with serve(text, plugins=plugins(alias=Alias)) as server:
        assert ask(server, "a.example") == "SERVFAIL"
    (record,) = caplog.records
    assert record.name == "corepy.plugin.split"
    assert "target.example.org. TXT from 127.0.0.1" in record.getMessage()


# -- metadata


class Provider(Handler):
    """Provides labels, and notes when it is asked."""

    name = "provider"
    asked: ClassVar[list[str]] = []

    @hookimpl
    def metadata(self, request):
        self.asked.append(request.name)
        return {"provider/source": request.remote[0]}

    async def serve_dns(self, request):
        request.metadata["below/label"] = "set"
        return await self.next.serve_dns(request)


class Reader(Handler):
    """Notes the metadata that is there when the reply comes back."""

    name = "reader"
    seen: ClassVar[list[tuple[dict[str, str], dict[str, str], str]]] = []

    async def serve_dns(self, request):
        before = dict(request.metadata)
        reply = await self.next.serve_dns(request)
        self.seen.append((before, dict(request.metadata), request.context.view))
        return reply


@pytest.fixture
def labels():
    Provider.asked.clear()
    Reader.seen.clear()
    return plugins(provider=Provider, reader=Reader)


ORDER = "provider before log\nreader before provider\n"


def test_metadata_is_collected_before_the_filters(labels):
    text = (
        block(".", "metadata", "split in label provider/source=127.0.0.2", "reader", "provider",
              say("in"))
        + block(".", "reader", say("out"))
    )  # fmt: skip
    with serve(text, plugins=labels, order=ORDER) as server:
        assert ask(server, "a", AWAY) == "in"
        assert ask(server, "b", HOME) == "out"
    source = {"provider/source": AWAY}
    assert Reader.seen == [
        (source, {**source, "below/label": "set"}, "in"),
        ({}, {}, ""),  # the labels of the first block are not those of the second one
    ]
    assert Provider.asked == ["a.", "b."]


def test_without_a_filter_metadata_is_collected_on_demand(labels):
    with serve(block(".", "metadata", "provider", say("in")), plugins=labels, order=ORDER) as it:
        assert ask(it, "a") == "in"
    assert not Provider.asked


def test_other_addresses_collect_metadata_on_demand(labels):
    text = (
        block(".", "metadata", "provider", say("in"))
        + ".:0 {\nbind 127.0.0.2\nsplit in name a\nwhoami\n}\n"
    )
    with serve(text, plugins=labels, order=ORDER) as server:
        assert ask(server, "a") == "in"
    assert not Provider.asked


# -- what is shown


def test_the_view_is_a_label_of_metrics():
    port = free_port()
    lines = (f"prometheus 127.0.0.1:{port}", "cache")
    text = block(".", "split in from 127.0.0.2", *lines, say("in")) + block(".", *lines, say("out"))
    with serve(text, plugins=plugins()) as server:
        for source in (AWAY, AWAY, HOME):
            ask(server, "a.example", source)
        label = f'server="dns://127.0.0.1:{server.address[1]}"'
        name = "coredns_dns_requests_total"
        rest = f'proto="udp",{label},type="TXT",'
        assert scrape(port, name, label) == {
            f'{name}{{family="1",{rest}view="{view}",zone="."}} {times}'
            for view, times in (("in", 2), ("", 1))
        }
        name = "coredns_cache_requests_total"
        assert scrape(port, name, label) == {
            f'{name}{{{label},view="{view}",zones="."}} {times}'
            for view, times in (("in", 2), ("", 1))
        }
        name = "coredns_plugin_enabled"
        assert scrape(port, name, label) == {
            f'{name}{{name="{plugin}",{label},view="{view}",zone="."}} 1'
            for plugin in ("cache", "prometheus", "template")
            for view in ("in", "")
        }


def test_the_banner_and_the_packet_cache_lines():
    text = (
        block("example.org", "split in from 127.0.0.2", "cache", say("in"))
        + block("example.org", "cache", say("out"))
        + block("name.example", "split n name a", "cache", say("name"))
        + block(".", "cache", say("root"))
    )
    with serve(text, plugins=plugins()) as running:
        server, port = running.server, running.address[1]
        assert server.generation is not None
        lines = banner(server.generation, server).splitlines()
        assert lines == [f"{zone}:{port} on 127.0.0.1" for zone in
                         (".", "example.org.", "name.example.")]  # fmt: skip
        assert packet_cache_lines(server.generation, server) == [
            f"dns://127.0.0.1:{port}: packet cache on, but off for example.org. view in"
            " (because of split), example.org. (because of split)"
        ]


def explained(server, name, client=HOME, **question):
    given = {"name": name, "type": "TXT", "client": client, **question}
    running = server.server
    return asyncio.run_coroutine_threadsafe(explain_live(running, given), server._loop).result(60)


def test_the_explanation():
    with serve(TWO, plugins=plugins()) as server:
        inside = explained(server, "a.example.org", AWAY)
        outside = explained(server, "a.example.org", HOME)
    assert inside["block"]["view"] == "in"
    assert inside["reason"] == (
        "the longest zone that contains the name; its filter accepts the query"
    )
    assert outside["reason"] == (
        "the longest zone that contains the name; filters of earlier blocks reject the query"
    )
    accepted = [(it["place"], it["view"], it["accepts"]) for it in outside["candidates"]]
    assert accepted == [("Corefile:1", "in", False), ("Corefile:8", "", None),
                        ("Corefile:14", "", None)]  # fmt: skip
    head = render(outside).splitlines()
    assert head[2:4] == [
        f"Block     example.org. (Corefile:8): {outside['reason']}",
        "          also in example.org. (Corefile:1, view in: its filter rejects it), "
        ". (Corefile:14)",
    ]
    assert f"example.org. (Corefile:1, view in): {inside['reason']}" in render(inside)
    assert 'TXT\t"inside"' in render(inside)


def test_the_explanation_of_a_query_that_no_block_answers():
    text = block("a", SPLIT.replace("name a", "name x"), say("in"))
    with serve(text, plugins=plugins()) as server:
        found = explained(server, "b.a")
    assert found["block"] is None
    assert found["reason"] == (
        "the filters of all blocks whose zone contains the name reject the query"
    )
    assert found["reply"]["rcode"] == "REFUSED"


def test_the_explanation_of_a_failing_filter():
    text = block(".", "split in fails raise", say("in"))
    with serve(text, plugins=plugins()) as server:
        found = explained(server, "b.a", times=2)
    assert found["block"] is None
    assert found["reason"] == ("a filter failed (plugin/split: ValueError: this filter is broken)")
    assert found["reply"]["rcode"] == "SERVFAIL"


# -- reload


def test_a_reload_replaces_the_blocks():
    one = block(".", "cache", say("one"))
    with serve(TWO, plugins=plugins()) as server:
        port = server.address[1]
        single = one.replace(". {", f".:{port} {{")
        several = TWO.replace("example.org {", f"example.org:{port} {{").replace(
            "\n. {", f"\n.:{port} {{"
        )
        for _ in range(2):
            server.reload(single)
            assert ask(server, "a.example.org", AWAY) == "one"
            server.reload(several)
            assert ask(server, "a.example.org", AWAY) == "inside"
            assert ask(server, "a.example.org", HOME) == "outside"
