"""Response policy zones from a primary server: Knot DNS, and servers that make mistakes."""

import asyncio
import socket
from typing import Any

import dnslib
import pytest

from corepy.dns import constants as c
from corepy.dns.message import query
from corepy.dns.names import from_text
from corepy.dns.presentation import read_record
from corepy.plugin.server_options import ServerAddress
from corepy.testing import Upstream, free_port, knot, serve
from corepy.testing.behaviours import End, Raw
from corepy.testing.failing_once import FailsOnce
from corepy_blocklist import transfer_client, transferring
from corepy_blocklist.handler import Blocklist
from corepy_blocklist.transfer_client import (
    Timers,
    TransferError,
    fetch_zone,
    read_wire_records,
)
from corepy_blocklist.transferring import TransferredZone
from corepy_blocklist.zone_text import ZoneError

ZONE = from_text("rpz.example.")
RULES = [
    "bad.rpz.example. 60 IN CNAME .",
    "*.bad.rpz.example. 60 IN CNAME *.",
    "data.rpz.example. 60 IN A 192.0.2.7",
]


def soa(serial=1, refresh=3600, retry=900):
    return f"rpz.example. 60 IN SOA a. b. {serial} {refresh} {retry} 86400 60"


def message(asked, *records, rcode=0, bits=0x84, ident=None):
    """A message with these records, in reply to a query."""
    body = b"".join(read_record(text, 60).wire for text in records)
    header = asked[:2] if ident is None else ident
    flags = bytes((bits, rcode))
    counts = (1).to_bytes(2, "big") + len(records).to_bytes(2, "big") + bytes(4)
    question = query(ZONE, c.TYPE_AXFR)[12:]
    return header + flags + counts + question + body


def primary_of(upstream):
    return ServerAddress(*upstream.address)


def server_of(*portions, serial=1):
    """A primary server whose transfer has these portions of records, each a message."""

    def answer(asked, _):
        wire = bytes(asked.pack())
        if asked.q.qtype == c.TYPE_SOA:
            return message(wire, soa(serial))
        return [message(wire, *records) for records in portions]

    return Upstream(answer)


@pytest.mark.parametrize(
    "portions",
    [
        [[soa(), *RULES, soa()]],
        [[soa()], RULES[:1], RULES[1:], [soa()]],
        [[soa(), soa()]],
    ],
)
def test_a_transfer_has_one_or_several_messages(portions):
    with server_of(*portions) as upstream:
        timers, content = fetch_zone(ZONE, primary_of(upstream), None)
    assert timers == Timers(1, 3600, 900)
    assert content is not None
    owners = [record.owner for _, record in read_wire_records(content)]
    expected = [line.split()[0] for portion in portions for line in portion][:-1]
    assert owners == [from_text(name) for name in expected]


@pytest.mark.parametrize(("serial", "is_transferred"), [(1, True), (2, False), (3, False)])
def test_only_a_newer_zone_is_transferred(serial, is_transferred):
    with server_of([soa(2), *RULES, soa(2)], serial=2) as upstream:
        timers, content = fetch_zone(ZONE, primary_of(upstream), serial)
    assert (timers.serial, content is not None) == (2, is_transferred)
    assert [text.split()[-1] for text, _ in upstream.queries] == (
        ["SOA", "AXFR"] if is_transferred else ["SOA"]
    )


@pytest.mark.parametrize(
    ("acts", "problem"),
    [
        (lambda it: [message(it, rcode=c.REFUSED)], "answers REFUSED for rpz.example."),
        (lambda it: [message(it)], "has no records"),
        (lambda it: [message(it, *RULES)], "does not begin with the SOA record"),
        (lambda it: [message(it, soa(), *RULES), End.CLOSE], "closes the connection before"),
        (lambda it: [message(it, soa(1), *RULES, soa(2))], "has changed during the transfer"),
        (lambda it: [message(it, soa(), ident=b"xx")], "not a reply to the query"),
        (lambda it: [message(it, soa(), bits=0x04)], "not a reply to the query"),
        (lambda it: [message(it, soa(), bits=0x86)], "answers NOERROR"),
        (lambda it: [message(it, soa())[:-3]], "malformed"),
        (lambda it: [Raw(b"\0\5abc"), End.CLOSE], "closes the connection before"),
        (lambda it: [b"abc"], "not a reply to the query"),
        (lambda it: [End.CLOSE], "closes the connection before"),
    ],
    ids=[
        "refused", "empty", "no-SOA", "cut", "changed", "other-ID", "query", "TC", "malformed",
        "half", "short", "closed",
    ],
)  # fmt: skip
def test_mistakes_of_a_primary_server(acts, problem):
    with (
        Upstream(lambda asked, _: acts(bytes(asked.pack()))) as upstream,
        pytest.raises(TransferError, match=problem),
    ):
        fetch_zone(ZONE, primary_of(upstream), None)


@pytest.mark.parametrize("limit", ["MESSAGE_TIMEOUT", "LONGEST"])
def test_a_server_that_sends_slowly_is_cut_off(monkeypatch, limit):
    monkeypatch.setattr(transfer_client, limit, 0.0)
    with (
        server_of([soa(), *RULES, soa()]) as upstream,
        pytest.raises(TransferError, match="too slowly"),
    ):
        fetch_zone(ZONE, primary_of(upstream), None)


