"""Arbitrary bytes for the parts of QUIC that read them before the library does."""

import socket

import pytest
from aioquic.buffer import Buffer
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns import FormError, Request
from corepy.dns.replayable import is_replayable
from corepy.net.quic.datagram_relay import Datagram, _datagrams, _messages
from corepy.net.quic.identifiers import destination, token_in
from corepy.net.quic.retry import RetryTokens, address
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


def raw(host, port):
    if ":" not in host:
        return b"\2\0" + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)
    packed = socket.inet_pton(socket.AF_INET6, host)
    return b"\x0a\0" + port.to_bytes(2, "big") + bytes(4) + packed + bytes(4)


PEERS = [
    raw("192.0.2.1", 853),
    raw("192.0.2.1", 854),
    raw("192.0.2.2", 853),
    raw("2001:db8::1", 853),
    raw("2001:db8::2", 853),
    ("192.0.2.1", 853),
    ("2001:db8::1", 853),
]


def test_addresses_are_read():
    assert len(set(map(address, PEERS))) == len(PEERS)


def test_a_token_is_of_one_client_and_time():
    """The client's address, both IDs, the time and the secret are parts of it."""
    tokens = RetryTokens(b"secret")
    token = tokens.create(PEERS[0], b"original", b"source", 100.9)
    assert tokens.original(PEERS[0], token, b"source", 130.0) == b"original"
    assert tokens.original(PEERS[0], token, b"source", 131.0) is None
    assert tokens.original(PEERS[0], token, b"other", 101.0) is None
    for peer in PEERS[1:]:
        assert tokens.original(peer, token, b"source", 101.0) is None
    for at in range(len(token)):
        damaged = token[:at] + bytes((token[at] ^ 1,)) + token[at + 1 :]
        assert tokens.original(PEERS[0], damaged, b"source", 101.0) is None
    assert RetryTokens(b"secre2").original(PEERS[0], token, b"source", 101.0) is None


@given(st.binary(max_size=1200))
def test_other_bytes_are_no_token(data):
    assert RetryTokens(b"secret").original(PEERS[0], data, b"source", 100.0) is None


@given(st.binary(max_size=600))
def test_tokens_are_part_of_the_datagram(data):
    padded = data + bytes(1200)
    assert token_in(padded) in padded
    assert token_in(data) == b""


@pytest.mark.parametrize("size", [0, 1, 63, 64, 300])
@pytest.mark.parametrize("ids", [(8, 0), (20, 20)])
def test_the_token_of_a_first_packet_is_found(size, ids):
    to, source = (bytes(length) for length in ids)
    token = b"t" * size
    buffer = Buffer(capacity=1200)
    buffer.push_bytes(b"\xc0\0\0\0\1" + bytes((len(to),)) + to + bytes((len(source),)) + source)
    buffer.push_uint_var(size)
    buffer.push_bytes(token)
    assert token_in(buffer.data.ljust(1200, b"\0")) == token
