"""The handler that answers for the services of a Nomad cluster (CoreDNS: plugin/nomad/nomad.go)."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, assert_never

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NETWORK_ERROR, EDE_NOT_READY, EDE_PROHIBITED
from corepy.dns.names import is_subdomain, labels_of, to_text
from corepy.net.connection_limit import client_of
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    apply_step,
    hookimpl,
    without_deadline,
)
from corepy.plugin.backend_lookup import BackendLookup
from corepy.plugin.backend_replies import REPEATED
from corepy.plugin.protocols import Service
from corepy_nomad import metrics
from corepy_nomad.answers import Answers, denial, soa_record, soa_reply
from corepy_nomad.namespaces import Denial, Failure
from corepy_nomad.source import join, leave

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import LifecycleContext
    from corepy.plugin.handler import Answer
    from corepy_nomad.namespaces import Outcome
    from corepy_nomad.source import Settings, Source

LONGEST_WAIT: Final = 5.0
"""Seconds that the start waits for Nomad, unless it fails before."""

_NAMESPACE: Final = re.compile(rb"[a-z0-9-]+")
"""The names of namespaces that can be labels; "*" would be all namespaces to Nomad."""

_OPCODE: Final = 0x7800
_ALIASED: Final = frozenset((c.TYPE_A, c.TYPE_AAAA, c.TYPE_CNAME, c.TYPE_ANY))
"""Types that are answered by way of the names of hosts."""

_PROHIBITED: Final = (EDE_PROHIBITED, "")
_NOT_READY: Final = (EDE_NOT_READY, "")
_UNREACHABLE: Final = (EDE_NETWORK_ERROR, "")


class Nomad(FastHandler, ExplainedHandler):
    """Answers queries for `service.namespace.ZONE`, and passes others on.

    A change in Nomad clears the caches of the names concerned, so the packet cache may repeat
    replies. It implements `RecordBackend`, for instances whose addresses are names of hosts.
    """

    name: ClassVar[str] = "nomad"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(self, settings: Settings, zone: bytes) -> None:
        """Answer for names in `zone`, in wire form and lower case."""
        self.settings = settings
        self.zone = zone
        self.source: Source | None = None

    @property
    def inputs(self) -> bytes | None:
        """What distinguishes the copy from others; None while caches may have older replies."""
        source = self.source
        return None if source is None or source.forgetter.is_forgetting else source.token

    # -- queries

    def begin_dns(self, request: Request) -> Answer:
        """Answer at once if the copy has the service, or ask Nomad, or pass the query on."""
        name = request.name_wire
        if not is_subdomain(name, self.zone) or request.qclass != c.CLASS_IN:
            return apply_step(self.next.begin_dns(request), without_deadline, request)
        if request.flags & _OPCODE or request.qtype in c.TRANSFERS:
            return request.error(c.REFUSED, ede=_PROHIBITED)
        if name == self.zone:
            return self._apex(request)
        if self.source is None:
            return request.error(c.SERVFAIL, "Nomad has not been asked yet", _NOT_READY)
        parts = self._parts(name)
        if parts is None:
            return self._answer(request, Denial.NO_NAME, "")
        namespace, service = parts
        outcome = self.source.find(namespace, service)
        if outcome is None:
            return self._load(request, namespace, service)
        return self._answer(request, outcome, namespace)

    def _parts(self, name: bytes) -> tuple[str, str | None] | None:
        """Return the namespace and the service in a name below the zone.

        The service is None for the name of the namespace itself. The result is None if the name
        cannot exist.
        """
        labels = labels_of(name[: len(name) - len(self.zone)] + b"\0")
        if len(labels) > 2 or not _NAMESPACE.fullmatch(labels[-1]) or not labels[0].isascii():
            return None
        namespace = labels[-1].decode("ascii")
        return namespace, labels[0].decode("ascii") if len(labels) == 2 else None

    async def _load(self, request: Request, namespace: str, service: str | None) -> Reply:
        assert self.source is not None
        outcome = await self.source.load(namespace, service, client_of(request.client))
        answer: Any = self._answer(request, outcome, namespace)
        reply: Reply = await answer if hasattr(answer, "__await__") else answer
        return reply

    def _answer(self, request: Request, outcome: Outcome, namespace: str) -> Answer:
        end = len(request.name_wire) - len(self.zone)
        match outcome:
            case Answers():
                if outcome.has_hosts and request.qtype in _ALIASED:
                    return self._follow_hosts(request, namespace)
                reply = outcome.reply(request, end, self._serial)
            case Failure(reason):
                reply = request.error(c.SERVFAIL, reason, _UNREACHABLE)
            case Denial.NO_DATA:
                reply = denial(request, c.NOERROR, end, self._serial, self.settings.ttl)
            case Denial.NO_NAME:
                reply = denial(request, c.NXDOMAIN, end, self._serial, self.settings.ttl)
            case _:
                assert_never(outcome)
        return self._counted(request, reply, namespace)

    def _apex(self, request: Request) -> Reply:
        ttl = self.settings.ttl
        if request.qtype in (c.TYPE_SOA, c.TYPE_ANY):
            return soa_reply(request, self._serial, ttl)
        return denial(request, c.NOERROR, 0, self._serial, ttl)

    @property
    def _serial(self) -> int:
        return 0 if self.source is None else self.source.serial

    def _counted(self, request: Request, reply: Reply, namespace: str) -> Reply:
        """Count the reply, and its repetitions from the packet cache.

        Clients choose the namespace, so one that Nomad does not have is counted as "".
        """
        is_success = reply.wire[3] & 15 == c.NOERROR
        counter = metrics.SUCCESSES if is_success else metrics.FAILURES
        is_known = self.source is not None and namespace in self.source.namespaces
        value = counter.labels(request.context.server, namespace if is_known else "")
        value.value += 1
        if reply.deadline is not None:
            reply.hit_counters += (value,)
        return reply

    # -- RecordBackend

    async def _follow_hosts(self, request: Request, namespace: str) -> Reply:
        """Answer for a service with names of hosts, which are looked up by this server."""
        soa = soa_record(self.zone, self._serial, self.settings.ttl)
        found = BackendLookup(self, request, self.zone, soa)
        reply = await found.reply() or found.denial()
        if not found.has_lookups:
            reply.since, reply.deadline = request.received, request.received + REPEATED
        return self._counted(request, reply, namespace)

    async def services_at(self, request: Request, *, exact: bool) -> Sequence[Service] | None:
        """Return the services of a name."""
        name = request.name_wire
        if name == self.zone:
            return ()
        parts = self._parts(name)
        if parts is None or self.source is None:
            return None
        client = client_of(request.client)
        outcome = self.source.find(*parts) or await self.source.load(*parts, client)
        if not isinstance(outcome, Answers):
            return () if outcome is Denial.NO_DATA else None
        return [Service(name, it.address, it.port, ttl=outcome.ttl) for it in outcome.instances]

    async def services_of_address(self, request: Request) -> Sequence[Service] | None:
        """Return None: reverse names do not belong to the zone."""
        return None

    def backend_serial(self, zone: bytes) -> int:
        """Return the highest index of Nomad's state."""
        return self._serial

    # -- hooks

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Ask whether Nomad answers, and wait a moment for it."""
        if context.offline:
            return
        self.source = join(self.settings, self, context)
        metrics.show(self.source)
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT):
                await self.source.has_tried.wait()

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop to follow Nomad, unless a later generation does."""
        if self.source is not None:
            metrics.hide(self.source)
            leave(self.settings, self.source, self)

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Prepare to answer a single query."""
        await self.before_listen(context)

    @hookimpl
    def ready(self) -> bool:
        """Return whether Nomad has answered."""
        return self.source is not None and self.source.is_ready

    @hookimpl
    def status(self) -> Mapping[str, Any] | None:
        """Return the state of the copy."""
        source = self.source
        if source is None:
            return None
        namespaces = source.namespaces.values()
        return {
            "state": "ready" if source.is_ready else "not ready",
            "problems": source.problems.texts,
            "address": source.client.address,
            "namespaces": len(namespaces),
            "names": sum(len(it.names) for it in namespaces),
            "services in use": sum(len(it.copies) for it in namespaces),
        }

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the copy has the service, and how many instances."""
        name = request.name_wire
        if not is_subdomain(name, self.zone):
            return {"state": "the name is outside its zone"}
        found: dict[str, str | int] = {"zone": to_text(self.zone)}
        if name == self.zone or (parts := self._parts(name)) is None:
            return {"state": "zone" if name == self.zone else "no such name", **found}
        outcome = None if self.source is None else self.source.find(*parts)
        if outcome is None:
            return {"state": "not read yet", **found}
        if isinstance(outcome, Answers):
            return {"state": "found", **found, "instances": len(outcome.instances)}
        state = outcome.value if isinstance(outcome, Denial) else outcome.reason
        return {"state": state, **found}

    def queries_upstream(self, request: Request) -> bool:
        """Return whether Nomad has to be asked."""
        name = request.name_wire
        if self.source is None or name == self.zone or not is_subdomain(name, self.zone):
            return False
        parts = self._parts(name)
        return parts is not None and self.source.find(*parts) is None
