"""The table of odd worlds: what clients get from *forward* when upstreams misbehave, and why.

Every behaviour of `corepy.testing.behaviours` times every kind of client of `corepy.testing.clients`,
with *forward* over UDP (TCP for clients that come over TCP), TCP alone (`force_tcp`) and TLS. The
columns of a row: the reason; the outcome where the upstream is asked over UDP, and how it is asked
then; the same over a stream, if it differs.

How it is asked is at the same time how long it takes, since each wait that runs out brings another
query. "udp+" is a query over UDP with EDNS, "tcp" one over TCP without. A list in full is an answer
at once: nothing was waited for. Behind "~" only the kinds of queries are compared, in the order of
their first appearance, since there the number depends on the machine: the exchange lasted until a
query was asked again (answered within a second or two), or until its budget was used up (SERVFAIL
with an extended error).

A cell that is not as it should be is asked twice more, with others of its kind alone: a pause of the
machine looks like a lost datagram, but not three times.
"""

import asyncio
from dataclasses import dataclass, field

import pytest

from corepy.testing.behaviours import ADDRESS, WITHOUT_TCP
from corepy.testing.behaviours.contents import FOREIGN_SOA, SOA
from corepy.testing.clients import CLIENTS
from corepy.testing.crossing import Cell, Outcome, crossing
from corepy.testing.tls import CERTIFICATE, SERVER_NAME

GOOD = Outcome(answer=(ADDRESS,))
MANY = Outcome(answer=tuple(f"@ 60 A 192.0.2.{number}" for number in range(1, 41)))
CUT = Outcome(answer=MANY.answer[:2], flags="ra tc")
ALIAS = "@ 60 CNAME alias"

UNREACHABLE = Outcome("SERVFAIL", flags="", ede=22)
"""Ours, after the budget (RFC 8914 section 4.23, No Reachable Authority)."""

NETWORK = Outcome("SERVFAIL", flags="", ede=23)
"""Ours, when attempts failed by something that came back (RFC 8914 section 4.24)."""


def refusal(rcode):
    return Outcome(rcode)


@dataclass
class Row:
    why: str
    udp: Outcome
    asked: str = "udp+"
    stream: Outcome | None = None
    stream_asked: str = "tcp+"
    forced: Outcome | None = None
    """Where *force_tcp* or TLS rules out UDP and that makes a difference."""
    forced_asked: str = ""
    clients: dict[str, Outcome] = field(default_factory=dict)
    """Exceptions for kinds of clients."""

    shared: bool = False
    """corepy learns nothing from it about the upstream, so that all clients may have the same."""

    def expected(self, client, config):
        """Return (outcome, how the upstream is asked)."""
        kind = CLIENTS[client]
        outcome, asked = self.udp, self.asked
        if config != "udp" and self.forced is not None:
            outcome, asked = self.forced, self.forced_asked
        elif config != "udp" or kind.tcp:
            outcome, asked = self.stream or self.udp, self.stream_asked
        outcome = self.clients.get(client, outcome)
        return outcome, asked.replace("tcp", "tls") if config == "tls" else asked


RELAYED = "a forwarder relays what it got (CoreDNS, forward.go)"
UNSEEN = (
    "RFC 5452 section 9.1: what does not match the question in flight is not seen; the wait goes on"
)


def relayed(why, *answer, shared=True, **parts):
    return Row(why, Outcome(answer=answer, **parts), shared=shared)


