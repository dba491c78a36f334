"""The zone that is transferred (plugin/erratic/xfr.go), through dig and through a raw client."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Request
from corepy.dns.names import from_text
from corepy.plugin.protocols import SearchPathSource, TransferSource
from corepy.testing import make_request, run_chain, serve
from corepy_erratic.erratic import Effects, Erratic

BLOCK = ".:0 {{\nbind 127.0.0.1\nerratic {{\n{}\n}}\n}}\n"
SOA = "{0} 0 IN SOA sns.dns.icann.org. noc.dns.icann.org. 2018050825 7200 3600 1209600 3600"
ZONE = [
    SOA,
    "{0} 0 IN NS b.{0}",
    "{0} 0 IN NS a.{0}",
    "a.{0} 0 IN AAAA 2001:bd8::53",
    "b.{0} 0 IN AAAA 2001:500::54",
]
WHOLE = [*ZONE, SOA]


def lines(name, records):
    return [line.format(name) for line in records]


def dig(address, *arguments):
    """What dig prints, without comments, one space between fields, and its exit status."""
    host, port = address
    command = ["dig", f"@{host}", "-p", str(port), "+tries=1", "+timeout=30", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    printed = [" ".join(it.split()) for it in done.stdout.splitlines()]
    return [it for it in printed if it and not it.startswith(";")], done


@pytest.mark.parametrize("edns", ["+noedns", "+edns=0", "+dnssec"])
@pytest.mark.parametrize("keep", ["+keepopen", "+nokeepopen"])
def test_dig_transfers_the_zone(edns, keep):
    with serve(BLOCK.format("drop 0")) as server:
        records, done = dig(server.address, "example.org", "AXFR", edns, keep)
        assert records == lines("example.org.", WHOLE)
        assert "XFR size: 6 records (messages 1, bytes" in done.stdout
        assert done.returncode == 0


def test_dig_transfers_a_zone_with_capitals():
    with serve(BLOCK.format("drop 0")) as server:
        records, _ = dig(server.address, "eXample.oRg", "AXFR")
        assert records == lines("eXample.oRg.", WHOLE)


def test_dig_waits_for_the_end_of_a_truncated_transfer():
    """The last SOA record is missing; the connection is closed when it was idle for a second."""
    text = BLOCK.format("truncate 1").replace("erratic", "timeouts {\nidle 1s\n}\nerratic", 1)
    with serve(text) as server:
        _, done = dig(server.address, "example.org", "AXFR")
        assert "Transfer failed" in done.stdout or "end of file" in done.stdout


def test_effects():
    """The delay comes before the transfer; dropping has precedence, as in CoreDNS."""
    with serve(BLOCK.format("drop 2\ndelay 1 1ms\ntruncate 3")) as server:
        assert server.drops("example.org.", "AXFR", tcp=True)
        assert len(server.ask("example.org.", "AXFR", tcp=True).rr) == 6
        assert server.drops("example.org.", "AXFR", tcp=True)
        reply = server.ask("example.org.", "AXFR", tcp=True)
        assert (len(reply.rr), reply.header.tc, reply.header.aa) == (5, 0, 1)


def test_over_udp_there_is_one_message():
    with serve(BLOCK.format("drop 0")) as server:
        reply = server.ask("example.org.", "AXFR")
        assert (reply.header.rcode, reply.header.aa, len(reply.rr)) == (0, 1, 6)


def test_ixfr_is_servfail():
    with serve(BLOCK.format("drop 0")) as server:
        reply = server.ask("example.org.", "IXFR", tcp=True)
        assert (reply.header.rcode, reply.rr) == (2, [])


def test_the_root():
    with serve(BLOCK.format("drop 0")) as server:
        records, _ = dig(server.address, ".", "AXFR")
        assert records == [line.replace("..", ".") for line in lines(".", WHOLE)]


labels = st.binary(min_size=1, max_size=63).map(lambda it: bytes((len(it),)) + it)


@settings(deadline=None)
@given(st.lists(labels, max_size=8).map(lambda it: b"".join(it) + b"\0"))
def test_any_name(name):
    """A name with room for another label is a zone, any other one gets SERVFAIL."""
    wire = bytes(4) + b"\0\1" + bytes(6) + name + b"\0\xfc\0\1"
    if len(name) > 255:
        return
    request = Request.from_wire(wire)
    request.context = make_request("a", protocol="tcp").context
    reply = run_chain(request, Erratic(Effects()))
    if len(name) > 253:
        assert (reply.rcode, reply.series) == (2, None)
        return
    (message,) = reply.series.take()
    assert message.ancount == 6
    assert len(message.ttl_offsets) == 6


def test_the_search_path():
    """As plugin/erratic/autopath.go; it is no source for the plugin *transfer*."""
    handler = Erratic(Effects())
    assert isinstance(handler, SearchPathSource)
    assert not isinstance(handler, TransferSource)
    names = [from_text("a.example.org."), from_text("b.example.org."), b"\0"]
    assert [*handler.search_path(make_request("www"))] == names
