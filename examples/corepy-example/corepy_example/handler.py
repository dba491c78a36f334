"""The handler that answers TXT queries for names in its zones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from corepy.dns.constants import TYPE_TXT
from corepy.dns.names import is_subdomain
from corepy.dns.records import rr
from corepy.plugin import Cacheability, Handler, LifecycleContext, hookimpl, metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.dns import Reply, Request

ANSWERS = metrics.counter(
    "coredns_example_answers_total", "Queries that example answered.", ("server",)
)


@dataclass(slots=True)
class Settings:
    """The options of the directive."""

    zones: dict[bytes, str] = field(default_factory=dict)
    """The zones to answer for: text form by wire form."""

    text: str = "Hello"
    ttl: int = 60


class ExampleHandler(Handler):
    """One directive of one server block; all queries of the block pass through this object."""

    name: ClassVar[str] = "example"
    # The reply depends only on the query, not on the client, the time or chance.
    cacheability = Cacheability.SAFE

    def __init__(self, settings: Settings) -> None:
        """Answer with the text and TTL in `settings`."""
        self.settings = settings
        text = settings.text.encode()
        self._rdata = bytes((len(text),)) + text
        self._serving = False

    async def serve_dns(self, request: Request) -> Reply:
        """Return the text, or the reply of the next handler."""
        if request.qtype != TYPE_TXT or self._zone_of(request) is None:
            return await self.next.serve_dns(request)
        ANSWERS.labels(request.context.server).inc()
        owner = request.question[:-4]  # the name, with the letter case of the query
        record = rr(owner, TYPE_TXT, self.settings.ttl, self._rdata)
        return request.reply(answer=[record], authoritative=True)

    def _zone_of(self, request: Request) -> str | None:
        """Return the longest zone that contains the query's name."""
        found = [zone for zone in self.settings.zones if is_subdomain(request.name_wire, zone)]
        return self.settings.zones[max(found, key=len)] if found else None

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Record that queries are answered now."""
        self._serving = True

    @hookimpl
    def ready(self) -> bool:
        """Return whether this plugin is ready; called by the plugin *ready*."""
        return self._serving

    @hookimpl
    def metadata(self, request: Request) -> Mapping[str, str] | None:
        """Return the labels that *log* and other plugins may use for this query."""
        zone = self._zone_of(request)
        return None if zone is None else {"example/zone": zone}
