"""Completes the reply to a query for a service of type ExternalName."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns import constants as c
from corepy.dns.rdata import plain_sections
from corepy.dns.records import rr

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

_TC = 0x02  # in the third byte of a message


def completed(request: Request, target: bytes, ttl: int, rest: Reply | None) -> Reply:
    """Return the reply with an alias to `target`, and the records of `rest`.

    `rest` is this server's reply to a query for the target, whose rcode is that of the whole reply
    (RFC 6604 section 3). Without it, and if the server does not answer for the target, the alias is
    all that is known. A record that is there already is left out: it comes from a loop.
    """
    alias = rr(request.question[:-4], c.TYPE_CNAME, ttl, target)
    if rest is None or rest.is_dropped or rest.rcode == c.REFUSED:
        return request.reply(c.NOERROR, [alias], authoritative=True)
    found, authority, _ = plain_sections(rest.wire)
    answers = [alias, *(it for it in found if it.lower() != alias.lower())]
    has_answer = not rest.rcode and found
    rcode = rest.rcode if rest.rcode <= 15 else c.SERVFAIL
    reply = request.reply(
        rcode, dict.fromkeys(answers), () if has_answer else authority, authoritative=True
    )
    if rest.tc:
        wire = reply.wire
        reply.patch(b"".join((wire[:2], bytes((wire[2] | _TC,)), wire[3:])))
    return reply
