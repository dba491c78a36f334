"""The names of DNS-Based Service Discovery 1.1 (CoreDNS: plugin/kubernetes/parse.go).

    SERVICE.NAMESPACE.svc.ZONE
    ENDPOINT.SERVICE.NAMESPACE.svc.ZONE
    _PORT._PROTOCOL.SERVICE.NAMESPACE.svc.ZONE
    ENDPOINT.CLUSTER.SERVICE.NAMESPACE.svc.ZONE          in a multi-cluster zone
    TOPOLOGY-ZONE.pin|prefer._zone.SERVICE.NAMESPACE.svc.ZONE     with the option zonal
    ADDRESS.NAMESPACE.pod.ZONE

Names and labels are in wire form and lower case. A *key* identifies what the records of a name are
made of: the labels of service and namespace, an address, or `APEX`. If that changes, so do the
replies for all names with this key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import ROOT, from_text, labels_of, lower
from corepy_kubernetes.addresses import IN_ADDR, IP6, address_of, pod_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

APEX: Final = b""
"""The key of a zone's own name, and of that of its name server."""

SVC: Final = b"\x03svc"
POD: Final = b"\x03pod"
DNS: Final = b"\x03dns"
NAME_SERVER: Final = b"\x02ns\x03dns"
"""The labels of the name server in front of its zone."""


_KINDS: Final = (SVC[1:], POD[1:])
_ZONE_LABEL: Final = b"\x05_zone"
_DIRECTIVES: Final = {b"\x03pin": False, b"\x06prefer": True}
_FEW: Final = 4
_MAX_LABEL: Final = 63


class OwnZone:
    """A zone that the plugin answers for."""

    __slots__ = ("is_multicluster", "is_reverse", "text", "wire")

    def __init__(self, text: str, *, is_multicluster: bool = False) -> None:
        self.text = text
        self.wire = lower(from_text(text))
        self.is_multicluster = is_multicluster
        self.is_reverse = self.wire.endswith((IN_ADDR, IP6))

    def __repr__(self) -> str:
        return f"OwnZone({self.text!r})"


class OwnZones:
    """All zones of the plugin."""

    def __init__(self, zones: Iterable[str], multicluster: Iterable[str] = ()) -> None:
        """Take zones as `Controller.zones_from` returns them; some of them are `multicluster`."""
        several = set(multicluster)
        found = [OwnZone(zone, is_multicluster=zone in several) for zone in dict.fromkeys(zones)]
        self._longest_first = sorted(found, key=lambda zone: len(zone.wire), reverse=True)
        self._by_wire = {zone.wire: zone for zone in self._longest_first}
        self.all = tuple(found)
        self.primary = next((zone for zone in found if not zone.is_reverse), None)
        """The first zone that is not a reverse zone, which the targets of PTR records are in."""

    def get(self, wire: bytes) -> OwnZone | None:
        """Return the zone with this name."""
        return self._by_wire.get(wire)

    def find(self, name: bytes) -> tuple[OwnZone, list[int]] | None:
        """Return the longest zone that contains a name, and the offsets of the labels before it."""
        if len(self._longest_first) > _FEW:
            return self._find_among_many(name)
        for zone in self._longest_first:
            if name.endswith(zone.wire):
                offsets = _offsets(name, len(name) - len(zone.wire))
                if offsets is not None:
                    return zone, offsets
        return None

    def _find_among_many(self, name: bytes) -> tuple[OwnZone, list[int]] | None:
        offsets, at = list[int](), 0
        while True:
            zone = self._by_wire.get(name[at:])
            if zone is not None:
                return zone, offsets
            if not name[at]:
                return None
            offsets.append(at)
            at += name[at] + 1


def _offsets(name: bytes, end: int) -> list[int] | None:
    """Return the offsets of the labels before `end`; None if a label does not end there."""
    offsets, at = list[int](), 0
    while at < end:
        offsets.append(at)
        at += name[at] + 1
    return offsets if at == end else None


