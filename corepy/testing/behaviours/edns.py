"""What servers and middleboxes make of EDNS (RFC 6891), over UDP and streams alike."""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import ADDRESS, Act, Asked, behaviour
from corepy.testing.message import (
    COOKIE,
    EDE,
    KEEPALIVE,
    NSID,
    PADDING,
    RCODES,
    SUBNET,
    Opt,
    pack_opt,
    pack_options,
)

PRIVATE = 65001
"""An option for local use (RFC 6891 section 9)."""

_SERVER_COOKIE = b"S" * 16


@behaviour
def drops_edns(asked: Asked) -> Iterator[Act]:
    """Drop queries with an OPT record, as some firewalls do."""
    if asked.opt is None:
        yield asked.good()


def _without_opt(asked: Asked, rcode: str) -> bytes:
    message = asked.message_of()
    message.rcode, message.opt = RCODES[rcode], None
    return message.pack()


@behaviour
def formerr_to_edns(asked: Asked) -> Iterator[Act]:
    """Answer FORMERR without OPT to queries with OPT (RFC 6891 section 7)."""
    yield asked.good() if asked.opt is None else _without_opt(asked, "FORMERR")


@behaviour
def notimp_to_edns(asked: Asked) -> Iterator[Act]:
    """Answer NOTIMP without OPT to queries with OPT."""
    yield asked.good() if asked.opt is None else _without_opt(asked, "NOTIMP")


@behaviour
def servfail_to_edns(asked: Asked) -> Iterator[Act]:
    """Answer SERVFAIL without OPT to queries with OPT."""
    yield asked.good() if asked.opt is None else _without_opt(asked, "SERVFAIL")


@behaviour
def refuses_edns(asked: Asked) -> Iterator[Act]:
    """Answer REFUSED without OPT to queries with OPT."""
    yield asked.good() if asked.opt is None else _without_opt(asked, "REFUSED")


@behaviour
def formerr_with_opt_to_edns(asked: Asked) -> Iterator[Act]:
    """Answer FORMERR to queries with OPT, and echo the OPT."""
    yield asked.good() if asked.opt is None else asked.reply(rcode="FORMERR")


@behaviour
def bare_formerr_to_edns(asked: Asked) -> Iterator[Act]:
    """Answer queries with OPT with a header that says FORMERR, and nothing else."""
    yield asked.good() if asked.opt is None else asked.bare("FORMERR")


@behaviour
def badvers_to_edns(asked: Asked) -> Iterator[Act]:
    """Answer BADVERS to queries with OPT although their version is 0."""
    yield asked.good() if asked.opt is None else asked.reply(rcode="BADVERS")


@behaviour
def echoes_edns_queries(asked: Asked) -> Iterator[Act]:
    """Send queries with OPT back as they came."""
    yield asked.good() if asked.opt is None else asked.wire


@behaviour
def ignores_edns(asked: Asked) -> Iterator[Act]:
    """Answer as if the OPT record were not there (RFC 6891 section 7: a server of RFC 1035)."""
    message = asked.message_of(ADDRESS)
    message.opt = None
    yield message.pack()


@behaviour
def opt_unasked(asked: Asked) -> Iterator[Act]:
    """Send OPT with a size of 512 in every reply."""
    message = asked.message_of(ADDRESS)
    message.opt = Opt(size=512)
    yield message.pack()


@behaviour
def opt_twice(asked: Asked) -> Iterator[Act]:
    """Send two OPT records (RFC 6891 section 6.1.1: a message with them is malformed)."""
    wire = asked.good()
    if asked.opt is not None:
        wire = wire[:11] + b"\2" + wire[12:] + pack_opt(Opt())
    yield wire


@behaviour
def opt_version_1(asked: Asked) -> Iterator[Act]:
    """Send OPT of version 1, with an option that version 0 could not read."""
    message = asked.message_of(ADDRESS)
    message.opt = None
    wire = message.pack()
    if asked.opt is not None:
        broken = pack_opt(Opt(version=1))[:-2] + bytes.fromhex("0004000a00ff")
        wire = wire[:11] + b"\1" + wire[12:] + broken
    yield wire


