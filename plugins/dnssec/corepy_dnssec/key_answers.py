"""Answers queries for the DNSKEY records of a zone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.dns import FormError, Reply
from corepy.dns.names import to_text
from corepy.dns.wire import ANSWER
from corepy.plugin import plugin_logger
from corepy_dnssec.records import RecordSet, ReplyRecords, is_signable
from corepy_dnssec.signer import TYPE_DNSKEY

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from corepy.dns import Request

LOG = plugin_logger("dnssec")

REPEATED: Final = 1.0
"""Seconds for which the packet cache repeats the DNSKEY records."""

PATIENCE: Final = 1.0
"""Seconds for which the handlers below may delay the answer with our own keys."""


class KeyAnswers:
    """The keys of the signer, unless the zone below has signatures and keys already."""

    def __init__(self, rdatas: list[bytes], ttl: int) -> None:
        """`rdatas` are the DNSKEY records, `ttl` is in seconds."""
        self.foreign: dict[bytes, str] = {}
        """The zones that are signed below by other keys, with the text of the problem."""
        self._rdatas = rdatas
        self._ttl = ttl

    def answer(self, request: Request) -> tuple[Reply, ReplyRecords]:
        """Return an empty reply, and the records of the answer."""
        reply = request.reply(authoritative=True)
        reply.deadline, reply.since = request.received + REPEATED, request.received
        records = ReplyRecords(request.reply())
        owner = request.question[:-4]
        records.add(RecordSet(ANSWER, owner, TYPE_DNSKEY, self._ttl, self._rdatas))
        return reply, records

    async def below(self, answer: Awaitable[Reply]) -> Reply | None:
        """Return the reply of handlers below if it arrives in time."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer
        except TimeoutError:
            return None

    def are_signed(self, request: Request, reply: Reply) -> bool:
        """Return whether a reply from below, to a query with DO, has signed keys of the zone."""
        if not is_signable(reply):
            return False
        name = request.name_wire
        try:
            found = ReplyRecords(reply).find(ANSWER, name, TYPE_DNSKEY)
        except FormError:
            return False
        if found is None or not found.is_signed:
            return False
        self._compare(name, found.rdatas)
        return True

    def _compare(self, zone: bytes, rdatas: list[bytes]) -> None:
        """Warn if the keys of a signed zone are not those of the signer."""
        if set(self._rdatas) <= set(rdatas):
            self.foreign.pop(zone, None)
        elif zone not in self.foreign:
            message = f"zone {to_text(zone)} below is signed already, by other keys"
            self.foreign[zone] = message
            hint = "records that dnssec signs itself are bogus: use the same keys, or no dnssec"
            LOG.warning("%s; %s", message, hint)