class Parts(NamedTuple):
    """The parts of a name in a zone, without the length bytes of labels; b"" for missing ones."""

    kind: bytes = b""
    """b"svc" or b"pod"; b"" for the zone itself, and for svc.ZONE and pod.ZONE."""

    namespace: bytes = b""
    service: bytes = b""
    endpoint: bytes = b""
    port: bytes = b""
    protocol: bytes = b""
    cluster: bytes = b""
    zone: str = ""
    """The topology zone."""

    prefers: bool = False
    """Whether all endpoints are meant if the topology zone has none."""

    key: bytes = b""
    """The labels of service and namespace with their lengths."""


EMPTY: Final = Parts()


def parse_name(
    name: bytes, offsets: Sequence[int], end: int, *, multicluster: bool, zonal: bool
) -> Parts | None:
    """Return the parts of a name whose zone begins at `end`; None without such a name.

    `offsets` are those of the labels before the zone.
    """
    count = len(offsets)
    if not count:
        return EMPTY
    kind = name[offsets[-1] + 1 : end]
    if kind not in _KINDS:
        return None
    if count == 1:
        return EMPTY
    namespace = name[offsets[-2] + 1 : offsets[-1]]
    if count == 2:
        return Parts(kind, namespace)
    start = offsets[-3]
    service, key = name[start + 1 : offsets[-2]], name[start : offsets[-1]]
    if count == 3:
        return Parts(kind, namespace, service, key=key)
    if count == 4:
        return Parts(kind, namespace, service, name[offsets[-4] + 1 : start], key=key)
    rest = Parts(kind, namespace, service, key=key)
    before = name[offsets[-4] : start]
    if count == 5:
        first = name[offsets[-5] + 1 : offsets[-4]]
        return _two_labels(rest, first, before[1:], multicluster=multicluster)
    if multicluster or not zonal or kind != SVC[1:] or before != _ZONE_LABEL:
        return None
    return _topology_zone(rest, name[: offsets[-4]], offsets[-5])


def _two_labels(parts: Parts, first: bytes, second: bytes, *, multicluster: bool) -> Parts:
    if multicluster and not (first.startswith(b"_") or second.startswith(b"_")):
        return parts._replace(endpoint=first, cluster=second)
    return parts._replace(port=first.removeprefix(b"_"), protocol=second.removeprefix(b"_"))


def _topology_zone(parts: Parts, labels: bytes, directive_at: int) -> Parts | None:
    """Add a topology zone, whose name may have several labels."""
    prefers = _DIRECTIVES.get(labels[directive_at:])
    if prefers is None:
        return None
    zone = b".".join(labels_of(labels[:directive_at] + ROOT))
    return parts._replace(zone=zone.decode("utf-8", "surrogateescape"), prefers=prefers)


def is_above_zonal_name(parts: Parts) -> bool:
    """Return whether names with topology zones are below this one: `_zone` and `pin._zone`."""
    if parts.endpoint == _ZONE_LABEL[1:]:
        return True
    return parts.protocol == b"zone" and parts.port in (b"pin", b"prefer")


def wire_label(text: str) -> bytes:
    """Return a label in wire form and lower case; b"" if the text cannot be a label."""
    raw = text.encode("utf-8", "surrogateescape").lower()
    return bytes((len(raw),)) + raw if 0 < len(raw) <= _MAX_LABEL else b""


def service_key(namespace: str, name: str) -> bytes:
    """Return the key of a service."""
    return wire_label(name) + wire_label(namespace)


def key_of(name: bytes, offsets: Sequence[int], end: int) -> bytes | None:
    """Return the key of a name whose zone begins at `end`; None if its reply never changes."""
    count = len(offsets)
    if not count:
        return APEX
    kind_at = offsets[-1]
    kind = name[kind_at:end]
    if kind[1:] in _KINDS:
        if count == 1:
            return None
        namespace_at = offsets[-2]
        if count == 2:
            return name[namespace_at:kind_at]
        if kind == SVC:
            return name[offsets[-3] : kind_at]
        return pod_address(name[offsets[-3] + 1 : namespace_at])
    return APEX if kind == DNS else address_of(name)


def external_key_of(name: bytes, zone: bytes) -> bytes | None:
    """Return the key of SERVICE.NAMESPACE.ZONE, or of a name below it, as k8s_external has them."""
    if not name.endswith(zone):
        return None
    end = len(name) - len(zone)
    offsets = _offsets(name, end)
    if offsets is None or len(offsets) < 2:
        return None if offsets is None else APEX
    return name[offsets[-2] : end]