@behaviour
def opt_before_glue(asked: Asked) -> Iterator[Act]:
    """Put OPT before other additional records, all names in full."""
    message = asked.message_of(ADDRESS, additional=("ns.example. 60 A 192.0.2.53",))
    opt, message.opt = message.opt, None
    wire = message.pack(compress=False)
    if opt is not None:
        glue = len(wire) - (12 + 10 + 4)
        wire = wire[:11] + b"\2" + wire[12:glue] + pack_opt(opt) + wire[glue:]
    yield wire


@behaviour
def option_cut_off(asked: Asked) -> Iterator[Act]:
    """Send OPT with an option that is longer than the record."""
    wire = asked.good()
    if asked.opt is not None:
        wire = wire[:-2] + bytes.fromhex("0004000a00ff")
    yield wire


@behaviour
def options_of_the_hop(asked: Asked) -> Iterator[Act]:
    """Send options that are between two neighbours: keepalive, padding, a cookie, NSID."""
    options = (
        (NSID, b"upstream-7"),
        (COOKIE, b"C" * 24),
        (KEEPALIVE, b"\0\x64"),
        (PADDING, bytes(9)),
    )
    yield asked.reply(ADDRESS, options=options)


@behaviour
def private_option(asked: Asked) -> Iterator[Act]:
    """Send an option for local use with every answer."""
    yield asked.reply(ADDRESS, options=((PRIVATE, b"unasked"),))


@behaviour
def extended_error(asked: Asked) -> Iterator[Act]:
    """Answer SERVFAIL with the extended error DNSSEC Bogus (RFC 8914)."""
    yield asked.reply(rcode="SERVFAIL", options=((EDE, b"\0\6bogus"),))


@behaviour
def answers_by_subnet(asked: Asked) -> Iterator[Act]:
    """Give each client subnet an answer of its own, with its scope (RFC 7871 section 7.2.1)."""
    subnet = asked.options.get(SUBNET)
    if subnet is None:
        yield asked.good()
    else:
        scoped = subnet[:3] + subnet[2:3] + subnet[4:]
        yield asked.reply("@ 60 A 203.0.113.9", options=((SUBNET, scoped),))


@behaviour
def answers_by_option(asked: Asked) -> Iterator[Act]:
    """Give queries with an option for local use an answer of their own."""
    yield asked.reply("@ 60 A 203.0.113.10") if PRIVATE in asked.options else asked.good()


@behaviour
def with_cookies(asked: Asked) -> Iterator[Act]:
    """Return the client's cookie with one of the server (RFC 7873 section 5.2.3)."""
    cookie = asked.options.get(COOKIE)
    options = ((COOKIE, cookie[:8] + _SERVER_COOKIE),) if cookie else ()
    yield asked.reply(ADDRESS, options=options)


@behaviour
def wants_cookies(asked: Asked) -> Iterator[Act]:
    """Answer BADCOOKIE until a query brings the server's cookie (RFC 7873 section 5.2.3, 5.3)."""
    cookie = asked.options.get(COOKIE)
    if cookie is None:
        yield asked.good()
        return
    options = ((COOKIE, cookie[:8] + _SERVER_COOKIE),)
    if cookie[8:] == _SERVER_COOKIE:
        yield asked.reply(ADDRESS, options=options)
    else:
        yield asked.reply(rcode="BADCOOKIE", options=options)


@behaviour
def forged_without_the_cookie(asked: Asked) -> Iterator[Act]:
    """Want the server's cookie as above; to queries with it a forger answers first, over UDP, with
    a cookie of its own (RFC 7873 section 5.3).
    """
    if asked.proto == "udp" and asked.options.get(COOKIE, b"")[8:] == _SERVER_COOKIE:
        forged = ((COOKIE, bytes(8) + _SERVER_COOKIE),)
        yield asked.reply("@ 60 A 198.51.100.66", options=forged)
    yield from wants_cookies(asked)


@behaviour
def refuses_options(asked: Asked) -> Iterator[Act]:
    """Answer FORMERR to queries with any EDNS option, and take EDNS without."""
    options = asked.options
    yield asked.reply(rcode="FORMERR") if pack_options(tuple(options.items())) else asked.good()
