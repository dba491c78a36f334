"""Values at which a decision about an upstream changes, and exact bytes of queries; no sockets."""

import pytest

from corepy.dns import Request
from corepy.dns.edns import end_to_end, option
from corepy.testing import query
from corepy_forward import forgery
from corepy_forward.failures import (
    CLOSED,
    HTTP_STATUS,
    MALFORMED,
    NO_COOKIE_SENT,
    NO_HEALTHY,
    NO_REPLY,
    NOT_CONNECTED,
    OTHER_QUESTION,
    TOO_LARGE,
    go_error,
    is_of_reply,
)
from corepy_forward.forgery import (
    Cookies,
    Guesses,
    Proofs,
    is_kept,
    with_random_case,
)
from corepy_forward.forms import (
    EdnsSupport,
    TcpSupport,
    body_of,
    client_options,
    needs_edns,
    with_option,
    with_size,
    without_edns,
)
from corepy_forward.limits import Limit, Turns
from corepy_forward.settings import RoundRobin, Settings

QUESTION = b"\3www\7example\3org\0\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
OPT_DO = b"\0\0\x29\4\xd0\0\0\x80\0\0\0"
HEADER = b"\1\0\0\1\0\0\0\0\0\1"
SUBNET = option(8, b"\0\1\x18\0\xc0\0\2")
COOKIE = option(10, b"12345678")
EDE = option(15, b"\0\x16")
BEFORE = 1e-6
LOWER_CASE, RENEWED, UNSURE, UNTRIED = 900.0, 86_400.0, 3600.0, 900.0
MOST_GUESSES, REMEMBERED = 100, 600.0
AVOIDED, SETTLED, TCP_DEAD = 60.0, 900.0, 60.0
LEAST, MOST = 1000, 10000
"""The documented values; imported ones would change along with a mistake."""


@pytest.mark.parametrize(
    ("how", "flags", "opt"),
    [
        ({}, b"\1\0", OPT),
        ({"edns": 4096}, b"\1\0", OPT),
        ({"edns": 512, "do": True}, b"\1\0", OPT_DO),
        ({"rd": 0}, b"\0\0", OPT),
        ({"cd": 1}, b"\1\x10", OPT),
        ({"ad": 1}, b"\1\x20", OPT),
        ({"rd": 0, "cd": 1, "ad": 1}, b"\0\x30", OPT),
    ],
)
def test_the_query_to_an_upstream(how, flags, opt):
    """The size of replies is corepy's own, and of the flags only these are the client's."""
    wire = query("www.example.org", **how)
    for others in (0, 0x0400, 0x0200, 0x0080, 0x0040, 0x000F):  # AA, TC, RA, Z and the rcode
        given = int.from_bytes(wire[2:4], "big") | others
        request = Request.from_wire(wire[:2] + given.to_bytes(2, "big") + wire[4:])
        assert body_of(request, QUESTION) == flags + b"\0\1\0\0\0\0\0\1" + QUESTION + opt


def test_options_of_a_client_in_the_query():
    options = COOKIE + SUBNET
    wire = query("www.example.org", edns=1232)[:-2] + len(options).to_bytes(2, "big") + options
    body = body_of(Request.from_wire(wire), QUESTION)
    assert body == HEADER + QUESTION + OPT[:-1] + bytes((len(SUBNET),)) + SUBNET
    assert client_options(body, QUESTION) == SUBNET


def test_forms_of_a_query():
    plain = HEADER + QUESTION + OPT
    bare = HEADER[:9] + b"\0" + QUESTION
    assert without_edns(plain, QUESTION) == bare
    assert without_edns(plain + SUBNET, QUESTION) == bare
    assert with_size(plain, QUESTION, 4096) == HEADER + QUESTION + OPT[:3] + b"\x10\0" + OPT[5:]
    assert with_size(bare, QUESTION, 4096) == bare
    assert with_option(bare, QUESTION, COOKIE) == bare
    once = with_option(plain, QUESTION, COOKIE)
    assert once == HEADER + QUESTION + OPT[:-1] + b"\x0c" + COOKIE
    twice = with_option(once, QUESTION, SUBNET)
    assert twice == HEADER + QUESTION + OPT[:-1] + b"\x17" + COOKIE + SUBNET
    assert client_options(twice, QUESTION) == COOKIE + SUBNET
    assert client_options(plain, QUESTION) == client_options(bare, QUESTION) == b""


