"""Behaviours that answer with error rcodes: full replies or bare headers, always or for a time."""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import BEHAVIOURS, Act, Asked, Behaviour, behaviour

_NAMES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


def _always(rcode: str, *, bare: bool) -> Behaviour:
    def behave(asked: Asked) -> Iterator[Act]:
        yield asked.bare(rcode) if bare else asked.reply(rcode=rcode)

    what = "a header only" if bare else "no records"
    behave.__doc__ = f"Answer {rcode} to everything: {what}."
    return behave


for _name in _NAMES:
    BEHAVIOURS[f"bare-{_name.lower()}"] = _always(_name, bare=True)
for _name in ("FORMERR", "SERVFAIL", "NOTIMP", "REFUSED", "YXDOMAIN", "NOTAUTH"):
    BEHAVIOURS[_name.lower()] = _always(_name, bare=False)


@behaviour
def servfail_then_good(asked: Asked) -> Iterator[Act]:
    """Answer SERVFAIL to the first query for each name, as a starting server does."""
    yield asked.good() if asked.before else asked.reply(rcode="SERVFAIL")


@behaviour
def refused_for_a(asked: Asked) -> Iterator[Act]:
    """Answer REFUSED to type A, as servers behind filters do, and answer all other types."""
    refused = asked.message.question is not None and asked.message.question[1] == 1
    yield asked.reply(rcode="REFUSED") if refused else asked.reply("@ 60 TXT fine")


@behaviour
def refused_with_records(asked: Asked) -> Iterator[Act]:
    """Answer REFUSED with the root name servers: an upward referral, as old servers send."""
    yield asked.reply(authority=(". 60 NS a.root-servers.net.",), rcode="REFUSED")


@behaviour
def servfail_with_answer(asked: Asked) -> Iterator[Act]:
    """Answer SERVFAIL with a record in it."""
    yield asked.reply("@ 60 A 192.0.2.1", rcode="SERVFAIL")
