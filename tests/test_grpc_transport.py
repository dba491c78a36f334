"""DNS over CoreDNS's gRPC service: the calls of grpcio, and those that no library makes."""

import contextlib

import dnslib
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.net import dns_packet
from corepy.server.listen.http import grpc_messages
from corepy.testing import free_port, helper_module, query, serve, with_handlers
from corepy.testing.certificates import Authority
from corepy.testing.command import wait_until

h2 = helper_module(__file__, "http2_client")
gated_handler = helper_module(__file__, "gated_handler")
METHOD = "/coredns.dns.DnsService/Query"
WAIT = 30.0


def block(port, line, *limits):
    options = "\n".join(["grpc_server {", *limits, "}"])
    return f"grpc://.:{port} {{\nbind 127.0.0.1\n{line}\n{options}\ncache\ntold\n}}\n"


@pytest.fixture(scope="module")
def handlers():
    return []


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = Authority()
    folder = tmp_path_factory.mktemp("grpc")
    return authority.issue(folder, "dns.example", "127.0.0.1")


@pytest.fixture(scope="module")
def server(handlers, authority):
    """The first address has a certificate, the second one has plain text and two streams."""

    def make():
        handlers.append(gated_handler.Told(*[f"TXT {'a' * 250}"] * 240))
        return handlers[-1]

    text = block(free_port(), f"tls {authority.certificate} {authority.key}")
    text += block(free_port(), "", "plaintext", "max_streams 2")
    with serve(text, plugins=with_handlers(told=make), order="told after cache") as running:
        yield running


@pytest.fixture(scope="module")
def channels(server, authority):
    credentials = grpc.ssl_channel_credentials(authority.authority.read_bytes())
    (host, encrypted), (_, plain) = server.addresses
    with (
        grpc.secure_channel(f"{host}:{encrypted}", credentials) as secure,
        grpc.insecure_channel(f"{host}:{plain}") as insecure,
    ):
        yield {"tls": secure, "plain": insecure}


def packet_of(message):
    return dns_packet.pack(message)[dns_packet.PREFIX :]


def call(channel, message, method=METHOD, **more):
    stub = channel.unary_unary(method, packet_of, dns_packet.unpack)
    return stub(message, timeout=WAIT, **more)


def failure(channel, message, method=METHOD, **more):
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, message, method, **more)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("kind", ["tls", "plain"])
def test_grpcio_gets_replies(channels, kind):
    for number in (1, 1, 2):
        message = query(f"h{number}.example.org.")
        reply = call(channels[kind], message)
        assert reply[:2] == message[:2]
        assert str(dnslib.DNSRecord.parse(reply).rr[0].rdata) == "192.0.2.1"


def test_a_large_reply_is_whole(channels):
    reply = call(channels["tls"], query("large.example.org.", "TXT"))
    assert len(reply) > 60_000
    assert len(dnslib.DNSRecord.parse(reply).rr) == 240


@pytest.mark.parametrize("name", ["drop.example.org.", "example.org."])
def test_a_query_without_reply_fails(channels, name):
    """CoreDNS sends a dropped query back as its own reply."""
    message = query(name)
    if name == "example.org.":
        message = message[:2] + b"\x80" + message[3:]
    code, _ = failure(channels["plain"], message)
    assert code is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(
    "message",
    [b"", b"short", b"\0\0\x28" + query("a.", id=0)[3:]],
    ids=["empty", "short", "update"],
)
def test_a_message_that_is_refused_fails(channels, message):
    code, details = failure(channels["plain"], message)
    assert (code, details) == (grpc.StatusCode.UNKNOWN, "dns request rejected")


@pytest.mark.parametrize(
    "method", ["/coredns.dns.DnsService/Other", "/coredns.dns.Other/Query", "/a/b%"]
)
def test_an_unknown_method_is_unimplemented(channels, method):
    code, details = failure(channels["plain"], query("example.org."), method)
    assert (code, method in details) == (grpc.StatusCode.UNIMPLEMENTED, True)


