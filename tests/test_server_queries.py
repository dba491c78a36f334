"""Queries through real sockets: routing, refusals, chains that wait, chains that fail."""

import asyncio
import logging
import socket
import struct
import threading

import dnslib
import pytest

from corepy.dns import names
from corepy.plugin import Cacheability, Handler, lookup
from corepy.server.contain.failure_report import PANICS
from corepy.testing import ask, query, serve, with_handlers
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until

RCODE = dnslib.RCODE
COMPANY = 20


class Text(Handler):
    """Answers with a TXT record that says `text`."""

    name = "text"

    def __init__(self, text="hello"):
        self.text = text

    async def serve_dns(self, request):
        return request.reply(answer=dnslib.RR.fromZone(f'{request.name} 60 TXT "{self.text}"'))


class Slow(Text):
    """Answers after a tenth of a second if the name says so."""

    name = "slow"

    async def serve_dns(self, request):
        if request.name.startswith("slow."):
            await asyncio.sleep(0.1)
        return await super().serve_dns(request)


class Meeting(Text):
    """Answers a query whose name begins with "meet." when `COMPANY` of them wait at once."""

    name = "meeting"

    def __init__(self):
        super().__init__()
        self._barrier = asyncio.Barrier(COMPANY)

    async def serve_dns(self, request):
        if request.name.startswith("meet."):
            await self._barrier.wait()
        return await super().serve_dns(request)


class Overtaken(Text):
    """Answers "slow." after the next query for another name."""

    name = "overtaken"

    def __init__(self):
        super().__init__()
        self._overtaken = asyncio.Event()

    async def serve_dns(self, request):
        if request.name.startswith("slow."):
            await self._overtaken.wait()
        self._overtaken.set()
        return await super().serve_dns(request)


class Broken(Handler):
    name = "broken"

    def __init__(self, result=None):
        self.result = result

    async def serve_dns(self, request):
        if request.name.startswith("late."):
            await asyncio.sleep(0)
        if self.result is None:
            raise ValueError("something in here broke")
        return self.result


PLUGINS = with_handlers(
    text=Text,
    other=lambda: Text("other"),
    third=lambda: Text("third"),
    slow=Slow,
    meeting=Meeting,
    overtaken=Overtaken,
    broken=Broken,
    nonsense=lambda: Broken("not a reply"),
)


def text_of(reply):
    return [str(rr.rdata).strip('"') for rr in reply.rr]


def both(server, name, qtype="A", **options):
    """The same over UDP and TCP."""
    udp, tcp = (server.ask(name, qtype, tcp=tcp, **options) for tcp in (False, True))
    udp.header.id = tcp.header.id = 0
    assert udp == tcp
    return udp


@pytest.fixture(scope="module")
def zones():
    corefile = """
    . {\ntext\n}
    example.org {\nother\n}
    sub.example.org {\nthird\n}
    empty.test { }
    """
    with serve(corefile, plugins=PLUGINS) as server:
        yield server


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("example.com.", "hello"),
        (".", "hello"),
        ("example.org.", "other"),
        ("a.b.example.org.", "other"),
        ("sub.example.org.", "third"),
        ("x.SUB.Example.ORG.", "third"),
        ("notexample.org.", "hello"),
    ],
)
def test_longest_zone_answers(zones, name, answer):
    assert text_of(both(zones, name)) == [answer]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("sub.example.org.", "other"),
        ("x.sub.example.org.", "other"),
        ("example.org.", "other"),
        ("test.", "hello"),
    ],
)
def test_ds_goes_to_the_parent(zones, name, answer):
    """The shortest zone below the root that matches, as CoreDNS decides it."""
    assert text_of(both(zones, name, "DS")) == [answer]


def test_a_block_without_plugins_refuses(zones):
    assert both(zones, "x.empty.test.").header.rcode == RCODE.REFUSED


def test_an_unknown_zone_is_refused():
    with serve("example.org {\ntext\n}", plugins=PLUGINS) as server:
        reply = both(server, "example.com.", edns=1232)
        assert reply.header.rcode == RCODE.REFUSED
        assert reply.q.qname == "example.com."
        assert both(server, "org.", "DS").header.rcode == RCODE.REFUSED


