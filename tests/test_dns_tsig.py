"""TSIG records of queries and replies (RFC 8945), compared with dnspython."""

import hmac
from dataclasses import replace

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.tsigkeyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import ANONYMOUS, FormError, Identity, Request, accept, edns, finish, names, signed
from corepy.dns import constants as c
from corepy.dns.records import rr
from corepy.dns.tsig import BADKEY, BADSIG, BADTIME, BADTRUNC
from corepy.dns.tsig_mac import ALGORITHMS, verify

KEY = names.from_text("key.example.")
SECRET = b"0123456789abcdef0123456789abcdef"
SECRETS = {KEY: SECRET}
NOW = 1_700_000_000
NAMES = [names.to_text(name) for name in ALGORITHMS]
HMAC_SHA256 = "hmac-sha256."


def key(secret=SECRET, name="key.example.", algorithm=HMAC_SHA256):
    return dns.tsig.Key(name, secret, dns.name.from_text(algorithm))


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Let dnspython sign and verify at NOW."""
    monkeypatch.setattr(dns.message.time, "time", lambda: NOW)


def asked(name="www.example.org.", with_key=None, **options):
    """A query of dnspython that is signed when it is written."""
    query = dns.message.make_query(name, "A", **options)
    query.use_tsig(with_key or key())
    return query


def request_of(wire, secrets=SECRETS, now=NOW):
    """The request of a signed message, with the verdict of a listener that has these secrets."""
    request = Request.from_wire(wire)
    assert request.identity.tsig is not None
    tsig, signer = verify(request.identity.tsig, secrets, lambda: now)
    request.identity = Identity(tsig=tsig, signer=signer)
    return request


def answer(request, number=1):
    return request.reply(answer=[rr(request.question[:-4], 1, 60, bytes(4))] * number)


def read(wire, query):
    """The reply as dnspython reads it, with its signature verified."""
    return dns.message.from_wire(wire, keyring=query.keyring, request_mac=query.mac)


@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("with_edns", [False, True])
def test_a_signed_query_and_its_reply(algorithm, with_edns):
    query = asked(with_key=key(algorithm=algorithm), use_edns=with_edns)
    wire = query.to_wire()
    request = request_of(wire)
    unsigned = dns.message.make_query("www.example.org.", "A", use_edns=with_edns, id=query.id)
    assert request.wire == unsigned.to_wire()
    assert (request.edns is not None) == with_edns
    tsig = request.identity.tsig
    assert (tsig.key, tsig.is_valid, tsig.error) == ("key.example.", True, 0)
    assert (tsig.algorithm, tsig.mac) == (names.from_text(algorithm), query.mac)
    assert (tsig.time_signed, tsig.fudge, tsig.original_id) == (NOW, 300, query.id)
    plain = finish(request, answer(request))
    sent = signed(request, plain)
    assert len(sent) == len(plain) + request.identity.signer.reserved
    reply = read(sent, query)
    assert reply.had_tsig
    assert reply.answer[0].to_text() == "www.example.org. 60 IN A 0.0.0.0"


def test_the_verdict_does_not_depend_on_case_and_id():
    """RFC 8945 section 5.2.1: key names are compared like other names; forwarders change IDs."""
    query = asked(with_key=key(name="Key.EXAMPLE."))
    wire = query.to_wire()
    request = request_of(b"\xab\xcd" + wire[2:])
    assert request.identity.tsig.is_valid
    assert request.id == 0xABCD


def test_a_secret_does_not_appear_in_text():
    tsig = request_of(asked().to_wire()).identity.tsig
    assert "message" not in repr(tsig)


def changed_mac(size):
    """A signed query whose MAC is cut to `size` bytes."""
    query = asked()
    wire = query.to_wire()
    mac = query.mac
    at = wire.rindex(len(mac).to_bytes(2, "big") + mac)
    rest = wire[at + 2 + len(mac) :]
    rdlength = at - len(names.from_text(HMAC_SHA256)) - 8 - 2
    length = int.from_bytes(wire[rdlength : rdlength + 2], "big") - len(mac) + size
    head = wire[:rdlength] + length.to_bytes(2, "big") + wire[rdlength + 2 : at]
    return head + size.to_bytes(2, "big") + mac[:size] + rest, query


FAILURES = {
    "unknown key": (lambda: asked().to_wire(), {names.from_text("other."): SECRET}, NOW, BADKEY),
    "unknown algorithm": (
        lambda: asked(with_key=key(algorithm="hmac-sha256-128.")).to_wire(),
        SECRETS,
        NOW,
        BADKEY,
    ),
    "another secret": (lambda: asked().to_wire(), {KEY: b"another"}, NOW, BADSIG),
    "early": (lambda: asked().to_wire(), SECRETS, NOW - 301, BADTIME),
    "late": (lambda: asked().to_wire(), SECRETS, NOW + 301, BADTIME),
    "in time": (lambda: asked().to_wire(), SECRETS, NOW + 300, 0),
    "short MAC": (lambda: changed_mac(16)[0], SECRETS, NOW, BADTRUNC),
    "whole MAC": (lambda: changed_mac(32)[0], SECRETS, NOW, 0),
}


@pytest.mark.parametrize("case", FAILURES)
def test_the_verdicts(case):
    make, secrets, now, error = FAILURES[case]
    tsig = request_of(make(), secrets, now).identity.tsig
    assert (tsig.error, tsig.is_valid) == (error, error == 0)


@pytest.mark.parametrize("size", [0, 9, 15, 33])
def test_a_mac_of_an_impossible_size_is_malformed(size):
    if size > 32:
        query = asked(with_key=key(algorithm="hmac-sha512."))
        wire = query.to_wire().replace(b"\x0bhmac-sha512", b"\x0bhmac-sha256")
    else:
        wire, _ = changed_mac(size)
    tsig = Request.from_wire(wire).identity.tsig
    assert tsig is not None
    with pytest.raises(FormError, match="impossible size"):
        verify(tsig, SECRETS, lambda: NOW)


def refused(case):
    make, secrets, now, _ = FAILURES[case]
    request = request_of(make(), secrets, now)
    return request, signed(request, finish(request, request.error(c.NOTAUTH)))


@pytest.mark.parametrize("case", ["unknown key", "another secret"])
def test_an_error_of_the_key_is_not_signed(case):
    request, sent = refused(case)
    error = request.identity.tsig.error
    record = dns.message.from_wire(sent, ignore_trailing=False, keyring=False).additional
    assert sent[3] & 15 == c.NOTAUTH
    assert not record
    tsig = request.identity.tsig
    rdata = b"".join(
        (
            tsig.algorithm,
            NOW.to_bytes(6, "big") if error == BADSIG else sent[-16:-10],
            (300).to_bytes(2, "big"),
            b"\0\0",  # no MAC
            sent[:2],
            error.to_bytes(2, "big") + b"\0\0",
        )
    )
    assert sent.endswith(KEY + b"\0\xfa\0\xff\0\0\0\0" + len(rdata).to_bytes(2, "big") + rdata)


def test_an_error_of_the_time_is_signed_and_has_the_times_of_both():
    query = asked()
    request = request_of(query.to_wire(), now=NOW + 301)
    sent = signed(request, finish(request, request.error(c.NOTAUTH)))
    with pytest.raises(dns.tsig.PeerBadTime):
        read(sent, query)
    server_time = (NOW + 301).to_bytes(6, "big")
    assert sent.endswith(BADTIME.to_bytes(2, "big") + b"\0\6" + server_time)
    # The signature covers the query's MAC, the message, and the variables with the client's time.
    size = request.identity.signer.reserved
    plain = finish(request, request.error(c.NOTAUTH))
    variables = b"".join(
        (
            KEY + b"\0\xff\0\0\0\0" + names.from_text(HMAC_SHA256),
            NOW.to_bytes(6, "big") + (300).to_bytes(2, "big"),
            BADTIME.to_bytes(2, "big") + b"\0\6" + server_time,
        )
    )
    covered = b"\0\x20" + query.mac + plain + variables
    assert hmac.digest(SECRET, covered, "sha256") in sent[-size:]


@pytest.mark.parametrize("case", ["unknown key", "another secret", "late", "short MAC"])
def test_only_notauth_states_a_failure(case):
    """A handler that does not reject the query answers as if it were unsigned, as in CoreDNS."""
    make, secrets, now, _ = FAILURES[case]
    request = request_of(make(), secrets, now)
    plain = finish(request, answer(request))
    assert signed(request, plain) == plain


def test_an_unsigned_query_has_an_unsigned_reply():
    request = Request.from_wire(dns.message.make_query("www.example.org.", "A").to_wire())
    assert request.identity is ANONYMOUS
    plain = finish(request, answer(request))
    assert signed(request, plain) is plain


@pytest.mark.parametrize(("protocol", "records"), [("udp", 40), ("tcp", 4095)])
def test_a_reply_without_room_for_the_signature_has_no_records(protocol, records):
    """RFC 8945 section 5.3: the question and TC, and OPT as RFC 6891 section 6.1.1 requires."""
    query = asked(use_edns=True, payload=700)
    request = request_of(query.to_wire())
    request.context = replace(request.context, protocol=protocol)
    reply = answer(request, records)
    reply.wire = reply.wire[:2] + bytes((reply.wire[2] | 4,)) + reply.wire[3:]
    sent = signed(request, finish(request, reply))
    assert len(sent) <= request.size
    message = read(sent, query)
    assert message.flags & dns.flags.TC
    assert message.rcode() == c.NOERROR
    assert (message.answer, message.authority, message.additional) == ([], [], [])
    assert message.payload == 700


def test_the_room_for_the_signature_is_exact():
    query = asked(use_edns=True, payload=700)
    wire = query.to_wire()
    for number in range(20, 45):
        request = request_of(wire)
        room = 700 - request.identity.signer.reserved
        plain = finish(request, answer(request, number))
        sent = signed(request, plain)
        fits = len(plain) <= room
        assert len(sent) <= 700
        assert bool(read(sent, query).flags & dns.flags.TC) is not fits


@pytest.mark.parametrize(("protocol", "payload"), [("udp", 700), ("tcp", 700)])
def test_an_echo_leaves_room_for_the_signature(protocol, payload):
    """Padding of the client must not replace the records by TC."""
    size = payload if protocol == "udp" else c.MAX_SIZE
    for padding in range(size - 260, size - 160, 7):
        options = [dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(padding))]
        query = asked(use_edns=True, payload=payload, options=options)
        query.use_tsig(key())
        request = request_of(query.to_wire(max_size=c.MAX_SIZE))
        request.context = replace(request.context, protocol=protocol)
        sent = signed(request, finish(request, answer(request, 3)))
        assert len(sent) <= request.size
        message = read(sent, query)
        assert (len(message.answer[0]), message.flags & dns.flags.TC) == (1, 0)


def test_a_refusal_that_has_no_room_for_a_long_key_is_not_signed():
    """The names of the record may be pointers in the query, so the reply would amplify it."""
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    record = b"\xc0\x0c\0\xfa\0\xff\0\0\0\0\0\x32\xc0\x0c"
    record += NOW.to_bytes(6, "big") + b"\1\x2c\0\x20" + bytes(32) + b"\0\0\0\0\0\0"
    wire = bytes((0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1)) + name + b"\0\1\0\1" + record
    request = request_of(wire)
    assert request.identity.tsig.error == BADKEY
    sent = signed(request, finish(request, request.error(c.NOTAUTH)))
    assert len(sent) <= 512
    assert sent[2] & 2
    assert (sent[3] & 15, sent[10:12]) == (c.NOTAUTH, b"\0\0")
    request.context = replace(request.context, protocol="tcp")
    sent = signed(request, finish(request, request.error(c.NOTAUTH)))
    assert sent[10:12] == b"\0\1"


def test_a_refusal_without_room_keeps_its_rcode():
    request = request_of(asked().to_wire(), now=NOW + 301)
    reply = request.error(c.NOTAUTH)
    reply.wire = answer(request, 30).wire
    reply.wire = reply.wire[:3] + bytes((reply.wire[3] & 0xF0 | c.NOTAUTH,)) + reply.wire[4:]
    sent = signed(request, finish(request, reply))
    assert sent[3] & 15 == c.NOTAUTH
    assert len(sent) <= 512


def test_the_messages_of_a_series_are_chained():
    """RFC 8945 section 5.3.1: the first covers the query's MAC, the others the previous MAC."""
    query = asked("example.org.")
    request = request_of(query.to_wire())
    request.context = replace(request.context, protocol="tcp")
    context = None
    for number in (1, 2, 3):
        sent = signed(request, finish(request, answer(request, number)))
        message = dns.message.from_wire(
            sent,
            keyring=query.keyring,
            request_mac=query.mac,
            multi=True,
            tsig_ctx=context,
        )
        context = message.tsig_ctx
        assert message.had_tsig


