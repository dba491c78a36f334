"""The settings of the directive, and the URLs that its endpoints stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.http.http_client import HTTPTarget, parse_url

if TYPE_CHECKING:
    from corepy_trace.headers import HeaderField

DEFAULT_SERVICE: Final = "coredns"
DEFAULT_BACKLOG: Final = 1000
DEFAULT_BATCH: Final = 100
DEFAULT_INTERVAL: Final = 1.0
"""The defaults of zipkin-go's HTTP reporter, which CoreDNS uses (reporter/http/http.go)."""


class Kind(Enum):
    """The kinds of collectors, by their names in a Corefile."""

    ZIPKIN = "zipkin"
    DATADOG = "datadog"
    OTLP = "otlp"


class _Place(NamedTuple):
    """Where a kind of collector takes spans."""

    default: str
    """The endpoint without an argument."""

    path: str
    completes_url: bool
    """Whether the path is added to a URL without one."""


PLACES: Final = {
    Kind.ZIPKIN: _Place("localhost:9411", "/api/v2/spans", completes_url=False),
    Kind.DATADOG: _Place("localhost:8126", "/v0.4/traces", completes_url=True),
    Kind.OTLP: _Place("localhost:4318", "/v1/traces", completes_url=True),
}


class LocalEndpoint(NamedTuple):
    """The address that the server block listens on."""

    host: str
    """An IP address, "" if there are several."""

    port: int


@dataclass(slots=True)
class Settings:
    """The arguments and options of all *trace* directives of a block."""

    kind: Kind
    target: HTTPTarget
    local: LocalEndpoint
    every: int = 1
    service: str = DEFAULT_SERVICE
    client_server: bool = False
    analytics_rate: float = 0.0
    backlog: int = DEFAULT_BACKLOG
    batch: int = DEFAULT_BATCH
    interval: float = DEFAULT_INTERVAL
    headers: list[HeaderField] = field(default_factory=list)
    """Header fields of each request, which may be secrets."""


def target_of(kind: Kind, endpoint: str) -> HTTPTarget:
    """Return the target of an endpoint: a URL, or a host with an optional port.

    Without a port, the host of a zipkin endpoint is asked at port 80, as in CoreDNS, and that of a
    Datadog agent or an OTLP collector at its usual port. Raises `ValueError` for an endpoint that
    cannot be a URL.
    """
    place = PLACES[kind]
    endpoint = endpoint or place.default
    if not endpoint.lower().startswith(("http://", "https://")):
        if kind is Kind.ZIPKIN:
            return parse_url(f"http://{endpoint}{place.path}")
        host, slash, rest = endpoint.partition("/")
        if not _has_port(host):
            host += ":" + place.default.rpartition(":")[2]
        endpoint = f"http://{host}{slash}{rest}"
    target = parse_url(endpoint)
    path, mark, query = target.path.partition("?")
    if kind is Kind.DATADOG:
        path = path.rstrip("/")
        path = path if path.endswith(place.path) else path + place.path
    elif place.completes_url and path in ("", "/"):
        path = place.path + mark + query
    else:
        path = target.path
    return HTTPTarget(target.scheme, target.host, target.port, path, target.authorization)


def _has_port(text: str) -> bool:
    return ":" in text.rpartition("]")[2]
