"""Makes a reply from another reply, with other records or to another question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.compress import rebuild
from corepy.dns.constants import FLAG_AA, FLAG_RA, FLAG_TC, MIN_SIZE, NOERROR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.dns.message import Request
    from corepy.dns.reply import Reply

USUAL_FLAGS: Final = FLAG_AA | FLAG_TC | FLAG_RA
"""The flags that a reply has from another one. AD is not among them (RFC 4035 section 3.2.3)."""


def reply_like(
    request: Request,
    source: Reply,
    answer: Iterable[bytes],
    authority: Iterable[bytes],
    additional: Iterable[bytes],
    *,
    flags: int = USUAL_FLAGS,
) -> Reply:
    """Return a reply to `request` with these records; all else is that of `source`.

    That is the rcode, the bits in `flags`, the EDNS options, `is_momentary`, and `since`, because
    the records are usually those of `source`, as `corepy.dns.rdata.plain_sections` returns them.
    Records must not contain compression pointers. The message is compressed if it exceeds the
    smallest UDP size. Records that exceed the size of a message are left out from the end, and TC
    is set. A NOERROR whose answer section becomes empty has AA: glibc takes an empty reply without
    AA, RA and additional records for a referral, and asks again (resolv/res_send.c). The reply has
    no error and no deadline. Raises FormError for malformed records.
    """
    made = request.reply(source.rcode, answer, authority, additional)
    wire = made.wire if len(made.wire) <= MIN_SIZE else rebuild(made.wire)
    kept = int.from_bytes(source.wire[2:4], "big") & flags
    if source.ancount and not made.ancount and made.rcode == NOERROR:
        kept |= FLAG_AA
    made.wire = wire[:2] + (int.from_bytes(wire[2:4], "big") | kept).to_bytes(2, "big") + wire[4:]
    made.options, made.is_momentary, made.since = source.options, source.is_momentary, source.since
    return made
