"""What becomes of an upstream's reply: which end the exchange, and what of them clients get."""

import struct
from functools import partial

import dnslib
import pytest

from corepy.dns import Reply
from corepy.dns.edns import option, parse_options
from corepy.testing import Upstream
from corepy.testing import serve as serve_with_timers

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

COOKIE, KEEPALIVE, PADDING, NSID, EDE, SUBNET = 10, 11, 12, 3, 15, 8


def corefile(*upstreams, options=""):
    return f".:0 {{\nforward . {' '.join(up.to for up in upstreams)} {{\n{options}\n}}\n}}"


def good(query, _proto):
    reply = query.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A 192.0.2.7"))
    return reply


def with_rcode(number):
    """Reply with this code; one above 15 needs OPT, as on the wire."""

    def behave(query, _proto):
        reply = query.reply(ra=1, aa=0)
        reply.header.rcode = number & 15
        if number > 15:
            reply.add_ar(dnslib.EDNS0(ext_rcode=number >> 4))
        return reply

    return behave


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("names", "rcode", "fails_over"),
    [
        ("NXDOMAIN", 3, True),
        ("nxdomain SERVFAIL", 3, True),
        ("SERVFAIL", 2, True),
        ("SERVFAIL", 3, False),
        ("REFUSED", 5, True),
        ("YXDOMAIN", 6, True),
        ("NOTAUTH", 9, True),
        ("FORMERR", 1, True),
        ("NOTIMP", 4, True),
        ("BADMODE", 19, True),  # the upper bits are in OPT
        ("NXDOMAIN", 19, False),  # its lower bits alone are NXDOMAIN
    ],
)
def test_failover_by_rcode(names, rcode, fails_over, tcp):
    options = f"policy sequential\nmax_fails 0\nfailover {names}"
    with (
        Upstream(with_rcode(rcode)) as one,
        Upstream(good) as two,
        serve(corefile(one, two, options=options)) as server,
    ):
        reply = server.ask("example.org", tcp=tcp, edns=1232)
        assert bool(reply.rr) is fails_over
        assert len(two.queries) == fails_over


def test_the_last_upstreams_nxdomain_counts():
    options = "policy sequential\nmax_fails 0\nfailover NXDOMAIN"
    with (
        Upstream(with_rcode(3)) as one,
        Upstream(with_rcode(3)) as two,
        serve(corefile(one, two, options=options)) as server,
    ):
        assert server.ask("example.org").header.rcode == 3
        assert (len(one.queries), len(two.queries)) == (1, 1)


def with_options(options):
    """Answer with these EDNS options."""

    def behave(query, proto):
        wire = bytes(good(query, proto).pack())
        opt = struct.pack("!BHHIH", 0, 41, 1232, 0, len(options)) + options
        return wire[:11] + b"\1" + wire[12:] + opt

    return behave


def ask_with(server, options, tcp=False):
    """Return the codes of the EDNS options that a client gets who sends `options`."""
    query = dnslib.DNSRecord.question("example.org").pack()
    opt = struct.pack("!BHHIH", 0, 41, 1232, 0, len(options)) + options
    wire = server.exchange(query[:11] + b"\1" + query[12:] + opt, tcp=tcp)
    return [code for code, _ in parse_options(Reply.from_wire(wire).options)]


ECS = b"\0\1\x18\0\xc0\0\2"


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("asked", "sent", "expected"),
    [
        (b"", option(COOKIE, bytes(24)), []),
        (option(COOKIE, bytes(8)), option(COOKIE, bytes(24)), []),
        (b"", option(KEEPALIVE, b"\0\x64"), []),
        (option(PADDING), option(PADDING, bytes(100)), [PADDING]),  # the client's own, echoed
        (b"", option(NSID, b"a"), []),
        (option(NSID), option(NSID, b"a"), []),
        (b"", option(EDE, b"\0\3"), [EDE]),
        (b"", option(EDE, b"\0\3") + option(EDE, b"\0\7bad"), [EDE, EDE]),
        (b"", option(COOKIE, bytes(24)) + option(EDE, b"\0\3") + option(NSID, b"a"), [EDE]),
        (b"", option(SUBNET, ECS), []),  # RFC 7871 section 7.2.2: not unless it was asked
        (option(SUBNET, ECS), option(SUBNET, ECS), [SUBNET]),
        (b"", option(65001, b"x"), []),
        (option(65001, b"x"), option(65001, b"y") + option(65002), [65001]),
        (b"", option(18, b"\0"), []),  # report channel, RFC 9567
    ],
)
def test_options_of_upstreams_are_for_us_unless_the_client_asked(asked, sent, expected, tcp):
    with (
        Upstream(with_options(sent)) as upstream,
        serve(corefile(upstream, options="max_fails 0")) as server,
    ):
        assert ask_with(server, asked, tcp) == expected


