"""Behaviours of servers and middleboxes with EDNS (RFC 6891), over UDP and streams alike."""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import ADDRESS, Act, Asked, behaviour
from corepy.testing.wire_message import (
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
"""Code of an option for local use (RFC 6891 section 9)."""

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
    """Answer queries with OPT with a bare header whose rcode is FORMERR."""
    yield asked.good() if asked.opt is None else asked.bare("FORMERR")


@behaviour
def badvers_to_edns(asked: Asked) -> Iterator[Act]:
    """Answer BADVERS to queries with OPT although their version is 0."""
    yield asked.good() if asked.opt is None else asked.reply(rcode="BADVERS")


@behaviour
def echoes_edns_queries(asked: Asked) -> Iterator[Act]:
    """Echo queries with OPT unchanged."""
    yield asked.good() if asked.opt is None else asked.wire


@behaviour
def ignores_edns(asked: Asked) -> Iterator[Act]:
    """Ignore the OPT record, as a server without EDNS does (RFC 6891 section 7)."""
    message = asked.message_of(ADDRESS)
    message.opt = None
    yield message.pack()


@behaviour
def opt_unasked(asked: Asked) -> Iterator[Act]:
    """Send OPT with a size of 512 in every reply, also to queries without OPT."""
    message = asked.message_of(ADDRESS)
    message.opt = Opt(size=512)
    yield message.pack()


@behaviour
def opt_twice(asked: Asked) -> Iterator[Act]:
    """Send two OPT records, which makes the message malformed (RFC 6891 section 6.1.1)."""
    wire = asked.good()
    if asked.opt is not None:
        wire = wire[:11] + b"\2" + wire[12:] + pack_opt(Opt())
    yield wire


@behaviour
def opt_version_1(asked: Asked) -> Iterator[Act]:
    """Send OPT of version 1, with an option that is malformed in version 0."""
    message = asked.message_of(ADDRESS)
    message.opt = None
    wire = message.pack()
    if asked.opt is not None:
        broken = pack_opt(Opt(version=1))[:-2] + bytes.fromhex("0004000a00ff")
        wire = wire[:11] + b"\1" + wire[12:] + broken
    yield wire


@behaviour
def opt_before_glue(asked: Asked) -> Iterator[Act]:
    """Put OPT before other additional records, and do not compress names."""
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
    """Send hop-by-hop options: keepalive, padding, a cookie, NSID."""
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
    """Answer queries with a client subnet differently, with a scope (RFC 7871 section 7.2.1)."""
    subnet = asked.options.get(SUBNET)
    if subnet is None:
        yield asked.good()
    else:
        scoped = subnet[:3] + subnet[2:3] + subnet[4:]
        yield asked.reply("@ 60 A 203.0.113.9", options=((SUBNET, scoped),))


@behaviour
def answers_by_option(asked: Asked) -> Iterator[Act]:
    """Answer queries with an option for local use differently."""
    yield asked.reply("@ 60 A 203.0.113.10") if PRIVATE in asked.options else asked.good()


@behaviour
def with_cookies(asked: Asked) -> Iterator[Act]:
    """Return the client cookie with a server cookie (RFC 7873 section 5.2.3)."""
    cookie = asked.options.get(COOKIE)
    options = ((COOKIE, cookie[:8] + _SERVER_COOKIE),) if cookie else ()
    yield asked.reply(ADDRESS, options=options)


@behaviour
def wants_cookies(asked: Asked) -> Iterator[Act]:
    """Answer BADCOOKIE until a query has the server cookie (RFC 7873 sections 5.2.3 and 5.3)."""
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
    """Require the server cookie, and let a forged reply with a wrong client cookie arrive first.

    The forged reply follows only on a UDP query with the server cookie (RFC 7873 section 5.3).
    """
    if asked.proto == "udp" and asked.options.get(COOKIE, b"")[8:] == _SERVER_COOKIE:
        forged = ((COOKIE, bytes(8) + _SERVER_COOKIE),)
        yield asked.reply("@ 60 A 198.51.100.66", options=forged)
    yield from wants_cookies(asked)


@behaviour
def refuses_options(asked: Asked) -> Iterator[Act]:
    """Answer FORMERR to queries with any EDNS option, but accept EDNS without options."""
    options = asked.options
    yield asked.reply(rcode="FORMERR") if pack_options(tuple(options.items())) else asked.good()