@pytest.mark.parametrize(
    ("opt", "needed"),
    [(b"", False), (OPT, False), (OPT_DO, True), (OPT[:-1] + b"\x0b" + SUBNET, True)],
)
def test_who_depends_on_edns(opt, needed):
    assert needs_edns(HEADER + QUESTION + opt, QUESTION) is needed


@pytest.mark.parametrize(
    ("given", "asked", "kept"),
    [
        (b"", b"", b""),
        (EDE, b"", EDE),
        (SUBNET, b"", b""),
        (SUBNET, SUBNET, SUBNET),
        (COOKIE, COOKIE, b""),
        (COOKIE + SUBNET + EDE, COOKIE + SUBNET, SUBNET + EDE),
        (EDE + b"\0", b"", b""),
        (EDE, b"\0", b""),
    ],
)
def test_options_of_a_reply_for_a_client(given, asked, kept):
    assert end_to_end(given, asked) == kept


def reply_to(body, rcode=0, opt=OPT):
    question = body[10 : 10 + len(QUESTION)]
    count = b"\1" if opt else b"\0"
    return b"ID\x81" + bytes((0x80 | rcode,)) + b"\0\1\0\0\0\0\0" + count + question + opt


@pytest.mark.parametrize(
    ("body", "wire", "works"),
    [
        (HEADER + QUESTION + OPT, reply_to(HEADER + QUESTION), True),
        (HEADER + QUESTION + OPT, reply_to(HEADER + QUESTION, 3), True),
        (HEADER + QUESTION + OPT, reply_to(HEADER + QUESTION, 0, b""), True),
        (HEADER + QUESTION + OPT, reply_to(HEADER + QUESTION, 2), False),
        (HEADER + QUESTION + OPT, reply_to(HEADER + QUESTION, 0, b"\1" + OPT[1:]), False),
        (HEADER + QUESTION + OPT, reply_to(HEADER + QUESTION)[:-1], False),
        (HEADER + QUESTION + OPT, b"ID\x81\x80" + bytes(8), False),
        (HEADER + QUESTION + OPT, b"ID\1" + HEADER[1:] + QUESTION + OPT, False),
        (HEADER[:9] + b"\0" + QUESTION, reply_to(HEADER + QUESTION), False),
    ],
)
def test_what_proves_that_edns_works(body, wire, works):
    edns = EdnsSupport()
    edns.lost(1000.0)
    edns.learn(body, wire, 1000.0)
    assert edns.works(1000.0) is works
    assert edns.is_limited(1000.0) is not works
    assert edns.settled_until == (1000.0 + SETTLED if works else 0.0)


def test_how_long_what_is_known_of_edns_holds():
    edns, wire = EdnsSupport(), reply_to(HEADER + QUESTION)
    assert not edns.works(0.0)
    assert not edns.is_limited(0.0)
    edns.learn(HEADER + QUESTION + OPT, wire, 1000.0)
    assert edns.works(1000.0 + SETTLED - BEFORE)
    assert not edns.works(1000.0 + SETTLED)
    edns.refused(1000.0)
    assert not edns.works(1000.0)
    assert edns.settled_until == 0.0
    assert edns.is_limited(1000.0 + SETTLED - BEFORE)
    assert edns.is_off(1000.0 + SETTLED - BEFORE, needed=True)
    assert not edns.is_off(1000.0 + SETTLED, needed=True)
    edns = EdnsSupport()
    edns.lost(1000.0)
    assert edns.is_limited(1000.0 + AVOIDED - BEFORE)
    assert not edns.is_limited(1000.0 + AVOIDED)


def test_losses_before_an_answer_do_not_count_after_it():
    edns = EdnsSupport()
    edns.lost(1000.0)
    edns.learn(HEADER + QUESTION + OPT, reply_to(HEADER + QUESTION), 1000.0)
    edns.lost(1000.0)
    assert edns.settled_until == 0.0
    edns.lost(1000.0)
    assert edns.works(1000.0)
    edns.lost(1000.0)
    assert not edns.works(1000.0)
    assert edns.is_off(1000.0, needed=False)
    assert not edns.is_off(1000.0, needed=True)
    edns.lost(1000.0)
    assert edns.is_off(1000.0, needed=True)


def test_how_long_tcp_counts_as_dead():
    tcp = TcpSupport()
    assert not tcp.is_dead(0.0)
    tcp.failed(1000.0)
    assert tcp.is_dead(1000.0 + TCP_DEAD - BEFORE)
    assert not tcp.is_dead(1000.0 + TCP_DEAD)
    tcp.took(0.1)
    assert not tcp.is_dead(1000.0)


