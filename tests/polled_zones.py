"""An API of hosted zones in memory, and handlers that copy its zones."""

from contextlib import asynccontextmanager
from typing import ClassVar

import pluggy

from corepy.dns.names import from_text
from corepy.plugin import Fallthrough, LifecycleContext, ProcessGroup
from corepy.zone.polled_api import PolledZone, ZoneMissing
from corepy.zone.polled_handler import PolledHandler
from corepy.zone.polled_source import PolledSettings
from corepy.zone.replies import answer

SOA = ("@", 60, "SOA", "ns.example. admin.example. 1 3600 600 86400 60")
NS = ("@", 60, "NS", "ns.example.")


def absolute(owner):
    if owner == "@":
        return "example."
    return owner if owner.endswith(".") else f"{owner}.example."


class API:
    """Hosted zones by ID: lists of (owner, TTL, type, rdata); an owner is relative, or "@"."""

    def __init__(self, **zones):
        self.zones = {name: [SOA, NS, *records] for name, records in zones.items()}
        self.failure = None
        """Raised by each list, if set."""
        self.lists = 0
        self.clients = 0
        self.closed = 0

    def put(self, name, *records):
        self.zones[name] = [SOA, NS, *records]

    def client(self):
        self.clients += 1
        return self

    async def fetch(self, zone, intake):
        self.lists += 1
        if self.failure is not None:
            raise self.failure
        if zone.id not in self.zones:
            raise ZoneMissing("no such hosted zone")
        intake.begin_page(1000)
        for owner, ttl, rtype, rdata in self.zones[zone.id]:
            intake.add_text(absolute(owner), ttl, rtype, rdata)

    def close(self):
        self.closed += 1


class Polled(PolledHandler):
    """A handler for `API`."""

    name: ClassVar[str] = "polled"


def settings_for(api, refresh=3600.0, **more):
    return PolledSettings("polled", id(api), refresh, make_client=api.client, **more)


def polled(api, *ids, refresh=3600.0, fallthrough=None, **more):
    """A handler for copies of `example.`"""
    zones = [PolledZone(from_text("example."), it) for it in ids]
    return Polled(settings_for(api, refresh, **more), zones, fallthrough or Fallthrough())


class Forgotten:
    """Predicates that were passed to `forget_names`."""

    def __init__(self):
        self.predicates = []

    async def __call__(self, is_changed):
        self.predicates.append(is_changed)

    def has(self, name):
        return any(it(from_text(name)) for it in self.predicates)


def context_for(forgotten=None, group=None, **options):
    async def reload(_):
        return True

    return LifecycleContext(
        pluggy.PluginManager("corepy"),
        reload,
        lambda: None,
        forget_names=forgotten or Forgotten(),
        process_group=group or ProcessGroup(),
        **options,
    )


@asynccontextmanager
async def running(handler, forgotten=None, **options):
    """Call the hooks of a handler around the `with` block."""
    context = context_for(forgotten, **options)
    try:
        await handler.before_listen(context)
        yield handler
    finally:
        handler.shutdown(context)


def reply_of(zone, request):
    """The reply of a zone in wire form."""
    return answer(zone, request)[0].wire
