"""The library of upstream behaviours, without corepy between upstream and client."""

import asyncio

import pytest

from corepy.testing import Fleet, Upstream, exchange
from corepy.testing.behaviours import BEHAVIOURS, WITHOUT_TCP, Asked, Elsewhere, Pause, Raw
from corepy.testing.client_kinds import CLIENTS
from corepy.testing.wire_message import DO, Message, Opt, name, parse, record, show

NAME = name("www.example.")
LINES = [
    "@ 60 A 192.0.2.1", "@ 60 AAAA 2001:db8::1", "@ 60 CNAME alias", "ns.example. 0 NS @",
    "example. 60 SOA ns.example. admin.example. 10", "@ 60 TXT fine", "example. 60 DNAME other.",
    "@ 60 TYPE65280 \\# 00ff", "@ 60 CLASS3 A 192.0.2.1", "@ 60 TYPE1 \\# ",
]  # fmt: skip


def question(**parts):
    return Message(7, 0x100, question=(NAME, 1, 1), **parts).pack()


@pytest.mark.parametrize("compress", [False, True])
def test_messages_survive_packing(compress):
    message = Message(
        7,
        0x8180,
        rcode=23,
        question=(NAME, 1, 1),
        answer=[record(line, NAME) for line in LINES],
        authority=[record(LINES[4], NAME)],
        additional=[record(LINES[0], NAME)],
        opt=Opt(4096, DO, 0, ((10, b"cookie"), (3, b""))),
    )
    parsed = parse(message.pack(compress=compress))
    assert parsed == message
    expected = [line.replace("TYPE1 ", "A ") for line in LINES]
    assert [show(item, NAME) for item in parsed.answer] == expected


GOOD = Asked(question(opt=Opt())).good()


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        (GOOD + b"\0", "1 bytes after the last record"),
        (GOOD[:-1], "cut off"),
        (GOOD[:11], "cut off"),
        (GOOD[:5] + b"\2" + GOOD[6:30] + GOOD[12:], "two questions"),
        (GOOD.replace(b"\xc0\x0c", b"\xc0\xff"), "does not point back"),
        (GOOD.replace(b"\xc0\x0c", b"\xc0\x00"), "does not point back"),
        (GOOD[:11] + b"\2" + GOOD[12:] + GOOD[-11:], "two OPT"),
    ],
)
def test_malformed_messages_are_refused(wire, problem):
    with pytest.raises(ValueError, match=problem):
        parse(wire)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_every_behaviour_acts_on_every_client(behaviour):
    """It has one sentence that describes it, and yields acts for any query, over any transport."""
    script = BEHAVIOURS[behaviour]
    assert script.__doc__.strip().endswith(".")
    for kind in CLIENTS.values():
        for proto in "udp", "tcp":
            for before in range(3):
                acts = list(script(Asked(kind.query(NAME).pack(), proto, before)))
                assert proto == "tcp" or not any(isinstance(act, Raw) for act in acts)


def test_behaviours_differ():
    """No two behave alike towards everybody."""
    seen: dict[str, str] = {}
    for behaviour, script in BEHAVIOURS.items():
        acts = [behaviour in WITHOUT_TCP]
        for wire in (
            question(),
            Message(7, 0x100, question=(NAME, 16, 1)).pack(),
            question(opt=Opt()),
            question(opt=Opt(options=((8, bytes(7)), (10, b"c" * 8), (65001, b"")))),
            question(opt=Opt(options=((10, b"c" * 8 + b"S" * 16),))),
        ):
            for proto in "udp", "tcp":
                acts += [list(script(Asked(wire, proto, before))) for before in range(3)]
        assert seen.setdefault(repr(acts), behaviour) == behaviour


def test_upstream_takes_names_and_changes_its_mind():
    with Upstream("truncates") as upstream:
        assert parse(exchange(upstream.address, question())).flags & 0x200
        assert len(parse(exchange(upstream.address, question(), tcp=True)).answer) == 40
        upstream.behave("servfail-then-good")
        with pytest.raises(KeyError):
            upstream.behave("servfail-then-god")
        upstream.behave({"www.example. A": ["www.example. 60 IN A 192.0.2.9"]})
        reply = parse(exchange(upstream.address, question()))
        assert [show(item, NAME) for item in reply.answer] == ["@ 60 A 192.0.2.9"]


def test_upstream_loses_resets_and_closes():
    with Upstream("drops-first") as upstream:
        with pytest.raises(TimeoutError):
            exchange(upstream.address, question(), timeout=0.05)
        assert parse(exchange(upstream.address, question())).answer
        upstream.behave("tcp-is-reset")
        with pytest.raises(ConnectionResetError):
            exchange(upstream.address, question(), tcp=True)
        upstream.behave("truncates-and-tcp-ends-in-the-answer")
        with pytest.raises(ConnectionError, match="closed"):
            exchange(upstream.address, question(), tcp=True)
    with Upstream("no-tcp") as upstream:
        assert parse(exchange(upstream.address, question())).answer
        with pytest.raises(ConnectionRefusedError):
            exchange(upstream.address, question(), tcp=True)


def test_upstream_answers_from_another_port():
    with Upstream("from-another-port") as upstream, pytest.raises(TimeoutError):
        exchange(upstream.address, question(), timeout=0.05)


async def ask_all_of(fleet):
    first, second, third = fleet.add("good"), fleet.add("nxdomain"), fleet.add("no-tcp")
    rcodes = {}
    for place in first, second, third:
        for client in "EDNS", "pipelined":
            host, port = place.to.split(":")
            try:
                replies = await CLIENTS[client].ask((host, int(port)), NAME)
                rcodes[place, client] = [parse(reply).rcode for reply in replies]
            except ConnectionRefusedError:
                rcodes[place, client] = []
    assert list(rcodes.values()) == [[0], [0, 0, 0], [3], [3, 3, 3], [0], []]
    assert [query.proto for query in first.seen] == ["udp", "tcp", "tcp", "tcp"]
    assert all(query.message.opt is not None and query.name == NAME for query in first.seen)


def test_a_fleet_has_an_address_for_each():
    with Fleet() as fleet:
        asyncio.run(ask_all_of(fleet))


def test_acts_are_told_apart():
    late = list(BEHAVIOURS["late"](Asked(question())))
    assert late == [Pause(0.6), Asked(question()).good()]
    assert isinstance(next(iter(BEHAVIOURS["from-another-port"](Asked(question())))), Elsewhere)