@pytest.mark.parametrize(
    ("seconds", "patience"),
    [
        ([], 1.0),
        ([0.1], 0.75),
        ([0.25], 0.75),
        ([0.3], 0.9),
        ([0.5], 1.0),
        ([0.0], 0.75),
        ([0.2, 0.36], 0.22 + 4 * 0.115),
        ([0.28, 0.2], 0.27 + 4 * 0.125),
    ],
)
def test_how_long_a_reply_over_tcp_is_waited_for(seconds, patience):
    """RFC 6298 section 2: alpha 1/8, beta 1/4, K 4."""
    tcp = TcpSupport()
    for each in seconds:
        tcp.took(each)
    assert tcp.patience == pytest.approx(min(max(patience, 0.75), 1.0))


def cookie_of(cookies):
    """Return the client cookie that is sent."""
    return cookies.option[4:12]


def learnt(cookies, server=b"SSSSSSSS", now=1000.0):
    assert cookies.learn(option(10, cookie_of(cookies) + server), now)
    return cookies


@pytest.mark.parametrize(
    ("size", "known"), [(0, False), (7, False), (8, True), (32, True), (33, False)]
)
def test_sizes_of_server_cookies(size, known):
    """RFC 7873 section 4: 8 to 32 bytes."""
    cookies = Cookies(True, 1000.0)
    server = b"S" * size
    learnt(cookies, server)
    assert cookies.is_expected is known
    assert cookies.option == option(10, cookie_of(cookies) + (server if known else b""))
    assert cookies.tail == len(cookies.option).to_bytes(2, "big") + cookies.option


@pytest.mark.parametrize(("options"), [b"", b"\0", EDE, option(10, b"another!SSSSSSSS")])
def test_options_without_our_cookie(options):
    cookies = Cookies(True, 1000.0)
    assert not cookies.learn(options, 1000.0)
    assert not cookies.is_expected


@pytest.mark.parametrize("size", [7, 8, 32, 33])
@pytest.mark.parametrize("before", [b"", EDE])
def test_a_new_server_cookie_in_a_reply(size, before):
    """It is taken off the reply and used from now on, unless it is not alone or not valid."""
    cookies = learnt(Cookies(True, 1000.0))
    client, server = cookie_of(cookies), b"N" * size
    options = before + option(10, client + server)
    message = reply_to(HEADER + QUESTION, 0, OPT[:-2] + len(options).to_bytes(2, "big") + options)
    is_usual = 8 <= size <= 32 and not before
    assert cookies.take(message) == (reply_to(HEADER + QUESTION) if is_usual else message)
    assert cookies.option[12:] == (server if is_usual else b"SSSSSSSS")


def test_the_known_server_cookie_is_taken_off_a_reply():
    cookies = learnt(Cookies(True, 1000.0))
    head = reply_to(HEADER + QUESTION, 0, OPT[:-2])
    assert cookies.take(head + cookies.tail) == reply_to(HEADER + QUESTION)
    # The same bytes that are not in an OPT record are a part of the message.
    other = head[:-8] + b"\0\x28" + head[-6:] + cookies.tail
    assert cookies.take(other) == other
    assert cookies.take(head + b"\0\0") is None


def test_times_of_cookies():
    cookies = Cookies(True, 1000.0)
    client = cookie_of(cookies)
    cookies.tidy(1000.0 + RENEWED - BEFORE)
    assert cookie_of(cookies) == client
    cookies.tidy(1000.0 + RENEWED)
    assert cookie_of(cookies) != client
    assert len(cookie_of(cookies)) == 8
    client = cookie_of(cookies)
    cookies.tidy(1000.0 + 2 * RENEWED - BEFORE)
    assert cookie_of(cookies) == client

    cookies = Cookies(True, 1000.0)
    cookies.refused(1000.0)
    assert (cookies.option, cookies.tail) == (b"", b"\0\0")
    cookies.tidy(1000.0 + UNTRIED - BEFORE)
    assert cookies.option == b""
    cookies.tidy(1000.0 + UNTRIED)
    assert len(cookies.option) == 12

    learnt(cookies)
    cookies.distrust(2000.0)
    assert not cookies.is_expected
    learnt(cookies, now=2000.0 + UNSURE - BEFORE)
    assert not cookies.is_expected
    learnt(cookies, now=2000.0 + UNSURE)
    assert cookies.is_expected
    cookies.refused(9000.0)  # without one, its replies would not be accepted
    assert cookies.option != b""