TABLE = {
    # Flags, TTLs, records
    "aa": relayed(RELAYED, ADDRESS, flags="aa ra"),
    "no-ra": relayed(RELAYED, ADDRESS, flags=""),
    "ad-unasked": relayed(
        "RFC 6840 section 5.8 lets a resolver send AD unasked; " + RELAYED, ADDRESS, flags="ra ad"
    ),
    "z-bit": relayed(RELAYED, ADDRESS, flags="ra z"),
    "ttl-0": relayed(RELAYED, "@ 0 A 192.0.2.1"),
    "ttl-highest": relayed(RELAYED, "@ 2147483647 A 192.0.2.1"),
    "ttl-sign-bit": relayed(
        "RFC 2181 section 8 is about those who keep it; " + RELAYED, "@ 2147483708 A 192.0.2.1"
    ),
    "mixed-ttls": relayed(RELAYED, "@ 600 A 192.0.2.1", "@ 20 A 192.0.2.2"),
    "same-record-twice": relayed(RELAYED, ADDRESS, ADDRESS),
    "empty": relayed(RELAYED),
    "nodata": relayed(RELAYED, authority=(SOA,)),
    "nodata-with-foreign-soa": relayed(RELAYED, authority=(FOREIGN_SOA,)),
    "nodata-minimum-10": relayed(
        RELAYED, authority=("example. 60 SOA ns.example. admin.example. 10",)
    ),
    "nodata-behind-cname": relayed(RELAYED, ALIAS, authority=(SOA,)),
    "nxdomain": relayed(RELAYED, authority=(SOA,), rcode="NXDOMAIN"),
    "nxdomain-without-soa": relayed(RELAYED, rcode="NXDOMAIN"),
    "nxdomain-with-foreign-soa": relayed(RELAYED, authority=(FOREIGN_SOA,), rcode="NXDOMAIN"),
    "nxdomain-behind-cname": relayed(RELAYED, ALIAS, authority=(SOA,), rcode="NXDOMAIN"),
    "nxdomain-with-answer": relayed(RELAYED, ADDRESS, authority=(SOA,), rcode="NXDOMAIN"),
    "referral": relayed(
        RELAYED,
        authority=("example. 60 NS ns.example.",),
        additional=("ns.example. 60 A 192.0.2.53",),
    ),
    "cname": relayed(RELAYED, ALIAS, "alias 30 A 192.0.2.1"),
    "cname-behind-its-target": relayed(RELAYED, "alias 30 A 192.0.2.1", ALIAS),
    "cname-to-nothing": relayed(RELAYED, ALIAS),
    "cname-to-itself": relayed(RELAYED, "@ 60 CNAME @"),
    "cname-loop": relayed(RELAYED, ALIAS, "alias 60 CNAME @"),
    "cname-twice": relayed(RELAYED, ALIAS, "@ 60 CNAME beside", "alias 60 A 192.0.2.1"),
    "dname": relayed(
        RELAYED,
        "example. 60 DNAME example.test.",
        "@ 60 CNAME host.example.test.",
        "host.example.test. 60 A 192.0.2.1",
    ),
    "record-of-another-name": relayed(RELAYED, "other.test. 60 A 198.51.100.66"),
    "record-of-another-type": relayed(RELAYED, "@ 60 TXT surprise"),
    "record-of-another-class": relayed(RELAYED, "@ 60 CLASS3 A 192.0.2.1"),
    "more-than-asked-for": relayed(
        RELAYED,
        ADDRESS,
        "other.test. 60 A 198.51.100.66",
        authority=("other.test. 60 NS ns.other.test.",),
        additional=("ns.other.test. 60 A 198.51.100.67",),
    ),
    "unknown-types": relayed(
        "RFC 3597 section 3: they are relayed untouched",
        ADDRESS,
        "@ 60 TYPE65280 \\# 00ff",
        additional=("@ 60 TYPE65281 \\# ",),
    ),
    "record-without-rdata": relayed(
        "miekg/dns takes rdata of no bytes for every type; " + RELAYED, "@ 60 TYPE1 \\# "
    ),
    "uncompressed": relayed(RELAYED, ALIAS, "alias 60 A 192.0.2.1"),
    "owners-in-another-case": relayed("RFC 4343 section 3: case means nothing; " + RELAYED, ADDRESS),
    # Datagrams
    "good": relayed("RFC 1035", ADDRESS),
    "answers-twice": relayed("the second is no reply to anything any more", ADDRESS),
    "question-in-another-case": relayed(
        "RFC 4343 section 3: names match in any case; the client's own comes back to it", ADDRESS
    ),
    "forged-from-another-port": relayed(UNSEEN, ADDRESS),
    "wrong-id-first": relayed(UNSEEN, ADDRESS),
    "wrong-question-first": relayed(UNSEEN, ADDRESS),
    "wrong-type-first": relayed(UNSEEN, ADDRESS),
    "query-back-first": relayed("RFC 1035 section 4.1.1: QR says which are replies", ADDRESS),
    "another-opcode-first": relayed(UNSEEN, ADDRESS),
    "scraps-first": relayed(UNSEEN, ADDRESS),
    "rate-limited": Row(
        "a truncated reply is asked again over TCP (RFC 7766 section 5)", GOOD, "udp+ tcp+"
    ),
    "cut-without-tc": Row(
        "malformed: asked again over TCP, where nothing is cut (dig does the same)", GOOD, "udp+ tcp+"
    ),
    "trailing-bytes": relayed("miekg/dns ignores what follows the last record", ADDRESS),
    "trailing-opt": relayed("what is not counted is not there", ADDRESS),
    # EDNS
    "ignores-edns": relayed(
        "RFC 6891 section 7: a reply without OPT is an answer all the same", ADDRESS, shared=False
    ),
    "opt-unasked": relayed("the OPT of a reply is for us: the client gets its own, or none", ADDRESS),
    "opt-before-glue": relayed(
        "RFC 6891 section 6.1.1: OPT stands anywhere in the additional section",
        ADDRESS,
        additional=("ns.example. 60 A 192.0.2.53",),
    ),
    "options-of-the-hop": relayed(
        "RFC 7873, 7828, 7830, 5001: cookie, keepalive, padding and NSID are of one hop", ADDRESS
    ),
    "with-cookies": relayed("RFC 7873: a cookie is of one hop", ADDRESS, shared=False),
    "extended-error": relayed(
        "RFC 8914 section 3: a forwarder passes extended errors on",
        rcode="SERVFAIL",
        ede=6,
        shared=False,
    ),
    # Streams
    "truncates": Row("RFC 7766 section 5: asked again over TCP", MANY, "udp+ tcp+"),
    "truncates-empty": Row("RFC 7766 section 5: asked again over TCP", MANY, "udp+ tcp+"),
    "truncates-in-a-record": Row("RFC 7766 section 5: asked again over TCP", MANY, "udp+ tcp+"),
    "truncates-over-tcp": Row(
        "TC over TCP is the upstream's last word; " + RELAYED, CUT, "udp+ tcp+"
    ),
    "tcp-is-reset-once": Row(
        "RFC 7766 section 6.2.4: a connection that ends says nothing of the query, it is asked again",
        GOOD,
        stream_asked="tcp+ tcp+",
    ),
    "tcp-resets-in-the-answer-once": Row(
        "RFC 7766 section 6.2.4: a connection that ends says nothing of the query, it is asked again",
        GOOD,
        stream_asked="tcp+ tcp+",
    ),
    "tcp-closes-after-each-answer": relayed(
        "RFC 1035 section 4.2.2 allows it", ADDRESS, shared=False
    ),
    "tcp-byte-by-byte": relayed("RFC 7766 section 8: a stream has no packets", ADDRESS),
    "tcp-empty-frame-first": relayed("a message without a header is none", ADDRESS),
    "huge": Row(
        "RFC 7766 section 5: asked over TCP; what the client takes of it, with TC",
        Outcome(answer=tuple(f"@ 60 A 10.{n >> 8}.{n & 255}.1" for n in range(3745))),
        "udp+ tcp+",
    ),
    "larger-than-asked-for": relayed(
        "it is whole; a client gets what it takes of it, with TC",
        *(f"@ 60 A 10.{n >> 8}.{n & 255}.1" for n in range(185)),
    ),
    # Refusals
    "yxdomain": relayed(RELAYED, rcode="YXDOMAIN"),
    "notauth": relayed(RELAYED, rcode="NOTAUTH"),
}  # fmt: skip