@pytest.mark.parametrize("qclass", [3, 255])
def test_other_classes_are_refused(zones, qclass):
    wire = bytearray(query("example.org."))
    wire[-1] = qclass
    assert zones.exchange(bytes(wire))[3] & 15 == RCODE.REFUSED


def test_other_classes_pass_where_a_handler_wants_them():
    class Any(Text):
        any_class = True

    with serve(". {\ntext\n}", plugins=with_handlers(text=Any)) as server:
        wire = bytearray(query("example.org."))
        wire[-1] = 3
        assert server.exchange(bytes(wire))[3] & 15 == RCODE.NOERROR


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("change", "rcode"),
    [
        ({2: 0x28}, RCODE.NOTIMP),  # UPDATE
        ({5: 2}, RCODE.FORMERR),  # two questions
        ({5: 0}, RCODE.FORMERR),
        ({7: 1}, RCODE.FORMERR),  # an answer that is not there
    ],
)
def test_malformed_queries_are_refused(zones, change, rcode, tcp):
    wire = bytearray(query("example.org."))
    for offset, value in change.items():
        wire[offset] = value
    reply = zones.exchange(bytes(wire), tcp=tcp)
    assert reply[3] & 15 == rcode
    assert reply[:2] == wire[:2]


def test_unknown_edns_version():
    with serve(". {\ntext\n}", plugins=PLUGINS) as server:
        record = dnslib.DNSRecord.question("example.org.")
        record.add_ar(dnslib.EDNS0(version=1))
        opt = server.exchange(bytes(record.pack()))[-11:]
        assert opt[:3] + opt[5:] == bytes.fromhex("00 0029 01 00 0000 0000"), "16: upper bits 1"


@pytest.mark.parametrize(
    "junk",
    [b"", b"\0", b"\0" * 11, query("example.org.")[:20], bytes(range(256)) * 8],
    ids=["nothing", "a byte", "no header", "cut off", "noise"],
)
def test_junk_does_not_stop_the_server(zones, junk):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(zones.address)
        for _ in range(100):
            client.send(junk)
        # Asked while the port is in use, so the late replies to the junk go to no other socket.
        assert text_of(zones.ask("example.org.")) == ["other"]


def test_replies_are_never_answered(zones):
    wire = bytearray(query("example.org."))
    wire[2] |= 0x80
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(zones.address)
        client.send(wire)
        question = query("example.org.")
        client.send(question)
        assert client.recv(4096)[:2] == question[:2]  # the first that comes back