def test_a_changed_copy_keeps_the_identity():
    request = request_of(asked().to_wire())
    for copy in (request.derive(qtype=28), request.with_flags(0x10)):
        assert copy.identity is request.identity


TSIG_RECORD = (
    KEY
    + b"\0\xfa\0\xff\0\0\0\0\0\x3d"
    + names.from_text(HMAC_SHA256)
    + NOW.to_bytes(6, "big")
    + b"\1\x2c\0\x20"
    + bytes(32)
    + b"\x12\x34\0\0\0\0"
)
QUESTION = b"\3www\7example\3org\0\0\1\0\1"
OPT = edns.opt_record()


def message(*additional, answers=()):
    counts = b"".join(number.to_bytes(2, "big") for number in (1, len(answers), 0, len(additional)))
    return b"\x12\x34\1\0" + counts + QUESTION + b"".join((*answers, *additional))


MALFORMED = {
    "before OPT": message(TSIG_RECORD, OPT),
    "two": message(TSIG_RECORD, TSIG_RECORD),
    "in the answer section": message(answers=[TSIG_RECORD]),
    "in the answer section, before OPT": message(OPT, answers=[TSIG_RECORD]),
    "in two sections": message(TSIG_RECORD, answers=[TSIG_RECORD]),
    "class IN": message(TSIG_RECORD.replace(b"\0\xfa\0\xff", b"\0\xfa\0\1")),
    "with a TTL": message(TSIG_RECORD.replace(b"\0\xfa\0\xff\0\0\0\0", b"\0\xfa\0\xff\0\0\0\1")),
    "no rdata": message(KEY + b"\0\xfa\0\xff\0\0\0\0\0\0"),
    "no time": message(KEY + b"\0\xfa\0\xff\0\0\0\0\0\1\0"),
    "MAC beyond the record": message(TSIG_RECORD.replace(b"\1\x2c\0\x20", b"\1\x2c\0\x2f")),
    "other data beyond the record": message(TSIG_RECORD[:-1] + b"\1"),
    "bytes after the other data": message(
        TSIG_RECORD.replace(b"\0\0\0\0\0\x3d", b"\0\0\0\0\0\x3e") + b"\0"
    ),
    "cut off": message(TSIG_RECORD)[:-1],
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_record_gets_formerr(case):
    """RFC 8945 section 5.1: more than one, or in another place; section 5.2: unreadable."""
    sent = accept(MALFORMED[case])
    assert isinstance(sent, bytes)
    assert (sent[:2], sent[3] & 15, sent[12:]) == (b"\x12\x34", c.FORMERR, QUESTION)


@pytest.mark.parametrize("additional", [(TSIG_RECORD,), (OPT, TSIG_RECORD)])
def test_a_well_formed_record_is_read(additional):
    request = accept(message(*additional) + b"trailing")
    assert request.wire == message(*additional[:-1])
    tsig = request.identity.tsig
    assert tsig.message == request.wire
    assert (tsig.key_name, tsig.mac, tsig.other) == (KEY, bytes(32), b"")
    assert (tsig.error, tsig.is_valid) == (None, False)


@settings(deadline=None)
@given(
    st.sampled_from([*MALFORMED.values(), message(OPT, TSIG_RECORD)]),
    st.lists(st.tuples(st.integers(12, 200), st.integers(0, 255)), max_size=4),
    st.integers(12, 220),
)
def test_mutated_records(wire, changes, end):
    """Every message is refused or read, and what is read is refused as not signed."""
    mutated = bytearray(wire)
    for at, value in changes:
        mutated[at % len(mutated)] = value
    result = accept(bytes(mutated[:end]))
    if not isinstance(result, Request) or result.identity.tsig is None:
        return
    assert not result.wire.endswith(TSIG_RECORD)
    try:
        tsig, signer = verify(result.identity.tsig, SECRETS, lambda: NOW)
    except FormError:
        return
    assert tsig.error in (BADKEY, BADSIG)
    result.identity = Identity(tsig=tsig, signer=signer)
    sent = signed(result, finish(result, result.error(c.NOTAUTH)))
    assert accept(sent) is None
    assert len(sent) <= result.size or len(sent) <= len(wire) + 300


SIGNED_AT = len(QUESTION) + 12


@settings(deadline=None)
@given(st.integers(2, 10_000), st.integers(1, 255))
def test_no_changed_byte_has_a_valid_signature(at, change):
    """All bytes but the ID are signed, and letter case of the key's name does not count."""
    query = asked()
    wire = bytearray(query.to_wire())
    at = 2 + at % (len(wire) - 2)
    wire[at] ^= change
    result = accept(bytes(wire))
    if not isinstance(result, Request) or result.identity.tsig is None:
        return
    try:
        tsig, _ = verify(result.identity.tsig, SECRETS, lambda: NOW)
    except FormError:
        return
    is_case = change == 0x20 and chr(wire[at]).isalpha() and at > SIGNED_AT
    assert not tsig.is_valid or is_case
