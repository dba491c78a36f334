"""Behaviours with unusual reply contents: flags, TTLs, unexpected or missing records.

They are the same over UDP and streams.
"""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import ADDRESS, BEHAVIOURS, Act, Asked, Behaviour, behaviour

SOA = "example. 60 SOA ns.example. admin.example. 60"
FOREIGN_SOA = "elsewhere.test. 60 SOA ns.elsewhere.test. admin.elsewhere.test. 60"


def _reply(
    doc: str,
    *answer: str,
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
    rcode: str = "NOERROR",
    flags: str = "qr ra",
) -> Behaviour:
    def behave(asked: Asked) -> Iterator[Act]:
        yield asked.reply(
            *answer, authority=authority, additional=additional, rcode=rcode, flags=flags
        )

    behave.__doc__ = doc
    return behave


BEHAVIOURS.update(
    {
        "aa": _reply("Set AA.", ADDRESS, flags="qr aa ra"),
        "no-ra": _reply("Clear RA, as an authoritative server does.", ADDRESS, flags="qr"),
        "ad-unasked": _reply("Set AD, even if it is not requested.", ADDRESS, flags="qr ra ad"),
        "z-bit": _reply("Set the reserved bit of the header.", ADDRESS, flags="qr ra z"),
        "ttl-0": _reply("Give a TTL of 0.", "@ 0 A 192.0.2.1"),
        "ttl-highest": _reply("Give the highest possible TTL.", "@ 2147483647 A 192.0.2.1"),
        "ttl-sign-bit": _reply("Set a TTL's highest bit.", "@ 2147483708 A 192.0.2.1"),
        "mixed-ttls": _reply(
            "Give the records of one set different TTLs.", "@ 600 A 192.0.2.1", "@ 20 A 192.0.2.2"
        ),
        "same-record-twice": _reply("Give one record twice.", ADDRESS, ADDRESS),
        "empty": _reply("Answer NOERROR without any records."),
        "nodata": _reply("Answer NODATA with an SOA.", authority=(SOA,)),
        "nodata-with-foreign-soa": _reply(
            "Answer NODATA with the SOA of a zone that does not contain the name.",
            authority=(FOREIGN_SOA,),
        ),
        "nodata-minimum-10": _reply(
            "Answer NODATA with an SOA whose MINIMUM is lower than its TTL.",
            authority=("example. 60 SOA ns.example. admin.example. 10",),
        ),
        "nodata-behind-cname": _reply(
            "Answer with a CNAME to a name without the type, and an SOA.",
            "@ 60 CNAME alias", authority=(SOA,),
        ),
        "nxdomain": _reply(
            "Answer NXDOMAIN with an SOA.", authority=(SOA,), rcode="NXDOMAIN"
        ),
        "nxdomain-without-soa": _reply("Answer NXDOMAIN without an SOA.", rcode="NXDOMAIN"),
        "nxdomain-with-foreign-soa": _reply(
            "Answer NXDOMAIN with the SOA of a zone that does not contain the name.",
            authority=(FOREIGN_SOA,), rcode="NXDOMAIN",
        ),
        "nxdomain-behind-cname": _reply(
            "Answer NXDOMAIN with a CNAME to the missing name, and an SOA.",
            "@ 60 CNAME alias", authority=(SOA,), rcode="NXDOMAIN",
        ),
        "nxdomain-with-answer": _reply(
            "Answer NXDOMAIN with the address of the name, and an SOA.",
            ADDRESS, authority=(SOA,), rcode="NXDOMAIN",
        ),
        "referral": _reply(
            "Answer with a referral.",
            authority=("example. 60 NS ns.example.",), additional=("ns.example. 60 A 192.0.2.53",),
        ),
        "cname": _reply(
            "Answer with a CNAME and its target.", "@ 60 CNAME alias", "alias 30 A 192.0.2.1"
        ),
        "cname-behind-its-target": _reply(
            "Answer with a CNAME after its target.",
            "alias 30 A 192.0.2.1", "@ 60 CNAME alias",
        ),
        "cname-to-nothing": _reply("Answer with a CNAME without its target.", "@ 60 CNAME alias"),
        "cname-to-itself": _reply("Answer with a CNAME to itself.", "@ 60 CNAME @"),
        "cname-loop": _reply(
            "Answer with a loop of CNAMEs.", "@ 60 CNAME alias", "alias 60 CNAME @"
        ),
        "cname-twice": _reply(
            "Answer with two CNAMEs of one name (RFC 2181 section 10.1).",
            "@ 60 CNAME alias", "@ 60 CNAME beside", "alias 60 A 192.0.2.1",
        ),
        "dname": _reply(
            "Answer with a DNAME and the synthesized CNAME (RFC 6672).",
            "example. 60 DNAME example.test.", "@ 60 CNAME host.example.test.",
            "host.example.test. 60 A 192.0.2.1",
        ),
        "record-of-another-name": _reply(
            "Answer with the address of another name.", "other.test. 60 A 198.51.100.66"
        ),
        "record-of-another-type": _reply(
            "Answer with a record of another type.", "@ 60 TXT surprise"
        ),
        "more-than-asked-for": _reply(
            "Add records of other names in all sections.",
            ADDRESS, "other.test. 60 A 198.51.100.66",
            authority=("other.test. 60 NS ns.other.test.",),
            additional=("ns.other.test. 60 A 198.51.100.67",),
        ),
        "unknown-types": _reply(
            "Add records of unknown types (RFC 3597).",
            ADDRESS, "@ 60 TYPE65280 \\# 00ff", additional=("@ 60 TYPE65281 \\# ",),
        ),
        "record-without-rdata": _reply("Answer with an A record without rdata.", "@ 60 TYPE1 \\# "),
    }
)  # fmt: skip


@behaviour
def short_lived(asked: Asked) -> Iterator[Act]:
    """Give a TTL of 2 seconds, and omit OPT."""
    message = asked.message_of("@ 2 A 192.0.2.77")
    message.opt = None
    yield message.pack()


@behaviour
def uncompressed(asked: Asked) -> Iterator[Act]:
    """Do not compress names."""
    yield asked.message_of("@ 60 CNAME alias", "alias 60 A 192.0.2.1").pack(compress=False)


@behaviour
def owners_in_another_case(asked: Asked) -> Iterator[Act]:
    """Write the owner names of records in upper case."""
    message = asked.message_of(ADDRESS)
    message.answer = [item._replace(owner=item.owner.upper()) for item in message.answer]
    wire = message.pack(compress=False)
    yield wire


@behaviour
def record_of_another_class(asked: Asked) -> Iterator[Act]:
    """Answer with a record of class CH."""
    message = asked.message_of(ADDRESS)
    message.answer = [item._replace(class_=3) for item in message.answer]
    yield message.pack()