def test_cookies_that_are_off():
    cookies = Cookies(False, 1000.0)
    assert (cookies.option, cookies.tail, cookies.is_expected) == (b"", b"\0\0", False)
    client = cookies._client
    cookies.learn(option(10, client + b"SSSSSSSS"), 1000.0)
    assert (cookies.option, cookies.is_expected) == (b"", False)


NAMES = b"\1a\x3fAZ09-" + b"_" * 58 + b"\2xy\0"


@pytest.mark.parametrize(("bits", "letter"), [(b"\xff", b"\1A"), (b"\0", b"\1a")])
def test_only_letters_of_the_name_change_case(monkeypatch, bits, letter):
    """Type 97 and class 97 are letters as well, but not of the name."""
    monkeypatch.setattr(forgery.os, "urandom", lambda size: bits * size)
    question = NAMES.lower() + b"\0a\0a"
    mixed = with_random_case(HEADER + question + OPT, question)
    name = NAMES.lower()
    expected = name.upper() if bits == b"\xff" else name
    assert mixed == HEADER + expected + b"\0a\0a" + OPT
    assert mixed[10:12] == letter


def test_each_letter_has_its_own_bit(monkeypatch):
    question = b"\x08abcdefgh\0\0\1\0\1"
    bits = 0b01010101 << 1  # the first letter is at offset 1
    monkeypatch.setattr(forgery.os, "urandom", lambda size: bits.to_bytes(size, "big"))
    assert with_random_case(HEADER + question, question) == HEADER + b"\x08AbCdEfGh\0\0\1\0\1"


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (QUESTION, True),
        (QUESTION.replace(b"www", b"wwW"), False),
        (QUESTION[:-3] + b"\x1c\0\1", False),
        (QUESTION[:-1] + b"\3", False),
    ],
)
def test_what_an_upstream_copies(asked, kept):
    assert is_kept(bytes(12) + asked + OPT, HEADER + QUESTION + OPT, QUESTION) is kept


def proofs(**settings):
    return Proofs(Settings(**settings), "dns")


def test_how_long_names_stay_in_lower_case():
    each = proofs(random_case=True)
    assert each.are_wanted
    assert each.mixes_case(0.0)
    before = forgery.monotonic()
    each.lacks("case")
    after = forgery.monotonic()
    assert not each.mixes_case(before + LOWER_CASE - BEFORE)
    assert each.mixes_case(after + LOWER_CASE)
    assert each.are_wanted
    assert not proofs(cookies=False).mixes_case(1e9)


def test_tls_needs_no_proof():
    each = Proofs(Settings(random_case=True), "tls")
    assert not each.are_wanted
    assert not each.mixes_case(1e9)
    assert each.cookies.option == b""


def test_when_replies_are_checked():
    each = proofs()
    assert not each.are_wanted
    assert not each.given(EDE)
    assert not each.are_wanted
    assert each.given(option(10, cookie_of(each.cookies) + b"SSSSSSSS"))
    assert each.are_wanted
    each.lacks("cookie")
    assert not each.are_wanted
    assert not each.cookies.is_expected


MIXED = QUESTION.replace(b"www", b"wWw")


@pytest.mark.parametrize(
    ("sent", "echoed", "with_cookie", "lacks"),
    [
        (MIXED, MIXED, True, ""),
        (MIXED, QUESTION, True, "case"),
        (QUESTION, MIXED, True, ""),  # nothing is proved by a name that was sent in lower case
        (QUESTION, QUESTION, True, ""),
        (MIXED, MIXED, False, "cookie"),
        (MIXED, QUESTION, False, "case"),
    ],
)
def test_proofs_of_a_reply(sent, echoed, with_cookie, lacks):
    each = proofs(random_case=True)
    each.given(option(10, cookie_of(each.cookies) + b"SSSSSSSS"))
    tail = each.cookies.tail
    body = HEADER + sent + OPT[:-2] + tail
    plain = reply_to(HEADER + echoed)
    wire = plain[:-2] + tail if with_cookie else plain
    taken, missing = each.check(body, QUESTION, wire)
    assert missing == lacks
    assert taken == (wire if lacks else plain)


def test_a_query_without_a_cookie_needs_none_back():
    each = proofs()
    each.given(option(10, cookie_of(each.cookies) + b"SSSSSSSS"))
    wire = reply_to(HEADER + QUESTION)
    assert each.check(HEADER + QUESTION + OPT, QUESTION, wire) == (wire, "")


