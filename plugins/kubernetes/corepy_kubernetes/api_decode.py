"""Decodes the API's JSON objects: only the fields that DNS needs remain.

A malformed field counts as missing. An object without a name is ignored, and so is one whose name
is to be a label in DNS but cannot be. The fields are those of the Kubernetes API: core/v1,
discovery.k8s.io/v1 and multicluster.x-k8s.io/v1alpha1.
"""

from __future__ import annotations

from datetime import datetime
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy_kubernetes.objects import (
    Import,
    Kind,
    Namespace,
    Pod,
    Port,
    Service,
    Slice,
    is_label,
    is_text,
    pack_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy_kubernetes.objects import Item, Needs

    Decoder = Callable[[Any], "Decoded | None"]

SERVICE_LABEL: Final = "kubernetes.io/service-name"
IMPORT_LABEL: Final = "multicluster.kubernetes.io/service-name"
CLUSTER_LABEL: Final = "multicluster.kubernetes.io/source-cluster"
TRIGGER: Final = "endpoints.kubernetes.io/last-change-trigger-time"

_LABELS: Final = frozenset((Kind.SERVICE, Kind.NAMESPACE, Kind.IMPORT))
"""The kinds whose names are labels in DNS."""

_SIZES: Final = {"IPv4": 4, "IPv6": 16}
_FIRST_YEAR: Final = 2000
"""An earlier time is that of a clock that was not set."""


class Decoded(NamedTuple):
    """An object, and what the client itself needs of it."""

    namespace: str
    name: str
    version: int
    """The resource version as a number, -1 if it is not one (KEP-5504 makes them comparable)."""

    item: Item | None
    """None for a pod that is terminating: it stays as it is known."""

    triggered: float | None = None
    """For a slice: when the service or pod changed that has changed it; seconds since the epoch."""


def decoder(kind: Kind, needs: Needs) -> Decoder:
    """Return the function that decodes an object of this kind, None if it has no usable name."""
    make = _MAKERS[kind]

    def decode(content: Any) -> Decoded | None:
        meta = _mapping(_mapping(content).get("metadata"))
        namespace, name = intern(_text(meta.get("namespace"))), _text(meta.get("name"))
        if not name or (kind in _LABELS and not is_label(name)):
            return None
        item = make(namespace, name, content, needs)
        version = version_number(meta.get("resourceVersion"))
        triggered = _trigger_time(meta) if kind is Kind.SLICE else None
        return Decoded(namespace, name, version, item, triggered)

    return decode


def version_number(version: object) -> int:
    """Return a resource version as a number, -1 for any other text."""
    text = _text(version)
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 30 else -1


def _service(namespace: str, name: str, content: Any, _: Needs) -> Service:
    spec = _mapping(content.get("spec"))
    balancer = _mapping(_mapping(content.get("status")).get("loadBalancer"))
    ips = _texts(spec.get("clusterIPs")) or [_text(spec.get("clusterIP"))]
    is_alias = spec.get("type") == "ExternalName"
    return Service(
        namespace,
        name,
        headless=ips[0] == "None",
        addresses=_packed(ips),
        ports=_ports(spec.get("ports"), "port"),
        external_name=_text(spec.get("externalName")) if is_alias else None,
        external=tuple(map(_address_or_name, _external(spec, balancer))),
    )


def _external(spec: dict[str, Any], balancer: dict[str, Any]) -> Iterable[str]:
    yield from _texts(spec.get("externalIPs"))
    for ingress in map(_mapping, _sequence(balancer.get("ingress"))):
        if place := _text(ingress.get("ip")) or _text(ingress.get("hostname")):
            yield place


def _address_or_name(text: str) -> bytes | str:
    packed = pack_address(text)
    return text if packed is None else packed


def _slice(namespace: str, name: str, content: Any, needs: Needs) -> Slice:
    labels = _mapping(_mapping(content.get("metadata")).get("labels"))
    size = _SIZES.get(_text(content.get("addressType")), 4)
    rows = list(_endpoints(content, size))
    return Slice(
        namespace,
        name,
        service=intern(_text(labels.get(SERVICE_LABEL))),
        ports=_ports(content.get("ports"), "port"),
        size=size,
        addresses=b"".join(row[0] for row in rows),
        hostnames=_column([_label(row[1].get("hostname")) for row in rows]),
        pods=_column([_pod_name(row[1]) for row in rows]) if needs.pod_names else (),
        zones=_column([_zone(row[1]) for row in rows]) if needs.zones else (),
        imported=intern(_text(labels.get(IMPORT_LABEL))) if needs.imports else "",
        cluster=intern(_text(labels.get(CLUSTER_LABEL))) if needs.imports else "",
    )


def _endpoints(content: dict[str, Any], size: int) -> Iterable[tuple[bytes, dict[str, Any]]]:
    """Yield the addresses of the ready endpoints, each with its endpoint."""
    for endpoint in _sequence(content.get("endpoints")):
        if type(endpoint) is not dict or _mapping(endpoint.get("conditions")).get("ready") is False:
            continue
        for text in _sequence(endpoint.get("addresses")):
            packed = pack_address(text) if type(text) is str else None
            if packed is not None and len(packed) == size:
                yield packed, endpoint


def _pod_name(endpoint: dict[str, Any]) -> str:
    return _label(_mapping(endpoint.get("targetRef")).get("name"))


def _zone(endpoint: dict[str, Any]) -> str:
    return intern(_text(endpoint.get("zone")).lower())


def _column(texts: list[str]) -> tuple[str, ...]:
    return tuple(texts) if any(texts) else ()


def _namespace(_: str, name: str, __: Any, ___: Needs) -> Namespace:
    return Namespace(intern(name))


def _pod(namespace: str, name: str, content: Any, needs: Needs) -> Pod | None:
    meta = _mapping(content.get("metadata"))
    if meta.get("deletionTimestamp"):
        return None
    status = _mapping(content.get("status"))
    ips = [_text(_mapping(it).get("ip")) for it in _sequence(status.get("podIPs"))]
    labels = _mapping(meta.get("labels")) if needs.pod_labels else {}
    return Pod(
        namespace,
        name,
        addresses=_packed(ips) or _packed([_text(status.get("podIP"))]),
        labels=tuple(
            (intern(key), intern(_text(value))) for key, value in labels.items() if is_text(key)
        ),
    )


def _import(namespace: str, name: str, content: Any, _: Needs) -> Import:
    spec = _mapping(content.get("spec"))
    return Import(
        namespace,
        name,
        headless=spec.get("type") == "Headless",
        addresses=_packed(_texts(spec.get("ips"))),
        ports=_ports(spec.get("ports"), "port"),
    )


_MAKERS: Final[dict[Kind, Callable[[str, str, Any, Needs], Item | None]]] = {
    Kind.SERVICE: _service,
    Kind.SLICE: _slice,
    Kind.NAMESPACE: _namespace,
    Kind.POD: _pod,
    Kind.IMPORT: _import,
}


def _ports(content: object, number: str) -> tuple[Port, ...]:
    return tuple(
        Port(
            intern(_text(port.get("name"))),
            intern(_text(port.get("protocol"))),
            _port_number(port.get(number)),
        )
        for port in _sequence(content)
        if type(port) is dict
    )


def _port_number(value: object) -> int:
    return value if type(value) is int and 0 <= value <= 0xFFFF else -1


def _trigger_time(meta: dict[str, Any]) -> float | None:
    text = _text(_mapping(meta.get("annotations")).get(TRIGGER))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.timestamp() if time.tzinfo is not None and time.year >= _FIRST_YEAR else None


def _packed(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(it for text in texts if (it := pack_address(text)) is not None)


def _mapping(value: object) -> dict[str, Any]:
    return value if type(value) is dict else {}


def _sequence(value: object) -> list[Any]:
    return value if type(value) is list else []


def _text(value: object) -> str:
    return value if type(value) is str and is_text(value) else ""


def _label(value: object) -> str:
    text = _text(value)
    return text if is_label(text) else ""


def _texts(value: object) -> list[str]:
    return [it for it in _sequence(value) if type(it) is str and is_text(it)]