def test_an_soa_reply_without_an_soa_record():
    with (
        Upstream(lambda asked, _: message(bytes(asked.pack()), RULES[2])) as upstream,
        pytest.raises(TransferError, match="no SOA record"),
    ):
        fetch_zone(ZONE, primary_of(upstream), 1)


def test_a_content_that_is_cut_off():
    with pytest.raises(ZoneError, match="line 2: the record is cut off"):
        list(read_wire_records(read_record(RULES[0], 60).wire + b"\3bad"))


def test_the_next_primary_server_is_asked(caplog):
    async def run(*primaries):
        zone = TransferredZone("rpz.example.", primaries)
        return await zone.refresh(), zone

    closed = ServerAddress("127.0.0.1", free_port())
    with server_of([soa(), *RULES, soa()]) as upstream:
        is_new, zone = asyncio.run(run(closed, primary_of(upstream)))
        assert is_new
        assert 3600 * 0.9 <= zone.wait() <= 3600
        assert asyncio.run(zone.refresh()) is False
    for _ in range(2):
        assert asyncio.run(zone.refresh()) is False
    assert 900 * 0.9 <= zone.wait() <= 900
    (warning,) = [it.getMessage() for it in caplog.records if "cannot be" in it.getMessage()]
    assert "rpz.example. cannot be transferred; the rules stay in use: 127.0.0.1: " in warning
    assert zone.files()


def test_an_unreachable_primary_server_delays_no_start(monkeypatch, caplog):
    monkeypatch.setattr(transferring, "START_TIMEOUT", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        zone = TransferredZone("rpz.example.", [ServerAddress(*silent.getsockname())])
        asyncio.run(zone.start())
    assert zone.files() == []
    assert "no transfer within 0.01 s" in caplog.text


def corefile(primary, upstream):
    return f""". {{
        bind 127.0.0.1
        blocklist {{
            transfer rpz.example {primary[0]}:{primary[1]}
        }}
        forward . {upstream.to}
    }}"""


def answers(reply):
    return reply.header.rcode, [str(rr.rdata) for rr in reply.rr]


def test_a_zone_of_knot():
    zone = "\n".join((soa(), "rpz.example. 60 NS a.", *RULES, ""))
    fine = {"fine. A": ["fine. 60 IN A 192.0.2.1"]}
    with knot(zone, "rpz.example.") as primary, Upstream(fine) as upstream:
        text = corefile(primary, upstream)
        with serve(text) as server:
            assert answers(server.ask("bad")) == (3, [])
            assert answers(server.ask("a.bad")) == (0, [])
            assert answers(server.ask("data")) == (0, ["192.0.2.7"])
            assert answers(server.ask("fine")) == (0, ["192.0.2.1"])
            (handler,) = server.plugins(Blocklist)
            (file,) = handler.lists.table.files
            assert (file["path"], file["serial"]) == ("rpz.example. from 127.0.0.1", 1)


def test_a_new_version_is_in_effect_and_a_reload_keeps_it(monkeypatch):
    monkeypatch.setattr(transferring, "SHORTEST_WAIT", 0.05)
    versions = [(1, RULES), (2, ["other.rpz.example. 60 IN CNAME ."])]

    def answer(asked, _):
        serial, rules = versions[0]
        records = [soa(serial, 0, 0)]
        if asked.q.qtype == c.TYPE_AXFR:
            records += [*rules, soa(serial, 0, 0)]
        return message(bytes(asked.pack()), *records)

    plain = {"bad. A": ["bad. 60 IN A 192.0.2.1"], "other. A": ["other. 60 IN A 192.0.2.1"]}
    with Upstream(answer) as primary, Upstream(plain) as upstream:
        text = corefile(primary.address, upstream)
        with serve(text) as server:
            assert answers(server.ask("bad"))[0] == 3
            del versions[0]
            while answers(server.ask("other"))[0] != 3:
                pass
            assert answers(server.ask("bad")) == (0, ["192.0.2.1"])
            transfers = sum("AXFR" in name for name, _ in primary.queries)
            primary.behave(lambda asked, _: asked.reply(ra=0))
            server.reload(text)
            assert answers(server.ask("other"))[0] == 3
            assert transfers == 2


def test_dnslib_is_a_second_reader_of_the_content():
    with server_of([soa(), *RULES, soa()]) as upstream:
        _, content = fetch_zone(ZONE, primary_of(upstream), None)
    assert content is not None
    buffer, texts = dnslib.DNSBuffer(content), []
    while buffer.remaining():
        texts.append(dnslib.RR.parse(buffer))
    assert texts == [rr for line in (soa(), *RULES) for rr in dnslib.RR.fromZone(line)]


def test_a_refresh_that_fails_is_not_the_last_one(monkeypatch):
    async def main():
        refresh: Any = FailsOnce()
        zone = TransferredZone("rpz.example.", [ServerAddress("127.0.0.1", 9)])
        monkeypatch.setattr(zone, "refresh", refresh)
        monkeypatch.setattr(zone, "wait", lambda: 0)
        zone.refresh_with(refresh)
        await refresh.repeated()
        zone.stop()

    asyncio.run(main())