def test_guesses_are_counted_for_a_while():
    guesses = Guesses()
    assert not guesses
    assert [guesses.count(b"a", 1000.0) for _ in range(MOST_GUESSES - 1)] == [False] * 99
    assert guesses
    assert not guesses.are_many(b"a", 1000.0)
    assert not guesses.are_many(b"b", 1000.0)
    assert guesses.count(b"a", 1000.0 + REMEMBERED - 1)
    until = 1000.0 + REMEMBERED - 1 + REMEMBERED  # from when they were many
    assert guesses.are_many(b"a", until - BEFORE)
    assert not guesses.are_many(b"a", until)
    guesses.tidy(until - BEFORE)
    assert guesses
    guesses.tidy(until)
    assert not guesses


def test_old_guesses_do_not_add_up():
    guesses = Guesses()
    for _ in range(MOST_GUESSES - 1):
        guesses.count(b"a", 1000.0)
    assert not guesses.count(b"a", 1000.0 + REMEMBERED)
    assert [guesses.count(b"a", 1000.0 + REMEMBERED) for _ in range(99)] == [False] * 98 + [True]


def test_guesses_for_many_questions_forget_the_oldest():
    guesses = Guesses()
    for number in range(1024):
        guesses.count(b"%d" % number, 1000.0)
    guesses.count(b"0", 1000.0)
    assert len(guesses._counts) == 1024
    guesses.count(b"new", 1000.0)
    assert len(guesses._counts) == 1024
    assert b"1" not in guesses._counts
    assert b"0" in guesses._counts


@pytest.mark.parametrize(
    ("reason", "proto", "line"),
    [
        (NO_REPLY, "udp", "read udp 192.0.2.1:53 (D): i/o timeout"),
        (CLOSED, "tcp", "read tcp 192.0.2.1:53 (D): EOF"),
        (NOT_CONNECTED, "tcp", "dial tcp 192.0.2.1:53 (D): i/o timeout"),
        ("connect: x", "tcp-tls", "dial tcp 192.0.2.1:53 (over tcp-tls, D): connect: x"),
        ("write: x", "udp", "write udp 192.0.2.1:53 (D): write: x"),
        ("tls: x", "https", "dial tcp 192.0.2.1:53 (over https, D): tls: x"),
        ("remote error: x", "tcp", "dial tcp 192.0.2.1:53 (D): remote error: x"),
    ],
)
def test_lines_as_of_go(reason, proto, line):
    assert go_error("192.0.2.1:53", proto, reason, "D") == line


@pytest.mark.parametrize(
    ("reason", "is_one"),
    [
        (MALFORMED, True),
        (OTHER_QUESTION, True),
        (TOO_LARGE, True),
        (f"{HTTP_STATUS}503", True),
        (NO_COOKIE_SENT, True),
        (NO_REPLY, False),
        (NOT_CONNECTED, False),
        (CLOSED, False),
        (NO_HEALTHY, False),
    ],
)
def test_reasons_that_are_replies(reason, is_one):
    assert is_of_reply(reason) is is_one


@pytest.mark.parametrize(
    ("memory", "most"),
    [
        (None, MOST),
        (0, LEAST),
        (1000 * 8 * 4096, 1000),
        (2345 * 8 * 4096, 2345),
        (2346 * 8 * 4096 - 1, 2345),
        (10000 * 8 * 4096, MOST),
        (10001 * 8 * 4096, MOST),
    ],
)
def test_how_many_wait_in_so_much_memory(memory, most):
    limit = Limit()
    assert limit.most == MOST
    limit.configure(memory)
    assert limit.most == most
    assert limit.most_of_one(0) == most * 3 // 4
    assert limit.most_of_one(5) == 5
    assert limit.most_of_one(most + 1) == most


@pytest.mark.pure_form("has a stand-in for an object of a compiled class")
def test_clients_take_turns():
    turns = Turns()
    assert not turns
    for client, number in ((b"a", 1), (b"a", 2), (b"a", 3), (b"b", 4), (b"c", 5), (b"c", 6)):
        turns.add(client, number)  # type: ignore[arg-type]  # anything can wait
    order = []
    while turns:
        order.append(turns.first)
        turns.drop_first()
    assert order == [1, 4, 5, 2, 6, 3]


def test_round_robin_begins_with_the_second():
    """As CoreDNS's, which counts up before it chooses."""
    policy = RoundRobin()
    assert [policy("abc") for _ in range(5)] == list("bcabc")
