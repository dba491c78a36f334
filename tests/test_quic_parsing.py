"""Arbitrary bytes for the parts of QUIC that read them before the library does."""

import socket

from hypothesis import given
from hypothesis import strategies as st

from corepy.dns import FormError, Request
from corepy.dns.replayable import is_replayable
from corepy.net.quic.datagram_relay import Datagram, _datagrams, _messages
from corepy.net.quic.handshakes import _address
from corepy.net.quic.identifiers import destination
from corepy.server.listen.dns_over_quic import has_keepalive
from corepy.testing import query

ADDRESSES = st.binary(min_size=16, max_size=28)
DATAGRAMS = st.builds(
    Datagram, st.binary(max_size=1500), ADDRESSES, st.none() | ADDRESSES, st.none() | ADDRESSES
)


@given(st.lists(DATAGRAMS, min_size=1, max_size=80))
def test_datagrams_survive_the_relay(datagrams):
    found = [it for message in _messages(datagrams) for it in _datagrams(message)]
    assert found == datagrams


@given(st.binary(max_size=2000))
def test_destinations_are_part_of_the_datagram(data):
    assert destination(data) in data


@given(st.binary(max_size=80), st.booleans())
def test_only_queries_are_replayable(tail, is_framed):
    message = b"\0\0\1\0\0\1" + bytes(6) + tail if is_framed else tail
    if is_replayable(message):
        try:
            request = Request.from_wire(message)
        except FormError:
            return
        assert request.opcode == 0
        assert request.qtype not in (251, 252)


def test_transfers_updates_and_notifications_are_not_replayable():
    assert is_replayable(query("example.org.", "A"))
    assert not is_replayable(query("example.org.", "AXFR"))
    assert not is_replayable(query("example.org.", "IXFR"))
    assert not is_replayable(query("example.org.", "SOA", opcode=4))
    assert not is_replayable(query("example.org.", "SOA", opcode=5))


@given(st.binary(max_size=100))
def test_a_damaged_query_has_no_keepalive(data):
    assert not has_keepalive(b"\0\0\1\0\0\1\0\0\0\0\0\1" + data) or b"\0\x0b" in data


def test_addresses_are_read():
    ipv4 = b"\2\0" + (853).to_bytes(2, "big") + socket.inet_aton("192.0.2.1") + bytes(8)
    ipv6 = b"\x0a\0\3\x55" + bytes(4) + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(4)
    assert _address(ipv4) == ("192.0.2.1", 853)
    assert _address(ipv6) == ("2001:db8::1", 853)
    assert _address(("192.0.2.1", 853)) == ("192.0.2.1", 853)
