"""Makes the reply to a query from the reply for another name (CoreDNS: plugin/autopath/cname.go).

An alias (CNAME) from the name that was queried leads to the records, so that the client accepts
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.constants import TYPE_CNAME
from corepy.dns.rdata import plain_sections
from corepy.dns.records import rr
from corepy.dns.reply_like import reply_like
from corepy.dns.response import minimal_ttl, typify
from corepy.dns.wire import read_ttl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request


def alias_ttl(found: Reply, denials: Sequence[Reply]) -> int:
    """Return the TTL of an alias: of the first record that is found, and at most of the denials.

    The names before it in the search path may exist when the denials have expired (RFC 2308
    section 5), and then the alias is wrong. Raises FormError.
    """
    least = [minimal_ttl(denial, typify(denial)) for denial in denials]
    if found.ancount:
        return min(read_ttl(found.wire, found.ttl_offsets[0]), *least)
    return min(minimal_ttl(found, typify(found)), *least)


def aliased(request: Request, name: bytes, found: Reply, ttl: int) -> Reply:
    """Return the reply `found`, to a query for `name`, as one to `request`, behind an alias.

    A reply without records has the alias, too: its SOA record belongs to the other name. Raises
    FormError if `found` is malformed.
    """
    alias = rr(request.question[:-4], TYPE_CNAME, ttl, name)
    answer, authority, additional = plain_sections(found.wire)
    return reply_like(request, found, [alias, *answer], authority, additional)


def renamed(request: Request, found: Reply) -> Reply:
    """Return an error for another name as one to `request`, without records."""
    made = reply_like(request, found, (), (), ())
    made.error = found.error
    return made
