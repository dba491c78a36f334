"""Reloads: entries stay where the chain below means the same, within the limits of the new one."""

import asyncio
import os
from typing import Any

import dnslib
import pytest

from corepy.plugin import Cacheability, Handler, StartupError, hookimpl, lookup
from corepy.testing import Upstream, inline, serve, with_handlers
from corepy_cache.budget import process_budget
from corepy_cache.handler import Cache

LOCAL = "bind 127.0.0.1\n"
ANSWER = 'template IN A {\nanswer "{{ .Name }} 600 IN A 192.0.2.1"\n}\n'
OTHER_ANSWER = ANSWER.replace("192.0.2.1", "192.0.2.2")
DENIAL = (
    'template ANY AAAA {\nrcode NXDOMAIN\nauthority "{{ .Zone }} 600 IN SOA a b 1 2 3 4 5"\n}\n'
)
BELOW = DENIAL + ANSWER


def block(options="", below=BELOW, zone=".", above=""):
    return f"{zone} {{\n{LOCAL}{above}cache {options}\n{below}}}\n"


def entries(server):
    """Return the number of entries of each cache, positive and negative ones, by block."""
    blocks = server.server.generation.blocks
    stores = [cache.store for it in blocks for _, cache in it.stateful()]
    return [len(it.success) + len(it.denial) for it in stores]


def outcomes(caplog):
    lines = [record.getMessage() for record in caplog.records]
    return [line.partition(": cache ")[2] for line in lines if line.startswith("server block at")]


@pytest.mark.parametrize(
    "after",
    [
        block(),
        block("30"),
        block("{\nsuccess 5000\ndenial 2000 20\nserve_stale\nprefetch 3\n}"),
        block(above="log\nerrors\nhealth 127.0.0.1:0\n"),
        block(below=f"  {DENIAL}  # a comment\n\n{ANSWER}"),
        block() + block(zone="example.org"),
        block().replace(LOCAL, "bind 127.0.0.2\n"),
    ],
    ids=["same", "ttl", "options", "above", "comments", "other-block", "address"],
)
def test_entries_stay(after, caplog):
    caplog.set_level("INFO")
    with serve(block()) as server:
        first = server.ask("www.example.net")
        denied = server.ask("www.example.net", "AAAA")
        assert entries(server) == [2]
        server.reload(after)
        assert entries(server)[0] == 2
        assert server.ask("www.example.net").rr[0].rdata == first.rr[0].rdata
        assert server.ask("www.example.net", "AAAA").header.rcode == denied.header.rcode == 3
        assert entries(server)[0] == 2
    assert outcomes(caplog)[0] == "continues with 2 entries"


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (block(below=OTHER_ANSWER + DENIAL), "changed below it: template"),
        (block(below=ANSWER), "changed below it: template"),
        (block(below="header {\nresponse set ra\n}\n" + BELOW), "changed below it: header"),
        (block(below="forward . 192.0.2.53\n"), "changed below it: forward, template"),
        (block(zone="example.net"), "no server block had it for the same zones"),
    ],
    ids=["answer", "less", "handler", "upstream", "zone"],
)
def test_entries_go(after, reason, caplog):
    caplog.set_level("INFO")
    with serve(block()) as server:
        server.ask("www.example.net")
        server.reload(after)
        assert entries(server) == [0]
    assert outcomes(caplog) == [f"starts empty: {reason}"]


def test_each_block_decides_for_itself():
    """The blocks change places, and one of them its chain."""
    one, two = block(zone="example.net"), block(zone="example.org")
    with serve(one + two) as server:
        for name in ("a.example.net", "b.example.net"):
            server.ask(name)
        first = server.addresses
        assert sorted(entries(server)) == [0, 2]
        server.reload(two + one)
        assert entries(server) == [0, 2]
        assert first == server.addresses
        server.reload(two + block(zone="example.net", below=OTHER_ANSWER))
        assert entries(server) == [0, 0]


def test_blocks_of_one_zone_are_told_apart_by_their_chains():
    """Two views of a zone, of which one changes."""

    def text(first, second):
        view = "view v{} {{\nexpr {}\n}}\n"
        one = block(below=ANSWER + view.format(1, first))
        return one + block(below=OTHER_ANSWER + view.format(2, second))

    is_a, is_b = "name() startsWith 'a.'", "name() startsWith 'b.'"
    with serve(text(is_a, is_b)) as server:
        for name in ("a.example.net", "b.example.net", "b.example.org"):
            server.ask(name)
        assert entries(server) == [1, 2]
        server.reload(text(is_a, is_b))
        assert entries(server) == [1, 2]
        server.reload(text(is_a, f"{is_b} || {is_a}"))
        assert entries(server) == [1, 0]


