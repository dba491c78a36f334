"""Signed queries of this server and their replies (RFC 8945 section 5.3), against dnspython."""

from dataclasses import replace

import dns.message
import dns.name
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import pytest

from corepy.dns import FormError, Identity, Request, finish, names, query, signed
from corepy.dns import constants as c
from corepy.dns.records import rr
from corepy.dns.tsig import BADTIME, TSIGKey
from corepy.dns.tsig_exchange import MOST_UNSIGNED, SignedExchange, TSIGError
from corepy.dns.tsig_mac import ALGORITHMS, verify

NOW = 1_700_000_000
NAME = names.from_text("key.example.")
SECRET = bytes(range(32))
KEY = TSIGKey(NAME, SECRET)
QUERY = query(names.from_text("example.org."), 252, ident=0x1234)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Let dnspython sign and verify at NOW."""
    monkeypatch.setattr(dns.message.time, "time", lambda: NOW)


def exchange(key=KEY, now=NOW):
    made = SignedExchange(key, lambda: now)
    return made, made.sign(QUERY)


def keyring(key=KEY):
    name = dns.name.from_text(names.to_text(key.name))
    algorithm = dns.name.from_text(names.to_text(key.algorithm))
    return {name: dns.tsig.Key(name, key.secret, algorithm)}


def tsig_of(wire):
    tsig = Request.from_wire(wire).identity.tsig
    assert tsig is not None
    return tsig


def server(wire, secrets=None, now=NOW):
    """The request of this server for a signed query."""
    request = Request.from_wire(wire)
    known = {NAME: SECRET} if secrets is None else secrets
    tsig, signer = verify(tsig_of(wire), known, lambda: now)
    request.identity = Identity(tsig=tsig, signer=signer)
    request.context = replace(request.context, protocol="tcp")
    return request


def plain(request, number=1, rcode=0):
    reply = request.reply(rcode, answer=[rr(request.question[:-4], 1, 60, bytes(4))] * number)
    return finish(request, reply)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=names.to_text)
def test_an_exchange_with_dnspython(algorithm):
    key = replace(KEY, algorithm=algorithm)
    ours, wire = exchange(key)
    theirs = dns.message.from_wire(wire, keyring=keyring(key))
    assert (theirs.had_tsig, theirs.mac) == (True, wire[-6 - ALGORITHMS[algorithm][1] : -6])
    reply = dns.message.make_response(theirs)
    sent = reply.to_wire()
    unsigned = dns.message.make_response(dns.message.from_wire(QUERY)).to_wire()
    assert ours.verify(sent) == unsigned
    ours.finish()


def series(request, pattern):
    """Messages of one series; "s" is signed, "u" unsigned, as dnspython writes them."""
    theirs = dns.message.from_wire(request, keyring=keyring())
    context = None
    for number, kind in enumerate(pattern):
        response = dns.message.make_response(theirs)
        if kind == "u":
            response.tsig = None
        wire = response.to_wire(multi=True, tsig_ctx=context)
        if kind == "s":
            context = response.tsig_ctx
        elif context is not None:
            context.update(wire)
        yield number, wire


@pytest.mark.parametrize("pattern", ["s", "ss", "sss", "sus", "suuus", "susus"])
def test_a_series_of_dnspython_is_verified(pattern):
    ours, wire = exchange()
    for _, message in series(wire, pattern):
        assert ours.verify(message)[:2] == b"\x12\x34"
    ours.finish()


def test_a_series_of_this_server_is_verified():
    ours, wire = exchange()
    request = server(wire)
    for number in (1, 2, 3):
        message = plain(request, number)
        assert ours.verify(signed(request, message)) == message
    ours.finish()


def test_the_last_message_must_be_signed():
    ours, wire = exchange()
    for _, message in series(wire, "suu"):
        ours.verify(message)
    with pytest.raises(TSIGError, match="the last message of the reply is not signed"):
        ours.finish()


def test_the_first_message_must_be_signed():
    ours, wire = exchange()
    request = server(wire)
    with pytest.raises(TSIGError, match="the reply REFUSED is not signed"):
        ours.verify(plain(request, rcode=c.REFUSED))


def test_few_messages_may_be_unsigned():
    ours, wire = exchange()
    request = server(wire)
    message = plain(request)
    ours.verify(signed(request, message))
    for _ in range(MOST_UNSIGNED):
        ours.verify(message)
    with pytest.raises(TSIGError, match="more than 99 messages"):
        ours.verify(message)


def test_a_changed_unsigned_message_is_detected():
    ours, wire = exchange()
    first, second, third = [message for _, message in series(wire, "sus")]
    ours.verify(first)
    ours.verify(second[:2] + b"\x80\1" + second[4:])
    with pytest.raises(TSIGError, match="the signature of the reply is wrong"):
        ours.verify(third)


@pytest.mark.parametrize("at", [2, 3, 13, 40, -60, -20])
def test_a_changed_reply_is_detected(at):
    ours, wire = exchange()
    request = server(wire)
    sent = bytearray(signed(request, plain(request)))
    sent[at] ^= 1
    with pytest.raises((TSIGError, FormError)):
        ours.verify(bytes(sent))


@pytest.mark.parametrize("message", [b"", bytes(11), QUERY[:-1]])
def test_an_unreadable_message_is_refused(message):
    ours, _ = exchange()
    with pytest.raises(FormError):
        ours.verify(message)


@pytest.mark.parametrize(
    ("secrets", "error"),
    [({NAME: b"another"}, "BADSIG"), ({}, "BADKEY")],
)
def test_the_error_of_the_server_is_reported(secrets, error):
    ours, wire = exchange()
    request = server(wire, secrets)
    sent = signed(request, finish(request, request.error(c.NOTAUTH)))
    with pytest.raises(TSIGError, match=f"the server reports {error} for the key key.example."):
        ours.verify(sent)


def test_the_error_of_the_clock_is_reported():
    ours, wire = exchange()
    request = server(wire, now=NOW + 301)
    assert request.identity.tsig.error == BADTIME
    sent = signed(request, finish(request, request.error(c.NOTAUTH)))
    with pytest.raises(TSIGError, match="the server reports BADTIME"):
        ours.verify(sent)


@pytest.mark.parametrize(("shift", "is_late"), [(300, False), (301, True), (-301, True)])
def test_a_reply_of_another_time_is_refused(shift, is_late):
    ours, wire = exchange()
    request = server(wire)
    sent = signed(request, plain(request))
    ours._clock = lambda: NOW + shift
    if is_late:
        with pytest.raises(TSIGError, match="compare the clocks"):
            ours.verify(sent)
    else:
        ours.verify(sent)


def test_a_truncated_signature_is_refused():
    ours, wire = exchange()
    request = server(wire)
    request.identity.signer._digest = "sha1"  # another, shorter MAC
    with pytest.raises(TSIGError, match="the signature of the reply is wrong"):
        ours.verify(signed(request, plain(request)))


def test_a_reply_with_another_key_is_refused():
    ours, _ = exchange()
    _, wire = exchange(replace(KEY, algorithm=names.from_text("hmac-sha1.")))
    request = server(wire)
    with pytest.raises(TSIGError, match="another key or algorithm"):
        ours.verify(signed(request, plain(request)))


# -- the order of signing


def test_a_query_signed_earlier_is_refused_on_demand():
    """RFC 8945 section 5.2.3."""
    latest: dict[bytes, int] = {}
    found = []
    for time in (NOW, NOW, NOW - 1, NOW + 2, NOW + 1):
        tsig = tsig_of(exchange(now=time)[1])
        found.append(verify(tsig, {NAME: SECRET}, lambda: NOW, latest)[0].error)
    assert found == [0, 0, BADTIME, 0, BADTIME]
    assert latest == {NAME: NOW + 2}
    tsig = tsig_of(exchange(now=NOW + 5)[1])
    assert verify(tsig, {NAME: b"another"}, lambda: NOW, latest)[0].error
    assert latest == {NAME: NOW + 2}
