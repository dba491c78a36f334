"""What placeholders stand for; the cases are those of CoreDNS's replacer test."""

import re
from dataclasses import replace
from typing import Any

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply, Request, finish
from corepy.dns.edns import ede
from corepy.plugin import placeholders as fmt
from corepy.plugin.placeholders import COMBINED, COMMON, CONSTANT, VARYING, Format, expand
from corepy.testing import make_request

V6 = b"\x0a\x00\x9d\x14\0\0\0\0" + bytes.fromhex("20030000000000000000000000000001") + bytes(4)


def request(**question: Any) -> Request:
    return make_request("Example.org", "HINFO", peer=("10.240.0.1", 40212), id=1053, **question)


def show(text: str, query: Request, reply: Reply | None = None, seconds: float = 0.5) -> str:
    shape = Format(text)
    fixed = shape.fix(query, reply or query.error(0))
    return shape.line(fixed, query.wire[:2], query.client, seconds)


@pytest.mark.parametrize(
    ("placeholder", "value"),
    [
        ("{type}", "HINFO"),
        ("{name}", "example.org."),
        ("{class}", "IN"),
        ("{proto}", "udp"),
        ("{size}", "29"),
        ("{remote}", "10.240.0.1"),
        ("{port}", "40212"),
        ("{local}", "127.0.0.1"),
        ("{>id}", "1053"),
        ("{>opcode}", "0"),
        ("{>do}", "false"),
        ("{>bufsize}", "512"),
        ("{rcode}", "NOERROR"),
        ("{rsize}", "29"),
        ("{duration}", "0.5s"),
        ("{>rflags}", "qr,rd,ad,cd"),
    ],
)
def test_placeholder(placeholder: str, value: str) -> None:
    query = request()
    wire = bytearray(query.error(0).wire)
    wire[3] |= 0x30
    assert show(placeholder, query, Reply(bytes(wire))) == value


def test_every_placeholder_is_tried_above() -> None:
    assert len(CONSTANT | VARYING) == 16


@pytest.mark.parametrize(
    ("format_text", "shown"),
    [
        ("", ""),
        ("A", "A"),
        ("A {A}", "A {A}"),
        ("{type}", "HINFO"),
        ("{{type}}", "{HINFO}"),
        ("{ A {type} A }", "{ A HINFO A }"),
        ("{type}}", "HINFO}"),
        ("{{type}", "{HINFO"),
        ("Foo } {type}", "Foo } HINFO"),
        ("{ Foo", "{ Foo"),
        ("} Foo", "} Foo"),
        ("A { {class} {type} {/test/one} } B", "A { IN HINFO 1 } B"),
        ("{TYPE} {Type}", "{TYPE} {Type}"),
        ("100% %s {type} %(x)s", "100% %s HINFO %(x)s"),
        ("{/test/one} {/test/two} {/}", "1 - -"),
        ("{/test/one", "{/test/one"),
        ("{test/one} {/test/two}", "{test/one} -"),
        ("{type}{class}", "HINFOIN"),
        ("%{>id}%% {/percent}%s", "%1053%% 5%s %%s"),
    ],
)
def test_format(format_text: str, shown: str) -> None:
    query = request()
    query.metadata = {"test/one": "1", "percent": "5%s %"}
    assert show(format_text, query) == shown


def test_common_and_combined() -> None:
    query = request()
    line = '10.240.0.1:40212 - 1053 "HINFO IN example.org. udp 29 false 512" NOERROR qr,rd 29 0.5s'
    assert show(COMMON, query) == line
    assert show(COMBINED, query) == line + ' "0"'
    assert show(expand("a {common} b {combined} {name}"), query) == (
        f'a {line} b {line} "0" example.org.'
    )
    assert show("{{" + COMMON + "}}", query) == "{{" + line + "}}"


def one_by_one(query: Request, reply: Reply, seconds: float) -> str:
    """COMMON, made of its placeholders."""
    return re.sub(r"\{.*?\}", lambda match: show(match[0], query, reply, seconds), COMMON)


@settings(deadline=None)
@given(
    st.sampled_from(["udp", "tcp"]),
    st.sampled_from([None, ("::1", 1), ("192.0.2.1", 65535), V6, b"", b"abc", "unix"]),
    st.integers(0, 65535),
    st.integers(0, 0xFFF),
    st.integers(0, 65535),
    st.booleans(),
    st.floats(0, 1e6),
)
def test_common_is_the_sum_of_its_placeholders(
    proto: str, peer: object, qtype: int, rcode: int, edns: int, do: bool, seconds: float
) -> None:
    query = make_request("a b.example", edns=edns, do=do).derive(qtype=qtype)
    query.context = replace(query.context, protocol=proto, network=proto)
    query.client = peer
    reply = query.error(rcode, ede=(0, "why"))
    assert show(COMMON, query, reply, seconds) == one_by_one(query, reply, seconds)


@pytest.mark.parametrize(
    ("peer", "remote", "port"),
    [
        (("192.0.2.1", 53), "192.0.2.1", "53"),
        (("2003::1", 53), "[2003::1]", "53"),
        (("fe80::1%lo", 53, 0, 0), "[fe80::1%lo]", "53"),
        (("::ffff:192.0.2.1", 53), "192.0.2.1", "53"),
        (V6, "[2003::1]", "40212"),
        (b"\2\0\0\x35" + bytes((192, 0, 2, 1)) + bytes(8), "192.0.2.1", "53"),
        (None, "", "0"),
    ],
)
def test_addresses(peer: object, remote: str, port: str) -> None:
    query = request()
    query.client = query.local = peer
    assert show("{remote}", query) == show("{local}", query) == remote
    assert show("{port}", query) == port