def test_the_content_of_files_decides(tmp_path, caplog):
    caplog.set_level("INFO")
    servers = tmp_path / "resolv.conf"
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.9 other.example.net\n")
    below = f"hosts {hosts} {{\nreload 0\nfallthrough\n}}\nforward . {servers}\n"
    text = block(below=below + BELOW)
    servers.write_text("nameserver 192.0.2.53\n")
    with serve(text) as server:
        server.ask("www.example.net")
        server.reload(text)
        os.utime(servers, ns=(1, 1))
        server.reload(text)
        assert entries(server) == [1]
        servers.write_text("nameserver 192.0.2.54\n")
        server.reload(text)
        assert entries(server) == [0]
        server.ask("www.example.net")
        hosts.write_text("192.0.2.9 www.example.net\n")
        server.reload(text)
        assert entries(server) == [0]
    assert outcomes(caplog) == [
        *["continues with 1 entry"] * 2,
        "starts empty: changed below it: forward",
        "starts empty: changed below it: hosts",
    ]


def test_limits_apply_to_the_entries_that_stay():
    before = process_budget().used
    with serve(block()) as server:
        for number in range(1030):
            server.ask(f"n{number}.example.net")
        server.ask("www.example.org")
        server.ask("www.example.org", "AAAA")
        server.reload(block("{\nsuccess 1024 30\ndisable denial example.org\n}"))
        (cache,) = server.plugins(Cache)
        assert (len(cache.store.success), len(cache.store.denial)) == (1024, 0)
        assert {entry.ttl for entry in cache.store.success} == {30}
        assert server.ask("www.example.org").rr[0].ttl <= 30
        used = sum(entry.size for entry in cache.store.success)
        assert cache.store.success.bytes == used == cache.budget.used - before
        server.reload(block("3600"))
        assert {entry.ttl for entry in cache.store.success} == {30}
    assert cache.budget.used == before


def test_a_lower_minimum_ends_the_entries_that_the_earlier_one_has_extended():
    long = ANSWER.replace("IN A", "IN AAAA").replace("192.0.2.1", "2001:db8::1")
    below = ANSWER.replace("600", "7") + long
    with serve(block("{\nsuccess 2000 3600 300\n}", below)) as server:
        server.ask("www.example.net")
        server.ask("www.example.net", "AAAA")
        server.reload(block("{\nsuccess 2000 3600 400\n}", below))
        assert entries(server) == [2]
        server.reload(block("{\nsuccess 2000 3600 100\n}", below))
        assert entries(server) == [1]


def test_an_answer_that_prefer_positive_has_kept_goes_with_it():
    stale = "{\nserve_stale 1h\nserve_stale_policy prefer_positive\n}"
    with serve(block(stale)) as server:
        server.ask("www.example.net")
        server.ask("www.example.net", "AAAA")
        (cache,) = server.plugins(Cache)
        (answer,), (denial,) = cache.store.success, cache.store.denial
        denial.key = answer.key
        cache.store.denial.entries[answer.key] = denial
        server.reload(block(stale))
        assert len(cache.store.success) == 1
        server.reload(block("{\nserve_stale 1h\n}"))
        assert len(cache.store.success) == 0


class Refusing(Handler):
    """Refuses to serve, after its generation has answered queries."""

    name = "refusing"
    cacheability = Cacheability.SAFE
    asked: Any = staticmethod(lambda: None)

    @hookimpl
    async def serving(self, context):
        await asyncio.get_running_loop().run_in_executor(None, self.asked)
        raise StartupError("no")

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)


def test_a_reload_that_fails_moves_nothing(caplog):
    caplog.set_level("INFO")
    with serve(block(), plugins=with_handlers(refusing=Refusing)) as server:
        Refusing.asked = staticmethod(lambda: server.ask("new.example.net"))
        server.ask("www.example.net")
        before = entries(server)
        with pytest.raises(StartupError):
            server.reload(block("30", above="refusing\n"))
        assert before == [1]
        assert entries(server) == [2]  # those of the queries that it has answered remain valid
        (cache,) = server.plugins(Cache)
        assert cache.store.contents.users == [cache.store]
        server.ask("www.example.net")
        server.reload(block())
        assert entries(server) == [2]
    assert outcomes(caplog) == ["continues with 2 entries"]


