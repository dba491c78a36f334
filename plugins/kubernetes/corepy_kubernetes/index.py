"""The objects of a cluster, with a table for each way in which DNS looks them up.

It takes the objects from the client of the API (`objects.Feed`). A change costs as much as the
object has addresses. Tables have few objects per endpoint, because a cluster has many: the
addresses of a slice are one `bytes`, and tables that are keyed by address contain the name of the
slice, which is one string for all of its addresses.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from corepy_kubernetes.names import service_key
from corepy_kubernetes.objects import (
    KINDS,
    Import,
    Item,
    Kind,
    Namespace,
    Needs,
    Pod,
    Serials,
    Service,
    Slice,
)
from corepy_kubernetes.tables import (
    Several,
    add_value,
    bare_addresses,
    discard_value,
    named_addresses,
    set_or_remove,
    values_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

_NO_SLICES: Final[tuple[Slice, ...]] = ()


class ChangeSink(Protocol):
    """Gets the keys of the replies that have changed."""

    def changed(self, key: bytes) -> None:
        """Take note that the replies for names with this key have changed; see `names`."""

    def changed_namespaces(self) -> None:
        """Take note that the replies for all names may have changed."""


class LatencyObserver(Protocol):
    """Measures how long changes of endpoints take to arrive."""

    def observe(self, service: Service, triggered: float) -> None:
        """Count a change of a slice of `service` that something at `triggered` has caused."""


class Index:
    """The objects of a cluster."""

    def __init__(
        self,
        needs: Needs,
        sink: ChangeSink,
        *,
        namespaces: Container[str] | None = None,
        latency: LatencyObserver | None = None,
        now: Callable[[], float] = time.time,  # time of day: the serial is one
    ) -> None:
        """Expose `namespaces`, by default all; `now` returns seconds since the epoch."""
        self._sink = sink
        self.configured = namespaces
        """The namespaces that may be exposed, None for all."""
        self._latency = latency
        self._now = now
        self._unsynced = set(needs.kinds())
        self.kinds = needs.kinds()
        self.serials = Serials()
        self.exposed: set[bytes] = set()
        """The namespaces whose names exist."""
        self.services: dict[bytes, Service] = {}
        self.imports: dict[bytes, Import] = {}
        self.slices_of: dict[bytes, tuple[Slice, ...]] = {}
        """The slices of each service."""
        self.slices_of_import: dict[bytes, tuple[Slice, ...]] = {}
        self._items: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        self._by_cluster_ip: Several[bytes] = {}
        self._by_external_ip: Several[bytes] = {}
        self._by_endpoint: Several[str] = {}
        self._by_pod_address: Several[str] = {}
        self._putters: dict[Kind, Callable[[Any, Any], None]] = {
            Kind.SERVICE: self._set_service,
            Kind.SLICE: self._set_slice,
            Kind.NAMESPACE: self._set_namespace,
            Kind.POD: self._set_pod,
            Kind.IMPORT: self._set_import,
        }

    @property
    def synced(self) -> bool:
        """Whether there was a whole list of each kind that is needed."""
        return not self._unsynced

    def has_synced(self, kind: Kind) -> bool:
        """Return whether there was a whole list of this kind."""
        return kind not in self._unsynced

    def put(self, item: Item, triggered: float | None = None) -> None:
        """Add or replace an object (`Feed.put`)."""
        kind = KINDS[type(item)]
        known = self._items[kind]
        id_ = _id(item.namespace, item.name)
        before = known.get(id_)
        if before == item:
            return
        known[id_] = item
        self._putters[kind](before, item)
        if triggered is not None and self._latency is not None and type(item) is Slice:
            service = self.services.get(service_key(item.namespace, item.service))
            if service is not None and self.has_synced(Kind.SLICE):
                self._latency.observe(service, triggered)

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Remove an object; without effect if it is not known."""
        before = self._items[kind].pop(_id(namespace, name), None)
        if before is not None:
            self._putters[kind](before, None)

    def relist(self, kind: Kind) -> Relist:
        """Begin a list of all objects of a kind; nothing is removed before its end."""
        return Relist(self, kind)

    def synced_with(self, kind: Kind, ids: set[str]) -> None:
        """Remove the objects of a kind that are not in `ids`; the others were all put."""
        for id_ in [it for it in self._items[kind] if it not in ids]:
            item = self._items[kind][id_]
            self.remove(kind, item.namespace, item.name)
        if kind in self._unsynced:
            self._unsynced.discard(kind)
            if self.synced:  # names that do not exist got SERVFAIL so far
                self._sink.changed_namespaces()

    def items(self, kind: Kind) -> Iterator[Item]:
        """Yield the objects of a kind; they must not change meanwhile."""
        yield from self._items[kind].values()

    def count(self, kind: Kind) -> int:
        """Return the number of objects of a kind."""
        return len(self._items[kind])

    # Look-ups.

    def service_at(self, address: bytes) -> Service | None:
        """Return the service with this cluster IP whose namespace is exposed."""
        return next(self._exposed_services(self._by_cluster_ip, address), None)

    def services_outside(self, address: bytes) -> Iterator[Service]:
        """Yield the services with this external IP whose namespaces are exposed."""
        return self._exposed_services(self._by_external_ip, address)

    def slices_at(self, address: bytes) -> Iterator[Slice]:
        """Yield the slices with an endpoint at this address."""
        slices: dict[str, Slice] = self._items[Kind.SLICE]
        for id_ in values_of(self._by_endpoint, address):
            yield slices[id_]

    def pods_at(self, address: bytes) -> Iterator[Pod]:
        """Yield the pods with this address."""
        pods: dict[str, Pod] = self._items[Kind.POD]
        for id_ in values_of(self._by_pod_address, address):
            yield pods[id_]

    def is_exposed(self, namespace: str) -> bool:
        """Return whether the names of a namespace exist."""
        return namespace.encode() in self.exposed

    def _exposed_services(self, table: Several[bytes], address: bytes) -> Iterator[Service]:
        for key in values_of(table, address):
            service = self.services[key]
            if self.is_exposed(service.namespace):
                yield service

    # Changes.

    def _touch(self, *, external: bool = False, imports: bool = False) -> None:
        now = int(self._now())
        if imports:
            self.serials = self.serials._replace(imports=now)
        elif external:
            self.serials = self.serials._replace(internal=now, external=now)
        else:
            self.serials = self.serials._replace(internal=now)

    def _set_service(self, before: Service | None, after: Service | None) -> None:
        service = after or before
        assert service is not None
        key = service_key(service.namespace, service.name)
        old, new = before or _NO_SERVICE, after or _NO_SERVICE
        set_or_remove(self.services, key, after)
        self._move(self._by_cluster_ip, key, set(old.addresses), set(new.addresses))
        outside = _addresses(old), _addresses(new)
        self._move(self._by_external_ip, key, *outside)
        self._sink.changed(key)
        ports_changed = old.ports != new.ports and bool(old.external or new.external)
        self._touch(external=old.external != new.external or ports_changed)

    def _move(self, table: Several[bytes], key: bytes, old: set[bytes], new: set[bytes]) -> None:
        for address in old - new:
            discard_value(table, address, key)
            self._sink.changed(address)
        for address in new - old:
            add_value(table, address, key)
            self._sink.changed(address)

    def _set_slice(self, before: Slice | None, after: Slice | None) -> None:
        slice_ = after or before
        assert slice_ is not None
        id_ = _id(slice_.namespace, slice_.name)
        old, new = named_addresses(before), named_addresses(after)
        old_addresses, new_addresses = bare_addresses(old), bare_addresses(new)
        for address in old_addresses - new_addresses:
            discard_value(self._by_endpoint, address, id_)
        for address in new_addresses - old_addresses:
            add_value(self._by_endpoint, address, id_)
        moved = before is not None and after is not None and before.service != after.service
        for address in old_addresses | new_addresses if moved else bare_addresses(old ^ new):
            self._sink.changed(address)
        self._regroup(before, after)

    def _regroup(self, before: Slice | None, after: Slice | None) -> None:
        """Replace a slice among those of its service, and of its import."""
        for table, attribute in ((self.slices_of, "service"), (self.slices_of_import, "imported")):
            touched = False
            for slice_ in dict.fromkeys((before, after)):
                if slice_ is None or not getattr(slice_, attribute):
                    continue
                key = service_key(slice_.namespace, getattr(slice_, attribute))
                others = tuple(it for it in table.get(key, _NO_SLICES) if it is not before)
                set_or_remove(table, key, (*others, slice_) if slice_ is after else others)
                self._sink.changed(key)
                touched = True
            if touched:
                self._touch(imports=attribute == "imported")

    def _set_namespace(self, before: Namespace | None, after: Namespace | None) -> None:
        namespace = after or before
        assert namespace is not None
        if self.configured is not None and namespace.name not in self.configured:
            return
        if after is None:
            self.exposed.discard(namespace.name.encode())
        else:
            self.exposed.add(namespace.name.encode())
        self._sink.changed_namespaces()

    def _set_pod(self, before: Pod | None, after: Pod | None) -> None:
        pod = after or before
        assert pod is not None
        id_ = _id(pod.namespace, pod.name)
        old = set(before.addresses) if before else set()
        new = set(after.addresses) if after else set()
        for address in old - new:
            discard_value(self._by_pod_address, address, id_)
        for address in new - old:
            add_value(self._by_pod_address, address, id_)
        for address in old ^ new:
            self._sink.changed(address)
        if old != new:
            self._touch()

    def _set_import(self, before: Import | None, after: Import | None) -> None:
        item = after or before
        assert item is not None
        key = service_key(item.namespace, item.name)
        set_or_remove(self.imports, key, after)
        self._sink.changed(key)
        self._touch(imports=True)


class Relist:
    """A list of all objects of a kind, which replaces those that are known (`objects.Relist`)."""

    def __init__(self, index: Index, kind: Kind) -> None:
        self._index = index
        self._kind = kind
        self._ids: set[str] = set()

    def put(self, item: Item) -> None:
        """Add or replace an object of the list."""
        self._ids.add(_id(item.namespace, item.name))
        self._index.put(item)

    def finish(self) -> None:
        """End the list: remove the objects that are not in it."""
        self._index.synced_with(self._kind, self._ids)
        self._ids = set()


_NO_SERVICE: Final = Service("", "", False, (), ())


def _id(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"


def _addresses(service: Service) -> set[bytes]:
    """Return the external IPs of a service, without host names."""
    return {it for it in service.external if isinstance(it, bytes)}