@pytest.mark.parametrize(
    ("rcode", "name"),
    [(3, "NXDOMAIN"), (12, "12"), (16, "BADSIG"), (23, "BADCOOKIE"), (4095, "4095")],
)
def test_rcode(rcode: int, name: str) -> None:
    query = request()
    assert show("{rcode}", query, query.error(rcode)) == name


@pytest.mark.parametrize(
    ("bits", "flags"),
    [
        (0x0000, ""),
        (0x8000, "qr"),
        (0xFFFF, "qr,aa,tc,rd,ra,z,ad,cd"),
        (0x0440, "aa,z"),
        (0x7B8F & ~0x0300, "ra"),
    ],
)
def test_flags(bits: int, flags: str) -> None:
    wire = request().wire
    reply = Reply(wire[:2] + (bits & 0x87FF).to_bytes(2, "big") + wire[4:])
    assert show("{>rflags}", request(), reply) == flags


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0s"),
        (0.000000001, "0.000000001s"),
        (0.000037146, "0.000037146s"),
        (0.037990251, "0.037990251s"),
        (0.25, "0.25s"),
        (1.0, "1s"),
        (10.0, "10s"),
        (100.5, "100.5s"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert show("{duration}", request(), seconds=seconds) == shown


def test_edns() -> None:
    query = request(edns=4096, do=True)
    assert show("{size} {>do} {>bufsize}", query) == "40 true 4096"
    query.context = replace(query.context, protocol="tcp", network="tcp")
    assert show("{proto} {>bufsize}", query) == "tcp 65535"
    query = request(edns=100)
    assert show("{>do} {>bufsize}", query) == "false 512"


def test_reply_size_is_that_of_what_is_sent() -> None:
    plain, edns = request(), request(edns=1232)
    assert show("{rsize}", plain, plain.error(2, ede=(22, ""))) == "29"
    assert show("{rsize}", edns, edns.error(2)) == "40"
    assert show("{rsize}", edns, edns.error(2, ede=(22, "x"))) == str(40 + len(ede(22, "x")))


def test_type_class_and_opcode_without_a_name() -> None:
    query = Request.from_wire(
        bytes(
            dnslib.DNSRecord(dnslib.DNSHeader(opcode=5), q=dnslib.DNSQuestion("a", 65280, 7)).pack()
        )
    )
    assert show("{type} {class} {>opcode}", query) == "TYPE65280 CLASS7 5"


def test_lines_cannot_be_forged() -> None:
    query = make_request("x")
    query = query.derive(name_wire=b'\x08a\nb %s"\x1b\0')
    query.metadata = {"evil": "1\n[INFO] 2\x1b\udc80"}
    assert show("{name}", query) == 'a\\010b\\ %s\\"\\027.'
    assert show("{/evil}", query) == "1\\n[INFO] 2\\x1b\\udc80"


@settings(deadline=None)
@given(st.text("{}/>atype %s", max_size=40))
def test_any_format(text: str) -> None:
    shown = show(text, request())
    if "{" not in text:
        assert shown == text


def test_hosts_are_remembered_without_their_ports() -> None:
    fmt._host_of.cache_clear()
    query = request()
    for port in range(100):
        query.client = b"\2\0" + port.to_bytes(2, "big") + bytes((192, 0, 2, 1)) + bytes(8)
        assert show("{remote}:{port}", query) == f"192.0.2.1:{port}"
    assert fmt._host_of.cache_info().currsize == 1


@pytest.mark.parametrize(
    ("qclass", "name"),
    [(1, "IN"), (2, "CS"), (3, "CH"), (4, "HS"), (254, "NONE"), (255, "CLASS255"), (7, "CLASS7")],
)
def test_class(qclass: int, name: str) -> None:
    """ANY is a type as well, so miekg/dns writes the number."""
    query = request().derive(qclass=qclass)
    assert show("{class}", query) == name
    assert f"HINFO {name} example" in show(COMMON, query)


@pytest.mark.parametrize("compressible", [True, False])
@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("edns", [None, 400, 1232, 4096])
@pytest.mark.parametrize("count", [0, 5, 20, 60, 200])
def test_truncation_is_seen_in_the_flags(
    count: int, edns: int | None, proto: str, compressible: bool
) -> None:
    """The reply is cut after the chain, so what is logged is what `finish` will do."""
    query = make_request("example.org", "A", edns=edns, protocol=proto)
    name = "example.org" if compressible else "a{}.other-name.example"
    reply = query.reply(
        answer=[
            rr
            for n in range(count)
            for rr in dnslib.RR.fromZone(f"{name.format(n)} 60 A 192.0.2.1")
        ]
    )
    sent = finish(query, reply.copy())
    flags = "qr,tc,rd" if sent[2] & 2 else "qr,rd"
    assert show("{>rflags}", query, reply) == flags
    assert f" NOERROR {flags} " in show(COMMON, query, reply)
    if count == 200 and proto == "udp" and edns != 4096:
        assert "tc" in flags


def test_flags_of_a_reply_that_cannot_be_read() -> None:
    query = request()
    wire = query.wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query.wire[12:] + b"\xff" * 600
    assert show("{>rflags}", query, Reply(wire)) == "qr,rd"


class Failing(dict[str, Any]):
    """Metadata whose provider, a plugin, raises an exception."""

    def get(self, label: str, default: Any = None) -> Any:
        raise LookupError(label)


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("metadata", [Failing(), {"mine/label": Unprintable()}])
def test_metadata_that_fails_costs_no_query(
    metadata: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    query = request()
    query.metadata = metadata
    assert show("{/mine/label} {type}", query) == "- HINFO"
    assert "failed to provide the metadata 'mine/label'" in caplog.text