class Alias(Handler):
    """Answers with the reply to another name, from another block."""

    name = "alias"
    cacheability = Cacheability.SAFE
    inputs = b""

    async def serve_dns(self, request):
        await lookup(request, b"\3www\7example\3org\0")
        return request.reply(answer=dnslib.RR.fromZone(f"{request.name} 60 A 192.0.2.1"))


def test_look_ups_make_other_blocks_matter(caplog):
    caplog.set_level("INFO")
    plugins = with_handlers(alias=Alias)

    def text(answer, zone="example.net"):
        return block(zone=zone, below="", above="alias\n") + block(zone="example.org", below=answer)

    with serve(text(ANSWER), plugins=plugins, order="alias after cache") as server:
        server.ask("www.example.org")
        server.reload(text(OTHER_ANSWER))
        assert outcomes(caplog)[0] == "continues with 0 entries"
        assert server.ask("www.example.net").rr
        server.reload(text(OTHER_ANSWER))
        assert entries(server)[0] == 1
        server.reload(text(ANSWER))
        assert entries(server) == [0, 0]
    assert outcomes(caplog)[-2].startswith("starts empty: its replies contain look-ups")


def test_look_ups_make_the_filters_of_other_blocks_matter(caplog):
    """Also those of a plugin without a handler."""
    caplog.set_level("INFO")

    def setup(controller):
        for _ in controller.single():
            name = controller.argument().text
            controller.add_filter(
                lambda request, name=name: request.name.startswith(name),
                cacheability=Cacheability.SAFE,
                is_about_question=True,
            )

    def text(name):
        one = f"example.org {{\n{LOCAL}split {name}\n{ANSWER}}}\n"
        other = f"example.org {{\n{LOCAL}{OTHER_ANSWER}}}\n"
        return block(zone="example.net", below="", above="alias\n") + one + other

    plugins = {**with_handlers(alias=Alias), "split": inline("split", setup)}
    with serve(text("www"), plugins=plugins, order="alias after cache") as server:
        assert server.ask("www.example.net").rr
        server.reload(text("www"))
        assert entries(server) == [1]
        server.reload(text("ftp"))
        assert entries(server) == [0]
    assert outcomes(caplog)[-1].startswith("starts empty: its replies contain look-ups")


class Unknown(Refusing):
    """Does not state its inputs."""

    name = "unknown"

    @hookimpl
    def serving(self, context):
        """Accept."""


def test_a_handler_that_does_not_state_its_inputs_empties_the_cache(caplog):
    caplog.set_level("INFO")
    plugins = with_handlers(unknown=Unknown)
    text = block(above="unknown\n")
    with serve(text, plugins=plugins, order="unknown after cache") as server:
        server.ask("www.example.net")
        server.reload(text)
        assert entries(server) == [0]
    assert outcomes(caplog) == ["starts empty: the inputs of unknown are not known"]


def test_a_purge_during_a_reload_reaches_the_shared_entries():
    with serve(block()) as server:
        server.ask("www.example.net")
        (old,) = server.plugins(Cache)
        server.reload(block())
        (new,) = server.plugins(Cache)
        assert new is not old
        assert new.store.success is old.store.success
        results = asyncio.run_coroutine_threadsafe(
            server.server.command("cache/purge", {"name": "www.example.net."}), server._loop
        ).result(60)
        assert results == [{"plugin": "cache", "value": 1}]
        assert entries(server) == [0]


METADATA = 'template IN TXT {\nanswer "{{ .Name }} 600 IN TXT at{{ .Meta \\"view/name\\" }}"\n}\n'


def test_metadata_comes_from_above(caplog):
    caplog.set_level("INFO")
    below = METADATA + "view one {\nexpr true\n}\n"
    with serve(block(above="metadata\n", below=below)) as server:
        assert str(server.ask("www.example.net", "TXT").rr[0].rdata) == '"atone"'
        server.reload(block(below=below))
        assert str(server.ask("www.example.net", "TXT").rr[0].rdata) == '"at"'
    assert outcomes(caplog) == ["starts empty: the inputs of template are not known"]


