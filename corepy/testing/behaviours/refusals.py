"""Replies that refuse: with each rcode, whole or as a bare header, for ever or for a while."""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import BEHAVIOURS, Act, Asked, Behaviour, behaviour

_NAMES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


def _always(rcode: str, *, bare: bool) -> Behaviour:
    def behave(asked: Asked) -> Iterator[Act]:
        yield asked.bare(rcode) if bare else asked.reply(rcode=rcode)

    what = "a header with it and nothing else" if bare else "it, and no records"
    behave.__doc__ = f"Answer {rcode} to everything: {what}."
    return behave


for _name in _NAMES:
    BEHAVIOURS[f"bare-{_name.lower()}"] = _always(_name, bare=True)
for _name in ("FORMERR", "SERVFAIL", "NOTIMP", "REFUSED", "YXDOMAIN", "NOTAUTH"):
    BEHAVIOURS[_name.lower()] = _always(_name, bare=False)


@behaviour
def servfail_then_good(asked: Asked) -> Iterator[Act]:
    """Answer SERVFAIL to the first query for each name, as a server that starts does."""
    yield asked.good() if asked.before else asked.reply(rcode="SERVFAIL")


@behaviour
def refused_for_a(asked: Asked) -> Iterator[Act]:
    """Refuse type A alone, as servers behind filters do; all others are answered."""
    refused = asked.message.question is not None and asked.message.question[1] == 1
    yield asked.reply(rcode="REFUSED") if refused else asked.reply("@ 60 TXT fine")


@behaviour
def refused_with_records(asked: Asked) -> Iterator[Act]:
    """Answer REFUSED with the root's name servers, an upward referral of old."""
    yield asked.reply(authority=(". 60 NS a.root-servers.net.",), rcode="REFUSED")


@behaviour
def servfail_with_answer(asked: Asked) -> Iterator[Act]:
    """Answer SERVFAIL with a record in it."""
    yield asked.reply("@ 60 A 192.0.2.1", rcode="SERVFAIL")
