"""The handler that sends zones to secondary servers (CoreDNS: plugin/transfer/transfer.go)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.dns.constants import (
    FORMERR,
    OPCODE_QUERY,
    REFUSED,
    TYPE_AXFR,
    TYPE_IXFR,
    TYPE_SOA,
)
from corepy.dns.form_error import FormError
from corepy.dns.rdata import split
from corepy.dns.series import MessagePacker, messages_of
from corepy.dns.wire import AUTHORITY, read_name, walk
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, hookimpl, plugin_logger
from corepy.plugin.protocols import TransferSource
from corepy.zone import zones_of
from corepy_transfer.journals import Journals
from corepy_transfer.notify import Notifier, Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import BlockHandlers, LifecycleContext
    from corepy.plugin.handler import Answer
    from corepy.plugin.protocols import ZoneRecords
    from corepy.zone import ServedZone, ServedZones, Zone
    from corepy_transfer.rule import Rule

LOG: Final = plugin_logger("transfer")

PATIENCE: Final = 3.0
"""Seconds that a query for changes waits for the comparison of two versions.

Then the client gets the whole zone.
"""


class Transfer(FastHandler, ExplainedHandler):
    """Answers AXFR and IXFR queries with the records of the handlers that have the zone."""

    name: ClassVar[str] = "transfer"
    # The replies to transfers have no deadline, and other queries go on.
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, rules: Sequence[Rule], block_handlers: BlockHandlers) -> None:
        """Take the directives of the block, and its handlers."""
        self.rules = tuple(rules)
        self._block_handlers = block_handlers
        self._journals = Journals(self._changed)
        self._notifier: Notifier | None = None
        self._is_serving = False

    # -- transfers

    def begin_dns(self, request: Request) -> Answer:
        """Answer a transfer, or return the next handler's answer."""
        if request.qtype not in (TYPE_AXFR, TYPE_IXFR) or request.opcode != OPCODE_QUERY:
            return self.next.begin_dns(request)
        rule = self.rule_for(request.name_wire)
        if rule is None:
            return self.next.begin_dns(request)
        is_whole = request.qtype == TYPE_AXFR
        if is_whole and not request.context.takes_series:
            return request.error(REFUSED, "AXFR needs TCP")  # RFC 5936 section 4.2
        refusal = rule.refusal(request)
        if refusal:
            return request.error(REFUSED, f"{request.type} of {request.name}: {refusal}")
        try:
            serial = None if is_whole else client_serial(request)
        except FormError as error:
            return request.error(FORMERR, str(error))
        comparison = self._journals.comparison(request.name_wire)
        if serial is not None and comparison is not None:
            return self._serve_after(comparison, request, serial)
        return self._serve(request, serial)

    def _serve(self, request: Request, serial: int | None) -> Answer:
        """Return the reply with the records of the first source that has the zone."""
        for source in self._block_handlers.of_kind(TransferSource):
            records = self._records(source, request.name_wire, serial)
            if records is not None:
                return self._answer(request, records)
        return self.next.begin_dns(request)

    async def _serve_after(
        self, comparison: asyncio.Task[None], request: Request, serial: int
    ) -> Reply:
        """Wait for the changes of the last version, but not too long, and answer then."""
        await asyncio.wait([comparison], timeout=PATIENCE)
        answer: Any = self._serve(request, serial)
        reply: Reply = await answer if hasattr(answer, "__await__") else answer
        return reply

    def rule_for(self, name: bytes) -> Rule | None:
        """Return the directive with the longest zone that contains a name; None without one."""
        found: Rule | None = None
        longest = -1
        for rule in self.rules:
            zone = rule.zones.find(name)
            if zone is not None and len(zone) > longest:
                found, longest = rule, len(zone)
        return found

    def _records(
        self, source: TransferSource, zone: bytes, serial: int | None
    ) -> ZoneRecords | None:
        """Return the records of a transfer, None if the source does not have the zone."""
        zones = zones_of(source)
        if serial is not None and zones is not None:
            served = zones.get(zone)
            if served is not None and served.current is not None:
                records = self._journals.records(served.current, serial)
                if records is not None:
                    return records
        return source.transfer_zone(zone, serial)

    def _answer(self, request: Request, records: ZoneRecords) -> Answer:
        if not request.context.takes_series:
            return _only_soa(request, records)
        sent = Sent(request)
        if hasattr(records, "__aiter__"):
            reply = request.reply_series(sent.messages_later(records))
        else:
            reply = request.reply_series(messages_of(request, sent.records_of(records)))
        if reply.series is not None:
            reply.series.on_end(sent.log)
        return reply

    # -- notifications

    def notify_secondaries(self, zone: bytes) -> None:
        """Notify the servers of the directive for `zone`, in the leader."""
        rule = self.rule_for(zone)
        if rule is None or self._notifier is None:
            return
        key = rule.keys[0] if rule.keys else None
        for address in rule.addresses:
            self._notifier.notify(zone, Target(address, rule.source, key))

    def _changed(self, zone: bytes) -> None:
        if self._is_serving:
            self.notify_secondaries(zone)

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Follow the zones of the block, and prepare to notify, in one process of the server."""
        if context.process_group.is_leader:
            self._notifier = Notifier()
        for zones in self._served():
            zones.subscribe(self)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Notify the servers of all zones: they may have changed before the start.

        Warns if no plugin of the block has zones.
        """
        self._is_serving = True
        if context.process_group.is_leader and not self._block_handlers.of_kind(TransferSource):
            names = " ".join(zone for rule in self.rules for zone in rule.zones.zones)
            LOG.warning("no other plugin of the server block has zones to transfer: %s", names)
        for zones in self._served():
            for served in zones:
                if served.current is not None:
                    self.notify_secondaries(served.origin)

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop notifying."""
        self._journals.stop()
        if self._notifier is not None:
            self._notifier.stop()

    def _served(self) -> list[ServedZones]:
        found = (zones_of(handler) for handler in self._block_handlers)
        return [zones for zones in found if zones is not None]

    # -- zones (`corepy.zone.ZoneSubscriber`)

    def zone_changed(self, served: ServedZone, before: Zone | None) -> None:
        """Keep the change of a zone for incremental transfers."""
        if self.rule_for(served.origin) is not None:
            self._journals.zone_changed(served, before)

    def zone_removed(self, served: ServedZone) -> None:
        """Forget the changes of a zone."""
        self._journals.zone_removed(served)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the client may transfer the zone."""
        if request.qtype not in (TYPE_AXFR, TYPE_IXFR):
            return {"state": "passed: not a transfer"}
        rule = self.rule_for(request.name_wire)
        if rule is None:
            return {"state": "passed: the name is outside its zones"}
        refusal = rule.refusal(request)
        return {"state": f"refused: {refusal}" if refusal else "allowed"}