@pytest.mark.parametrize(
    ("option", "is_known"),
    [
        ("expr metadata('view/name') == 'one'", False),
        ("expr metadata(lower('VIEW/name')) == 'one'", False),
        ("var view metadata('view/name')\nexpr view == 'one'", False),
        ("expr type() == 'TXT'", True),
    ],
    ids=["condition", "label-of-a-function", "variable", "question"],
)
def test_metadata_in_expressions_comes_from_above(option, is_known, caplog):
    caplog.set_level("INFO")
    below = f'template IN TXT {{\n{option}\nanswer "{{{{ .Name }}}} 600 IN TXT x"\n}}\n{DENIAL}'
    below += "view one {\nexpr true\n}\n"
    with serve(block(above="metadata\n", below=below)) as server:
        assert server.ask("www.example.net", "TXT").rr
        server.reload(block(below=below))
        assert bool(server.ask("www.example.net", "TXT").rr) is is_known
    (outcome,) = outcomes(caplog)
    assert (outcome == "starts empty: the inputs of template are not known") is not is_known


@pytest.mark.parametrize(
    ("value", "is_known"), [("{view/name}", False), ("{qname}", True)], ids=["metadata", "query"]
)
def test_metadata_in_options_comes_from_above(value, is_known, caplog):
    caplog.set_level("INFO")
    below = f"rewrite edns0 local set 0xffee {value}\n{BELOW}"
    with serve(block(above="metadata\n", below=below), order="rewrite after cache") as server:
        server.reload(block(above="metadata\n", below=below))
    (outcome,) = outcomes(caplog)
    assert ("the inputs of rewrite are not known" in outcome) is not is_known


def test_the_addresses_of_a_host_name_decide(caplog):
    caplog.set_level("INFO")
    address = "127.0.0.1"

    def hosts(query, _):
        reply = query.reply()
        if query.q.qtype == dnslib.QTYPE.A:
            reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 A {address}"))
        return reply

    records = {"www.example.net. A": ["www.example.net. 60 A 192.0.2.1"]}
    with Upstream(records) as upstream, Upstream(hosts) as resolver:
        to = f"dns.example:{upstream.address[1]}"
        text = block(below=f"forward . {to} {{\nresolver {resolver.to}\n}}\n")
        with serve(text, still=True) as server:
            assert server.ask("www.example.net").rr
            server.reload(text)
            assert entries(server) == [1]
            address = "127.0.0.2"
            server.reload(text)
            assert entries(server) == [0]
    assert outcomes(caplog) == ["continues with 1 entry", "starts empty: changed below it: forward"]


def test_look_ups_stay_at_an_address(caplog):
    """Two blocks for one zone change places."""
    caplog.set_level("INFO")

    def text(first, second):
        blocks = [
            block(zone="example.net", below="", above="alias\n"),
            block(zone="example.org", below=ANSWER).replace(LOCAL, f"bind {first}\n"),
            block(zone="example.org", below=OTHER_ANSWER).replace(LOCAL, f"bind {second}\n"),
        ]
        return "".join(blocks)

    plugins = with_handlers(alias=Alias)
    with serve(
        text("127.0.0.1", "127.0.0.2"), plugins=plugins, order="alias after cache"
    ) as server:
        assert server.ask("www.example.net").rr
        server.reload(text("127.0.0.2", "127.0.0.1"))
        assert entries(server)[0] == 0
    assert outcomes(caplog)[0].startswith("starts empty: its replies contain look-ups")


class AliasDuringReload(Alias):
    """Queries the server while two generations share the entries."""

    asked: Any = staticmethod(lambda: None)

    @hookimpl
    async def serving(self, context):
        await asyncio.to_thread(self.asked)


def test_look_ups_during_a_reload_are_not_kept():
    """The reply may be made by either generation, and either of them may remain."""
    plugins = with_handlers(alias=AliasDuringReload)

    def text(answer):
        return block(zone="example.net", below="", above="alias\n") + block(
            zone="example.org", below=answer
        )

    with serve(text(ANSWER), plugins=plugins, order="alias after cache") as server:
        AliasDuringReload.asked = staticmethod(lambda: server.ask("www.example.net"))
        server.reload(text(OTHER_ANSWER))
        assert entries(server)[0] == 0
        server.ask("www.example.net")
        assert entries(server)[0] == 1
