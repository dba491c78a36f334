"""Which labels are top-level domains, so that a name that ends with one may be an external name.

`redis.payments` is a name of the cluster, and no query for it is ever denied; `www.example.com` is
not. The labels are not from a list, which would become outdated: `Labels` asks this server for the
SOA record of `com.`, once a day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.names import ROOT, lower
from corepy.dns.wire import ANSWER, read_name, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy.dns import Reply, Request
    from corepy_search_guard.asking import Asker

EXTERNAL_FOR: Final = 86400.0
"""Seconds until a top-level domain is asked for again."""

INTERNAL_FOR: Final = 600.0
"""Seconds until any other label is asked for again."""

UNKNOWN_FOR: Final = 5.0
"""Seconds after a failure, such as SERVFAIL."""

_MOST: Final = 4096


class Labels:
    """The labels that have been asked for; each has its length byte."""

    def __init__(self, asker: Asker, clock: Callable[[], float], external: Iterable[bytes]) -> None:
        """`external` are labels for which nothing needs to be asked."""
        self._asker = asker
        self._clock = clock
        self._given = frozenset(external)
        self._known: dict[bytes, tuple[bool, float]] = {}

    def known(self, label: bytes) -> bool | None:
        """Return whether `label` is a top-level domain, None if the server is to be asked."""
        if label in self._given:
            return True
        found, until = self._known.get(label, (False, 0.0))
        return found if until > self._clock() else None

    async def is_external(self, request: Request, label: bytes) -> bool:
        """Return whether `label` is a top-level domain; False if that cannot be found out."""
        known = self.known(label)
        if known is not None:
            return known
        if len(self._known) >= _MOST:
            self._known.clear()
        found, seconds = await self._ask(request, label)
        self._known[label] = found, self._clock() + seconds
        return found

    async def _ask(self, request: Request, label: bytes) -> tuple[bool, float]:
        reply = await self._asker.server(request, label + ROOT)
        if reply is None or reply.is_dropped or reply.rcode not in (c.NOERROR, c.NXDOMAIN):
            return False, UNKNOWN_FOR
        if _has_soa(reply, label + ROOT):
            return True, EXTERNAL_FOR
        return False, INTERNAL_FOR


def _has_soa(reply: Reply, name: bytes) -> bool:
    """Return whether the answer has an SOA record of `name`, not only an alias or forged address.

    Some resolvers answer all queries for names that do not exist with an address.
    """
    wire = reply.wire
    try:
        return any(
            section == ANSWER and rtype == c.TYPE_SOA and lower(read_name(wire, owner)[0]) == name
            for section, rtype, *_, owner, _ in walk(wire)
        )
    except FormError:
        return False