class Sent:
    """The records of one transfer: passes them on, and counts them for the log."""

    def __init__(self, request: Request) -> None:
        """Count those of the reply to `request`."""
        self._request = request
        self._soa = b""
        self.count = 0

    def records_of(self, portions: ZoneRecords) -> Iterator[bytes]:
        """Yield the records of all portions."""
        try:
            for portion in portions:  # type: ignore[union-attr]  # the caller has looked
                yield from self._counted(portion)
        finally:
            close = getattr(portions, "close", None)
            if close is not None:
                close()

    async def messages_later(self, portions: ZoneRecords) -> AsyncIterator[Reply]:
        """Yield the messages with the records of portions that are made asynchronously."""
        packer = MessagePacker(self._request)
        async for portion in portions:  # type: ignore[union-attr]  # the caller has looked
            for record in self._counted(portion):
                message = packer.add(record)
                if message is not None:
                    yield message
        message = packer.take()
        if message is not None:
            yield message

    def _counted(self, portion: Sequence[bytes]) -> Sequence[bytes]:
        if not self._soa and portion:
            self._soa = portion[0]
        self.count += len(portion)
        return portion

    def log(self, last: Reply) -> None:
        """Log the end of the transfer; `last` is its last message."""
        request = self._request
        zone, client = request.name, request.remote[0]
        serial = soa_serial(self._soa)
        if last.error is not None or last.rcode:
            LOG.warning("Transfer of zone %r to %s failed: %s", zone, client, last.error or "")
        elif self.count == 1:
            LOG.info("Zone %r is up to date at %s, SOA serial %d", zone, client, serial)
        else:
            kind = "Incremental transfer" if request.qtype == TYPE_IXFR else "Transfer"
            LOG.info(
                "%s of %d records of zone %r to %s, SOA serial %d",
                *(kind, self.count, zone, client, serial),
            )


def _only_soa(request: Request, records: ZoneRecords) -> Answer:
    """Return the reply to IXFR over UDP: the server's SOA (RFC 1995 section 2).

    The client uses TCP if its serial is older.
    """
    if hasattr(records, "__aiter__"):
        return _only_soa_later(request, records)
    for portion in records:
        for record in portion:
            return request.reply(answer=[record], authoritative=True)
    raise ValueError(f"the source of zone {request.name} has no SOA record")


async def _only_soa_later(request: Request, records: ZoneRecords) -> Reply:
    async for portion in records:  # type: ignore[union-attr]  # the caller has looked
        for record in portion:
            return request.reply(answer=[record], authoritative=True)
    raise ValueError(f"the source of zone {request.name} has no SOA record")


def client_serial(request: Request) -> int:
    """Return the serial in an IXFR query (RFC 1995 section 3); raises FormError without one."""
    wire = request.wire
    for section, rtype, _, _, rdata, length, owner, _ in walk(wire):
        if section != AUTHORITY or rtype != TYPE_SOA:
            continue
        if read_name(wire, owner)[0].lower() != request.name_wire:
            raise FormError("IXFR with the SOA record of another zone")
        _, names, tail, _ = split(wire, rtype, rdata, length)
        if len(names) != 2:
            break
        return int.from_bytes(tail[:4], "big")
    raise FormError("IXFR without the SOA record of the client's version")


def soa_serial(record: bytes) -> int:
    """Return the serial of a SOA record (bytes from `corepy.dns.records.rr`), 0 if it is none."""
    return int.from_bytes(record[-20:-16], "big")
