"""Makes the reply to a query from the reply for another name (CoreDNS: plugin/autopath/cname.go).

An alias (CNAME) from the name that was queried leads to the records, so that the client accepts
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.rdata import plain_records
from corepy.dns.records import rr
from corepy.dns.response import minimal_ttl, typify
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY, read_ttl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request

_KEPT_FLAGS: Final = c.FLAG_AA | c.FLAG_TC | c.FLAG_RA
"""AD is not among them: the alias is not authentic."""


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
    FormError if `found` is malformed, or larger than a message with the alias.
    """
    alias = rr(request.question[:-4], c.TYPE_CNAME, ttl, name)
    sections = [list(plain_records(found.wire, it)) for it in (ANSWER, AUTHORITY, ADDITIONAL)]
    made = request.reply(found.rcode, [alias, *sections[0]], *sections[1:])
    if len(made.wire) > c.MAX_SIZE:
        raise FormError("the reply is too large with an alias")
    return _completed(made, found)


def renamed(request: Request, found: Reply) -> Reply:
    """Return an error for another name as one to `request`, without records."""
    return _completed(request.error(found.rcode, found.error), found)


def _completed(made: Reply, found: Reply) -> Reply:
    """Give a reply the flags, the EDNS options and the time of the one that it is made of."""
    flags = int.from_bytes(made.wire[2:4], "big")
    flags |= int.from_bytes(found.wire[2:4], "big") & _KEPT_FLAGS
    made.patch(made.wire[:2] + flags.to_bytes(2, "big") + made.wire[4:])
    made.options = found.options
    made.deadline, made.since = found.deadline, found.since
    return made