def test_chains_that_wait():
    """At the same time: no query is answered before all are there."""
    with serve(". {\nmeeting\n}", plugins=PLUGINS) as server:
        answers = []
        threads = [
            threading.Thread(
                target=lambda i=i: answers.append(server.ask(f"meet.{i}.test.", tcp=i % 2))
            )
            for i in range(COMPANY)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == COMPANY


def test_tcp_replies_come_as_they_are_ready():
    with (
        serve(". {\novertaken\n}", plugins=PLUGINS) as server,
        socket.create_connection(server.address) as client,
    ):
        client.settimeout(20)
        slow, fast = query("slow.test."), query("fast.test.")
        client.sendall(b"".join(struct.pack("!H", len(wire)) + wire for wire in (slow, fast)))
        assert [read_frame(client)[:2], read_frame(client)[:2]] == [fast[:2], slow[:2]]


def test_tcp_answers_what_was_asked_before_the_end_of_the_stream():
    with (
        serve(". {\nslow\n}", plugins=PLUGINS) as server,
        socket.create_connection(server.address) as client,
    ):
        client.settimeout(30)
        wire = query("slow.test.")
        client.sendall(struct.pack("!H", len(wire)) + wire)
        client.shutdown(socket.SHUT_WR)
        assert read_frame(client)[:2] == wire[:2]
        assert client.recv(1) == b""


def test_tcp_queries_in_pieces_and_in_bulk(zones):
    wire = query("example.org.")
    framed = struct.pack("!H", len(wire)) + wire
    with socket.create_connection(zones.address) as client:
        client.settimeout(30)
        for piece in (framed[:1], framed[1:7], framed[7:] + framed * 299):
            client.sendall(piece)
        assert {read_frame(client)[:2] for _ in range(300)} == {wire[:2]}


@pytest.mark.parametrize("name", ["now.test.", "late.test."])
@pytest.mark.parametrize(
    ("directive", "words"),
    [
        ("broken", "ValueError: something in here broke"),
        ("nonsense", "returned str instead of a Reply"),
    ],
)
def test_a_failing_plugin_costs_its_query(name, directive, words, caplog):
    with serve(f". {{\n{directive}\n}}\ngood.test {{\ntext\n}}", plugins=PLUGINS) as server:
        server_log = __import__("logging").getLogger("corepy")
        server_log.addHandler(caplog.handler)
        try:
            assert both(server, name).header.rcode == RCODE.SERVFAIL
            assert text_of(server.ask("good.test.")) == ["hello"]
        finally:
            server_log.removeHandler(caplog.handler)
    assert words in caplog.text
    if directive == "broken":
        assert "corepy.plugin.broken" in {record.name for record in caplog.records}


def test_big_answers_are_cut_for_udp_and_whole_over_tcp():
    class Big(Handler):
        name = "big"

        async def serve_dns(self, request):
            lines = "\n".join(f'{request.name} 60 TXT "{i:03} {"x" * 100}"' for i in range(40))
            return request.reply(answer=dnslib.RR.fromZone(lines))

    with serve(". {\nbig\n}", plugins=with_handlers(big=Big)) as server:
        small, medium = server.ask("example.org."), server.ask("example.org.", edns=1232)
        assert small.header.tc
        assert medium.header.tc
        assert len(small.rr) < len(medium.rr) < 40
        whole = server.ask("example.org.", tcp=True)
        assert not whole.header.tc
        assert len(whole.rr) == 40
        assert len(server.ask("example.org.", edns=65000).rr) == 40


def test_asyncio_primitives_work_in_a_chain():
    class Timers(Text):
        name = "timers"

        async def serve_dns(self, request):
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(10)
            except TimeoutError:
                self.text = "timeout"
            try:
                await asyncio.wait_for(asyncio.sleep(10), 0.01)
            except TimeoutError:
                self.text += " wait_for"
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            assert asyncio.current_task() is not None
            return await super().serve_dns(request)

    with serve(". {\ntimers\n}", plugins=with_handlers(timers=Timers)) as server:
        assert text_of(server.ask("example.org.")) == ["timeout wait_for"]


def test_handlers_know_who_asked():
    class Who(Text):
        name = "who"

        async def serve_dns(self, request):
            assert names.from_text(request.name) == request.name_wire
            context = request.context
            addresses = f"{request.remote[0]} {request.local_address[0]}"
            self.text = f"{addresses} {context.protocol} {context.zone} {context.server}"
            return await super().serve_dns(request)

    with serve("example.org {\nwho\n}", plugins=with_handlers(who=Who)) as server:
        port = server.address[1]
        assert text_of(server.ask("a.example.org.")) == [
            f"127.0.0.1 127.0.0.1 udp example.org. dns://:{port}"
        ]
        reply = ask(("::1", port), "a.example.org.", tcp=True)
        assert text_of(reply) == [f"::1 ::1 tcp example.org. dns://:{port}"]


def test_a_connection_ends_after_its_number_of_queries():
    text = ". {\ntext\ntimeouts {\nread 3s\nmaxtcpqueries 3\n}\n}"
    wire = query("example.org.")
    with (
        serve(text, plugins=PLUGINS) as server,
        socket.create_connection(server.address) as client,
    ):
        client.settimeout(30)
        client.sendall((struct.pack("!H", len(wire)) + wire) * 5)
        assert [read_frame(client)[:2] for _ in range(3)] == [wire[:2]] * 3
        with pytest.raises(ConnectionError):
            read_frame(client)


def test_a_handler_can_ask_the_server_itself():
    """Another block answers; an alias that leads to itself comes to an end."""

    class Alias(Text):
        name = "alias"
        deepest = 0

        async def serve_dns(self, request):
            target = "x.other.test." if request.name.startswith("a.") else "b.alias.test."
            reply = await lookup(request, names.from_text(target))
            self.text = "too deep" if reply is None else str(reply.record.rr[0].rdata).strip('"')
            return await super().serve_dns(request)

    text = "alias.test {\nalias\n}\nother.test {\nother\n}"
    with serve(text, plugins={**PLUGINS, **with_handlers(alias=Alias)}) as server:
        assert text_of(server.ask("a.alias.test.")) == ["other"]
        assert text_of(server.ask("b.alias.test.")) == ["too deep"]


def test_a_handler_can_ask_the_server_itself_for_another_type():
    """All else is that of the query: EDNS, the flags, the letters of the name, the client."""
    seen, found = [], []

    class Types(Text):
        name = "types"

        async def serve_dns(self, request):
            edns = (request.edns.udp_size, request.do, request.edns.options)
            seen.append((request.qname, request.rd, request.cd, edns, request.remote))
            if request.type == "TXT":
                name = request.question[:-4]
                found.extend([await lookup(request, name, 1), await lookup(request, name, 28)])
            return request.error(3)

    with serve("test {\ntypes\n}", plugins=with_handlers(types=Types)) as server:
        reply = server.ask("www.Types.test.", "TXT", do=True, edns=1400, cd=1, rd=0)
        assert reply.header.rcode == 3
    assert [(it.rcode, it.wire[-4:]) for it in found] == [(3, b"\0\1\0\1"), (3, b"\0\x1c\0\1")]
    first, *rest = seen
    assert first[:4] == ("www.Types.test.", False, True, (1400, True, b""))
    assert rest == [first, first]


def test_a_handler_that_asks_for_one_type_and_then_the_other_comes_to_an_end():
    found = []

    class Circle(Text):
        name = "circle"

        async def serve_dns(self, request):
            found.append(await lookup(request, request.name_wire, 29 - request.qtype))
            return request.error(0)

    with serve("test {\ncircle\n}", plugins=with_handlers(circle=Circle)) as server:
        assert server.ask("www.test.").header.rcode == 0
    assert (len(found), found[0]) == (9, None)


class Repeats(Text):
    """Asks another block, and lets its reply be repeated as long as the one of that block."""

    name = "repeats"
    cacheability = Cacheability.SAFE

    async def serve_dns(self, request):
        if request.name != "alias.test.":
            return await self.next.serve_dns(request)
        found = await lookup(request, names.from_text("guarded.test."))
        reply = request.error(found.rcode)
        reply.deadline, reply.since = found.deadline, found.since
        return reply


class Keeps(Text):
    name = "keeps"
    cacheability = Cacheability.SETS_DEADLINE

    async def serve_dns(self, request):
        reply = request.error(3)
        reply.deadline, reply.since = request.received + 60, request.received
        return reply


class Gate(Text):
    """Refuses all but the first query, as if it were from another client."""

    name = "gate"
    asked = 0

    async def serve_dns(self, request):
        self.asked += 1
        return request.error(5) if self.asked > 1 else await self.next.serve_dns(request)


@pytest.mark.parametrize(("gate", "replies"), [("", [3, 3, 3]), ("gate", [3, 5, 5])])
def test_a_look_up_in_a_block_without_the_packet_cache_has_no_deadline(gate, replies):
    """Otherwise the packet cache would repeat what a handler of the other block decides anew."""
    plugins = with_handlers(repeats=Repeats, keeps=Keeps, gate=Gate)
    order = "repeats before log\ngate before cache\nkeeps after cache"
    text = f"test {{\nrepeats\nkeeps\n}}\nguarded.test {{\n{gate}\nkeeps\n}}"
    with serve(text, plugins=plugins, order=order) as server:
        assert [server.ask("alias.test.").header.rcode for _ in range(3)] == replies


def test_a_client_that_leaves_is_no_failure_of_a_plugin(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    before = PANICS.labels().value
    with serve(". {\nslow\n}", plugins=PLUGINS) as server:
        (endpoint,) = server.server.endpoints.values()
        wire = query("slow.test.")
        with socket.create_connection(server.address) as client:
            client.sendall(struct.pack("!H", len(wire)) + wire)
            wait_until(lambda: server.call(endpoint.waiting))
        wait_until(lambda: not server.call(endpoint.waiting))
    assert PANICS.labels().value == before
    assert "CancelledError" not in caplog.text