def test_a_compressed_message_is_unimplemented(channels):
    more = {"compression": grpc.Compression.Gzip}
    code, _ = failure(channels["plain"], query("a" * 60 + ".example.org.", edns=1232), **more)
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_that_is_too_large_is_refused(channels):
    code, _ = failure(channels["plain"], bytes(65_536))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_call_that_is_cancelled_cancels_its_query(server, handlers, channels):
    stub = channels["tls"].unary_unary(METHOD)
    pending = stub.future(packet_of(query("busy.example.org.")), timeout=WAIT)
    wait_until(lambda: handlers[0].waiting == 1)
    pending.cancel()
    wait_until(lambda: handlers[0].waiting == 0)


def test_calls_beyond_the_limit_of_streams_wait_at_the_client(server, handlers, channels):
    stub = channels["plain"].unary_unary(METHOD)
    packets = [packet_of(query(f"busy{it}.example.org.")) for it in range(6)]
    pending = [stub.future(packet, timeout=WAIT) for packet in packets]
    wait_until(lambda: handlers[1].waiting == 2)
    server.call(handlers[1].gate.set)
    assert len([it.result() for it in pending]) == 6


# What grpcio does not send.


@pytest.fixture
def client(server):
    with h2.connected(server.addresses[1], settings={}) as client:
        yield client


def ask(client, content, **fields):
    head = {":path": METHOD, "content-type": "application/grpc", "te": "trailers"}
    status, fields, content = client.ask(content, client.head(**{**head, **fields}))
    return status, fields.get("grpc-status"), content


PACKET = dns_packet.pack(query("example.org.", id=0))


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (PACKET, "0"),
        (PACKET[:-1], "13"),
        (PACKET[:4], "13"),
        (PACKET + PACKET, "13"),
        (b"\0\0\0\0\0", "2"),
        (b"\1" + PACKET[1:], "12"),
        (b"\0\xff\xff\xff\xff", "8"),
        (b"\0\0\0\0\1\x0a", "13"),
        (b"\0\0\0\0\2\x0a\x05", "13"),
        (b"\0\0\0\0\1\x0b", "13"),
    ],
    ids=[
        "whole",
        "cut off",
        "no prefix",
        "two messages",
        "empty",
        "compressed",
        "too large",
        "no length",
        "wrong length",
        "group",
    ],
)
def test_contents_of_calls(client, content, status):
    assert ask(client, content)[:2] == (200, status)
    assert ask(client, PACKET)[:2] == (200, "0")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content-type": "application/grpc+proto"}, (200, "0")),
        ({"content-type": "application/grpc;a=b"}, (200, "0")),
        ({"content-type": "application/dns-message"}, (415, None)),
        ({"content-type": "application/grpcweb"}, (415, None)),
        ({":method": "PUT"}, (405, None)),
        ({"grpc-encoding": "gzip"}, (200, "12")),
        ({"grpc-encoding": "identity"}, (200, "0")),
    ],
)
def test_heads_of_calls(client, fields, expected):
    assert ask(client, PACKET, **fields)[:2] == expected


def test_http_1_is_not_spoken(server):
    with h2.connected(server.addresses[1], settings=None) as client:
        client.sock.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(40))
        assert client.error() == h2.PROTOCOL_ERROR


@given(st.binary(max_size=300))
def test_a_packet_holds_its_message(message):
    packet = dns_packet.pack(message)
    reader = grpc_messages.MessageReader()
    for byte in packet:
        reader.receive(bytes((byte,)))
    assert reader.query() == message


@given(st.binary(max_size=60))
def test_any_packet_is_read_or_refused(packet):
    with contextlib.suppress(dns_packet.PacketError):
        assert dns_packet.unpack(packet) in packet


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (b"", b""),
        (b"\x0a\x01a", b"a"),
        (b"\x0a\x01a\x0a\x01b", b"b"),
        (b"\x10\x96\x01\x0a\x01a", b"a"),
        (b"\x15abcd\x0a\x01a", b"a"),
        (b"\x11abcdefgh\x0a\x01a", b"a"),
        (b"\x1a\x02zz\x0a\x01a", b"a"),
        (b"\x0a\x01a\x08\x01", b"a"),
    ],
)
def test_unknown_fields_are_skipped(packet, message):
    assert dns_packet.unpack(packet) == message


def test_the_message_of_a_status_is_escaped():
    trailers = dict(grpc_messages.GRPCError(2, "100% ä\n").trailers)
    assert trailers["grpc-message"] == "100%25 %C3%A4%0A"