def block(config, authority):
    options = {
        "udp": "",
        "tcp": "force_tcp",
        "tls": f"tls {authority}\ntls_servername {SERVER_NAME}",
    }

    def of(place):
        to = place.to_tls if config == "tls" else place.to
        return f"forward . {to} {{\nmax_fails 0\n{options[config]}\n}}"

    return of


def in_order_of_appearance(trail):
    return list(dict.fromkeys(trail))


def difference(run, cell, config, replies):
    """Return what is not as it should be, as text."""
    outcome, asked = TABLE[cell.behaviour].expected(cell.client, config)
    kind = CLIENTS[cell.client]
    expected = [outcome.for_client(kind, run.names[cell])] * kind.copies
    trail = run.trail(cell)
    if asked.startswith("~"):
        trail, asked = in_order_of_appearance(trail), asked[1:]
    if replies == expected and trail == asked.split():
        return None
    for got, wanted in zip(replies, expected, strict=False):
        lines = [f"- {line}" for line in wanted if line not in got]
        lines += [f"+ {line}" for line in got if line not in wanted]
    lines += [f"asked {' '.join(trail)} instead of {asked.strip()}"]
    return "\n  ".join((f"{cell.behaviour} / {cell.client} / {config}", *lines[:9]))


async def differences(cells, config, authority):
    shared = {behaviour for behaviour, row in TABLE.items() if row.shared}
    async with crossing(cells, block(config, authority), shared) as run:
        replies = await asyncio.gather(*map(run.ask, cells))
        found = {
            cell: difference(run, cell, config, got)
            for cell, got in zip(cells, replies, strict=True)
        }
    return {cell: text for cell, text in found.items() if text is not None}


@pytest.mark.parametrize("config", ["udp", "tcp", "tls"])
def test_forward(config, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text(CERTIFICATE)
    cells = [
        Cell(behaviour, client)
        for behaviour in TABLE
        if config == "udp" or behaviour not in WITHOUT_TCP
        for client in CLIENTS
    ]

    async def run():
        wrong = dict.fromkeys(cells, "")
        for _ in range(3):
            wrong = await differences(list(wrong), config, authority)
            if not wrong:
                break
        return wrong

    wrong = asyncio.run(run())
    assert not wrong, "\n".join(wrong.values())
