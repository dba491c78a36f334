"""The OPT record and its options."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Request, accept, edns
from corepy.dns.form_error import FormError

options = st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=5)


def joined(pairs: list[tuple[int, bytes]]) -> bytes:
    return b"".join(edns.option(code, data) for code, data in pairs)


@settings(deadline=None)
@given(st.integers(0, 65535), st.booleans(), st.integers(0, 255), options)
def test_opt_record_is_what_dnslib_reads(
    size: int, do: bool, extended: int, pairs: list[tuple[int, bytes]]
) -> None:
    record = edns.opt_record(size, do, extended, joined(pairs))
    opt = dnslib.DNSRecord.parse(bytes(11) + b"\1" + record).ar[0]
    assert (opt.rtype, opt.rclass) == (41, size)
    assert opt.ttl == extended << 24 | (0x8000 if do else 0)


@settings(deadline=None)
@given(st.integers(0, 65535), st.booleans(), st.integers(0, 255), st.integers(1, 255), options)
def test_read_back(
    size: int, do: bool, extended: int, version: int, pairs: list[tuple[int, bytes]]
) -> None:
    made = edns.Edns(size, do, joined(pairs), version, extended)
    read = edns.read_opt(made.record(), 0)
    for field in ("udp_size", "do", "options", "version", "extended_rcode"):
        assert getattr(read, field) == getattr(made, field)
    assert edns.parse_options(read.options) == pairs


def test_replace_leaves_the_original_alone() -> None:
    original = edns.Edns(4096, True, edns.option(3), version=1, extended_rcode=1)
    changed = original.replace(udp_size=512)
    assert (changed.udp_size, changed.do, changed.options) == (512, True, edns.option(3))
    assert (changed.version, changed.extended_rcode) == (0, 0)
    assert original.udp_size == 4096
    assert original.replace(do=False, options=b"").do is False


def test_reply_opt_echoes_size_and_do_without_options() -> None:
    ours = edns.Edns(4096, True, edns.option(3, b"x"))
    assert ours.reply_opt == edns.opt_record(4096, True)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        edns.opt_record()[:10],
        edns.opt_record(options=edns.option(3, b"abc"))[:-1],
        b"\1" + edns.opt_record()[1:],
        b"\0\0\1" + edns.opt_record()[3:],
        edns.opt_record(options=b"\0\3\0\4abc"),
        edns.opt_record(options=b"\0\3\0"),
    ],
)
def test_broken_opt_records(wire: bytes) -> None:
    with pytest.raises(FormError):
        edns.read_opt(wire, 0)


def test_options_of_another_version_are_not_looked_at() -> None:
    wire = edns.opt_record(options=b"\0\3\0", version=1)
    assert edns.read_opt(wire, 0).version == 1


def test_read_short() -> None:
    assert edns.read_short(edns.opt_record(1400, True)) is edns.read_short(
        edns.opt_record(1400, True)
    )
    assert edns.read_short(b"\0\0\x10\0\1\0\0\0\0\0\0") is None


@pytest.mark.parametrize("rtype", [1, 16, 41, 250])
@pytest.mark.parametrize(
    ("owner", "length"), [(0, 1), (0, 4), (0, 255), (0, 256), (0, 65535), (1, 0), (63, 0), (192, 0)]
)
def test_a_lone_additional_record_that_is_cut_off(rtype: int, owner: int, length: int) -> None:
    """Eleven bytes cannot hold rdata, nor an owner other than the root."""
    wire = struct.pack("!BHHIH", owner, rtype, 1232, 0, length)
    with pytest.raises(FormError):
        edns.read_short(wire)
    question = b"\7example\0\0\1\0\1"
    for flags in (b"\0\0", b"\1\0"):
        query = b"\7\7" + flags + struct.pack("!HHHH", 1, 0, 0, 1) + question + wire
        with pytest.raises(FormError):
            Request.from_wire(query)
        answered = b"\7\7" + bytes([flags[0] | 0x80, 1]) + struct.pack("!HHHH", 1, 0, 0, 0)
        assert accept(query) == answered + question


@pytest.mark.parametrize(
    ("code", "good", "bad"),
    [
        (edns.OPTION_LLQ, [bytes(18)], [bytes(17)]),
        (edns.OPTION_UL, [bytes(4), bytes(8)], [b"", bytes(5)]),
        (edns.OPTION_EXPIRE, [b"", bytes(4)], [bytes(3)]),
        (edns.OPTION_TCP_KEEPALIVE, [b"", bytes(2)], [bytes(1), bytes(3)]),
        (edns.OPTION_EDE, [bytes(2), b"\0\0text"], [b"", bytes(1)]),
        (edns.OPTION_COOKIE, [b"", bytes(8)], []),
        (
            edns.OPTION_SUBNET,
            [bytes(4), b"\0\1\x18\0\xc0\0\2", b"\0\2\x80\x80" + bytes(16)],
            [bytes(3), b"\0\0\1\0", b"\0\1\x21\0", b"\0\1\0\x21", b"\0\2\x81\0", b"\0\3\0\0"],
        ),
    ],
)
def test_options_are_checked_as_miekg_does(code: int, good: list[bytes], bad: list[bytes]) -> None:
    for data in good:
        edns.check_options(edns.option(code, data))
    for data in bad:
        with pytest.raises(FormError, match=f"option {code}"):
            edns.check_options(edns.option(code, data))


def test_options_without_end_are_refused() -> None:
    assert len(edns.parse_options(edns.option(3) * edns.MAX_OPTIONS)) == edns.MAX_OPTIONS
    with pytest.raises(FormError, match="too many"):
        edns.parse_options(edns.option(3) * 16000)


def test_ede() -> None:
    assert edns.ede(edns.EDE_STALE_ANSWER, "stäle") == b"\0\x0f\0\x08\0\3st\xc3\xa4le"
    assert edns.ede(edns.EDE_NOT_READY) == b"\0\x0f\0\2\0\x0e"


def test_without_option() -> None:
    mixed = edns.option(3, b"a") + edns.ede(1, "x") + edns.option(10, b"b") + edns.ede(2)
    assert edns.without_option(mixed, 15) == edns.option(3, b"a") + edns.option(10, b"b")
    assert edns.without_option(mixed, 99) == mixed


@pytest.mark.parametrize(
    ("options", "uniform"),
    [
        ([], True),
        ([(12, bytes(40))], True),
        ([(12, b"")], True),
        ([(12, bytes(40) + b"x")], False),
        ([(11, b"")], True),
        ([(11, b"\0\1")], False),
        ([(11, b""), (12, bytes(3))], True),
        ([(12, bytes(3)), (10, bytes(8))], False),
        ([(8, b"\0\1\x18\0\xc0\0\2")], False),
    ],
)
def test_options_that_many_queries_have(options: list[tuple[int, bytes]], uniform: bool) -> None:
    sent = b"".join(edns.option(code, data) for code, data in options)
    assert edns.is_uniform(sent) == uniform