@pytest.mark.parametrize("tcp", [False, True])
def test_the_idle_timeout_of_an_upstream_is_not_that_of_the_client(tcp):
    options = option(KEEPALIVE, b"\0\x07")
    with (
        Upstream(with_options(options)) as upstream,
        serve(corefile(upstream, options="max_fails 0")) as server,
    ):
        query = dnslib.DNSRecord.question("example.org").pack()
        opt = struct.pack("!BHHIH", 0, 41, 1232, 0, 4) + option(KEEPALIVE)
        wire = server.exchange(bytes(query[:11] + b"\1" + query[12:] + opt), tcp=tcp)
        ours = option(KEEPALIVE, b"\0\x64")  # ten seconds
        assert Reply.from_wire(wire).options == (ours if tcp else b"")


def test_a_nameserver_identifier_is_asked_of_us_not_of_the_upstream():
    seen = []

    def behave(query, proto):
        seen.extend(query.ar[0].rdata)
        return good(query, proto)

    with (
        Upstream(behave) as upstream,
        serve(corefile(upstream, options="max_fails 0")) as server,
    ):
        asked = option(NSID) + option(PADDING, b"\0") + option(COOKIE, bytes(8))
        ask_with(server, asked + option(65001, b"x"))
    assert [each.code for each in seen] == [65001, COOKIE]
    assert bytes(seen[1].data) != bytes(8)  # it is ours


def bare(rcode, when="always"):
    """Reply with nothing but a header; `when` "edns": to queries with EDNS only."""

    def behave(query, proto):
        if when == "edns" and not query.ar:
            return good(query, proto)
        return struct.pack("!HHQ", query.header.id, 0x8180 | rcode, 0)

    return behave


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("rcode", "expected"),
    [
        (0, 2),  # nothing of use
        (1, 1),
        (2, 2),
        (3, 2),  # not to be believed without a question and SOA
        (4, 4),
        (5, 5),
    ],
)
def test_a_bare_header_ends_the_matter_soon(rcode, expected, transport, caplog):
    options = "max_fails 0\nread_timeout 30s"  # that would be the time for one attempt
    with (
        Upstream(bare(rcode)) as upstream,
        serve(corefile(upstream, options=options).replace("forward", "errors\nforward")) as server,
    ):
        reply = server.ask("example.org", tcp=transport == "tcp", edns=1232)
        assert reply.header.rcode == expected
        assert len(upstream.queries) <= 4
    if rcode in (0, 3):
        name = dnslib.RCODE[rcode]
        assert f"answered {name} in a bare header" in caplog.text
        assert b"no upstream sent a usable answer" in reply.ar[0].rdata[0].data


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("rcode", [0, 1, 2, 3, 4, 5])
def test_a_bare_header_for_a_query_with_edns_is_asked_again_without(rcode, transport):
    with (
        Upstream(bare(rcode, "edns")) as upstream,
        serve(corefile(upstream, options="max_fails 0\nread_timeout 30s")) as server,
    ):
        assert server.ask("example.org", tcp=transport == "tcp").rr
        assert len(upstream.queries) <= 3  # over UDP perhaps without a cookie first


@pytest.mark.parametrize("rcode", [0, 2, 3, 5])
def test_a_bare_header_leads_to_the_next_upstream(rcode):
    options = "policy sequential\nmax_fails 0\nread_timeout 30s"
    with (
        Upstream(bare(rcode)) as one,
        Upstream(good) as two,
        serve(corefile(one, two, options=options)) as server,
    ):
        assert server.ask("example.org").rr


def test_a_bare_header_over_udp_is_doubted_where_tcp_answers():
    def behave(query, proto):
        return good(query, proto) if proto == "tcp" else bare(5)(query, proto)

    with (
        Upstream(behave) as upstream,
        serve(corefile(upstream, options="max_fails 0\nread_timeout 30s")) as server,
    ):
        assert server.ask("example.org").rr


def test_a_bare_header_over_udp_is_not_doubted_for_long():
    """The same upstream's TCP is silent: what was kept goes to the client."""

    def behave(query, proto):
        return None if proto == "tcp" else bare(5)(query, proto)

    with (
        Upstream(behave) as upstream,
        serve_with_timers(corefile(upstream, options="max_fails 0\nread_timeout 30s")) as server,
    ):
        assert server.ask("example.org").header.rcode == 5
