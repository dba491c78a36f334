"""What *whoami* answers, and what its directive takes."""

import struct

import dnslib
import pytest

from corepy.dns import Request, finish
from corepy.plugin import Cacheability
from corepy.testing import make_request, query, refusal, run_chain, serve, set_up
from corepy_whoami.whoami import Whoami


def additional(request: Request) -> list[str]:
    reply = run_chain(request, Whoami())
    record = dnslib.DNSRecord.parse(finish(request, reply))
    assert (record.header.rcode, record.header.aa, record.header.id) == (0, 1, request.id)
    assert not record.rr
    return [f"{rr.rname} {rr.ttl} {dnslib.QTYPE[rr.rtype]} {rr.rdata}" for rr in record.ar]


@pytest.mark.parametrize(
    ("name", "peer", "expected"),
    [
        (
            "example.org",
            ("10.240.0.1", 40212),
            ["example.org. 0 A 10.240.0.1", "_udp.example.org. 0 SRV 0 0 40212 ."],
        ),
        (
            "Example.ORG",
            ("10.240.0.1", 1),
            ["Example.ORG. 0 A 10.240.0.1", "_udp.Example.ORG. 0 SRV 0 0 1 ."],
        ),
        (
            "example.org",
            ("2003::1", 65535),
            ["example.org. 0 AAAA 2003::1", "_udp.example.org. 0 SRV 0 0 65535 ."],
        ),
        (
            "example.org",
            ("fe80::1%lo", 53),
            ["example.org. 0 AAAA fe80::1", "_udp.example.org. 0 SRV 0 0 53 ."],
        ),
        (
            "example.org",
            ("::ffff:192.0.2.1", 53),
            ["example.org. 0 A 192.0.2.1", "_udp.example.org. 0 SRV 0 0 53 ."],
        ),
        (".", ("192.0.2.1", 53), [". 0 A 192.0.2.1", "_udp. 0 SRV 0 0 53 ."]),
    ],
)
def test_reply(name: str, peer: tuple[str, int], expected: list[str]) -> None:
    assert additional(make_request(name, peer=peer)) == expected


@pytest.mark.parametrize("qtype", ["A", "AAAA", "TXT", "ANY"])
def test_answers_every_type(qtype: str) -> None:
    assert len(additional(make_request("example.org", qtype))) == 2


def test_tcp() -> None:
    request = make_request("example.org", protocol="tcp")
    assert additional(request)[1].startswith("_tcp.example.org. ")


def test_class_of_the_query() -> None:
    wire = bytearray(query("version.bind", "TXT"))
    wire[-2:] = struct.pack("!H", 3)
    request = Request.from_wire(bytes(wire))
    request.client = ("192.0.2.1", 53)
    reply = dnslib.DNSRecord.parse(run_chain(request, Whoami()).wire)
    assert [rr.rclass for rr in reply.ar] == [3, 3]


def test_name_without_room_for_the_transport() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(additional(make_request(longest))) == 1
    assert len(additional(make_request(longest[5:]))) == 2


def test_client_without_an_address() -> None:
    request = make_request("example.org")
    request.client = None
    assert additional(request) == ["_udp.example.org. 0 SRV 0 0 0 ."]


def test_no_packet_cache() -> None:
    assert Whoami().cacheability is Cacheability.UNSAFE


def test_directive() -> None:
    (handler,) = set_up("whoami").handlers
    assert isinstance(handler, Whoami)
    assert handler.name == "whoami"


@pytest.mark.parametrize("text", ["whoami example.org", "whoami {\n}", "whoami {\ntcp\n}"])
def test_directive_takes_nothing(text: str) -> None:
    assert refusal(text).token is not None


@pytest.mark.parametrize("tcp", [False, True])
def test_served(tcp: bool) -> None:
    with serve(". {\nbind 127.0.0.1\nwhoami\n}") as server:
        record = server.ask("example.org", tcp=tcp)
    address, port = record.ar
    assert str(address.rdata) == "127.0.0.1"
    assert str(port.rname) == f"_{'tcp' if tcp else 'udp'}.example.org."
    assert port.rdata.port > 0
