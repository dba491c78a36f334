"""The options that answer those of a client: padding (RFC 8467) and the idle timeout (RFC 7828)."""

from __future__ import annotations

import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corepy.dns import Reply, Request, edns, finish, names, query, records
from corepy.dns import constants as c

NAME = names.from_text("headless.default.svc.cluster.local.")


def reply_with(number: int) -> Reply:
    found = [records.rr(NAME, c.TYPE_A, 5, struct.pack("!I", it)) for it in range(number)]
    return Request.from_wire(query(NAME, 1)).reply(answer=found)


PADDING, KEEPALIVE = edns.OPTION_PADDING, edns.OPTION_TCP_KEEPALIVE


def padded(size: int = 1232, *options: tuple[int, bytes], **context: Any) -> Request:
    """Return a request over TLS with these options, by default with padding."""
    sent = b"".join(edns.option(code, data) for code, data in options or ((PADDING, bytes(9)),))
    opt = edns.Edns(size, False, sent)
    asked = Request.from_wire(query(NAME, 1, ident=0x1234, edns=opt))
    asked.context = replace(asked.context, protocol="tls", pads_replies=True, **context)
    return asked


def options_of(wire: bytes) -> dict[int, bytes]:
    """Return the options by code; dnslib leaves out an option without data at the end."""
    return dict(edns.parse_options(Reply.from_wire(wire).options))


@given(st.integers(0, 60), st.integers(0, 500))
@example(21, 59)  # padding without data
@settings(deadline=None)
def test_a_padded_reply_has_a_multiple_of_468_bytes(number: int, text: int) -> None:
    reply = reply_with(number)
    if text:
        reply.options = edns.ede(3, "x" * text)
    sent = finish(padded(), reply)
    assert len(sent) % 468 == 0 or len(sent) == 65535
    found = options_of(sent)
    assert not found[PADDING].strip(b"\0")
    assert (edns.OPTION_EDE in found) == bool(text)
    plain = finish(padded(1232, (65001, b"")), reply)
    assert len(sent) - 468 < len(plain) + 4 <= len(sent)


@pytest.mark.parametrize(("left", "total"), [(0, 65535), (3, 65532), (5, 65535), (40, 140 * 468)])
def test_a_reply_without_room_for_padding_is_sent_whole(left: int, total: int) -> None:
    """The largest message is 65,535 bytes, which is not a multiple of 468."""
    wire = reply_with(0).wire
    size = 65535 - edns.OPT_SIZE - left - len(wire) - len(NAME) - 10
    opaque = records.rr(NAME, c.TYPE_TXT, 5, bytes(size))
    sent = finish(padded(), Reply(wire[:6] + b"\0\1" + wire[8:] + opaque))
    assert sent[2] & 2 == 0
    assert len(sent) == total
    assert (PADDING in options_of(sent)) == (left >= 4)


def test_padding_leaves_room_for_the_signature() -> None:
    signer: Any = SimpleNamespace(reserved=100)
    asked = padded()
    asked.identity = replace(asked.identity, signer=signer)
    assert (len(finish(asked, reply_with(1))) + 100) % 468 == 0


def test_padding_is_echoed_where_lengths_are_no_secret() -> None:
    asked = padded()
    asked.context = replace(asked.context, pads_replies=False)
    assert options_of(finish(asked, reply_with(1))) == {PADDING: bytes(9)}


@pytest.mark.parametrize(
    ("timeout", "echoed", "found"),
    [(100, (), b"\0\x64"), (0, (), None), (100, (KEEPALIVE,), b"\0\x64")],
)
def test_the_idle_timeout_is_stated_once(timeout: int, echoed: tuple[int, ...], found: Any) -> None:
    context = {"idle_timeout": timeout, "echoed_options": frozenset(echoed)}
    sent = finish(padded(1232, (KEEPALIVE, b""), **context), reply_with(1))
    assert options_of(sent) == ({} if found is None else {KEEPALIVE: found})
