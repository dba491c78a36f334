"""The objects of a cluster as lines of JSON, for a snapshot and for the other processes.

A line is an array that begins with one of these words:

| line | meaning |
| --- | --- |
| `["put", KIND, FIELDS, TRIGGERED]` | an object; `TRIGGERED` is a time or null (`Feed.put`) |
| `["remove", KIND, NAMESPACE, NAME]` | an object is gone |
| `["synced", KIND]` | all objects of the kind have been sent |
| `["serials", INTERNAL, EXTERNAL, IMPORTS]` | `Serials` |

`FIELDS` are those of the tuple, with addresses in hexadecimal. Decoding validates each field, since
a snapshot is not trusted.
"""

from __future__ import annotations

import json
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy_kubernetes.objects import (
    KINDS,
    Import,
    Kind,
    Namespace,
    Pod,
    Port,
    Serials,
    Service,
    Slice,
    is_label,
    is_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_kubernetes.objects import Item

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_SIZES: Final = (4, 16)
_LATEST: Final = 1 << 40


class Put(NamedTuple):
    """An object was added or replaced."""

    kind: Kind
    item: Item
    triggered: float | None = None


class Removed(NamedTuple):
    """An object is gone."""

    kind: Kind
    namespace: str
    name: str


class Synced(NamedTuple):
    """All objects of a kind have been sent."""

    kind: Kind


Change = Put | Removed | Synced | Serials


def encode(change: Change) -> bytes:
    """Return a change as a line."""
    match change:
        case Put(kind, item, triggered):
            words = ["put", kind.value, _ENCODERS[type(item)](item), triggered]
        case Removed(kind, namespace, name):
            words = ["remove", kind.value, namespace, name]
        case Synced(kind):
            words = ["synced", kind.value]
        case _:
            words = ["serials", *change]
    return _dumps(words).encode("utf-8", "surrogatepass") + b"\n"


def decode(words: Any) -> Change:
    """Return the change that a decoded line means; raises ValueError for any other value."""
    match words:
        case ["put", str(kind), list(fields), triggered]:
            found = Kind(kind)
            time = None if triggered is None else float(_number(triggered, _LATEST))
            return Put(found, _decode_item(found, fields), time)
        case ["remove", str(kind), str(namespace), str(name)]:
            return Removed(Kind(kind), namespace, name)
        case ["synced", str(kind)]:
            return Synced(Kind(kind))
        case ["serials", *times] if len(times) == len(Serials._fields):
            return Serials(*(int(_number(it, _LATEST)) for it in times))
    raise ValueError("a line is not one of a snapshot")


def _decode_item(kind: Kind, fields: list[Any]) -> Item:
    try:
        return _DECODERS[kind](*fields)
    except TypeError as error:  # another number of fields
        raise ValueError(f"a line of {kind.value} is malformed: {error}") from None


def _encode_service(it: Service) -> list[Any]:
    external = [
        [address.hex()] if isinstance(address, bytes) else address for address in it.external
    ]
    addresses = [address.hex() for address in it.addresses]
    ports = list(map(list, it.ports))
    return [it.namespace, it.name, it.headless, addresses, ports, it.external_name, external]


def _decode_service(
    namespace: Any, name: Any, headless: Any, addresses: Any, ports: Any, alias: Any, external: Any
) -> Service:
    return Service(
        intern(_text(namespace)),
        _name(name),
        _flag(headless),
        tuple(map(_address, _list(addresses))),
        _ports(ports),
        None if alias is None else _text(alias),
        tuple(_address(*it) if isinstance(it, list) else _text(it) for it in _list(external)),
    )


def _encode_slice(it: Slice) -> list[Any]:
    ports = list(map(list, it.ports))
    shown = [it.namespace, it.name, it.service, ports, it.size, it.addresses.hex()]
    return [*shown, it.hostnames, it.pods, it.zones, it.imported, it.cluster]


def _decode_slice(
    namespace: Any,
    name: Any,
    service: Any,
    ports: Any,
    size: Any,
    addresses: Any,
    hostnames: Any,
    pods: Any,
    zones: Any,
    imported: Any,
    cluster: Any,
) -> Slice:
    packed = bytes.fromhex(_text(addresses))
    if size not in _SIZES or len(packed) % size:
        raise ValueError("a slice has addresses of another size")
    count = len(packed) // size
    return Slice(
        intern(_text(namespace)),
        _name(name),
        intern(_text(service)),
        _ports(ports),
        int(size),
        packed,
        _labels(hostnames, count),
        _labels(pods, count),
        tuple(map(intern, _column(zones, count))),
        intern(_text(imported)),
        intern(_text(cluster)),
    )


def _encode_namespace(it: Namespace) -> list[Any]:
    return [it.name]


def _decode_namespace(name: Any) -> Namespace:
    return Namespace(intern(_name(name)))


def _encode_pod(it: Pod) -> list[Any]:
    return [it.namespace, it.name, [address.hex() for address in it.addresses], it.labels]


def _decode_pod(namespace: Any, name: Any, addresses: Any, labels: Any) -> Pod:
    return Pod(
        intern(_text(namespace)),
        _name(name),
        tuple(map(_address, _list(addresses))),
        tuple(_label(*_list(it)) for it in _list(labels)),
    )


def _encode_import(it: Import) -> list[Any]:
    addresses = [address.hex() for address in it.addresses]
    return [it.namespace, it.name, it.headless, addresses, list(map(list, it.ports))]


def _decode_import(namespace: Any, name: Any, headless: Any, addresses: Any, ports: Any) -> Import:
    return Import(
        intern(_text(namespace)),
        _name(name),
        _flag(headless),
        tuple(map(_address, _list(addresses))),
        _ports(ports),
    )


_ENCODERS: Final[dict[type[Any], Callable[[Any], list[Any]]]] = {
    Service: _encode_service,
    Slice: _encode_slice,
    Namespace: _encode_namespace,
    Pod: _encode_pod,
    Import: _encode_import,
}
_DECODERS: Final[dict[Kind, Callable[..., Item]]] = {
    KINDS[Service]: _decode_service,
    KINDS[Slice]: _decode_slice,
    KINDS[Namespace]: _decode_namespace,
    KINDS[Pod]: _decode_pod,
    KINDS[Import]: _decode_import,
}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.40} is not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not is_text(value):
        raise ValueError(f"{value!r:.40} is not a text")
    return value


def _name(value: Any) -> str:
    if not _text(value):
        raise ValueError("an object has no name")
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.40} is not true or false")
    return value


def _number(value: Any, most: int) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -1 <= value <= most:
        raise ValueError(f"{value!r:.40} is not a number from -1 to {most}")
    return value


def _address(text: Any) -> bytes:
    packed = bytes.fromhex(_text(text))
    if len(packed) not in _SIZES:
        raise ValueError(f"{text!r:.40} is not an address")
    return packed


def _ports(rows: Any) -> tuple[Port, ...]:
    return tuple(_port(*_list(row)) for row in _list(rows))


def _port(name: Any, protocol: Any, number: Any) -> Port:
    return Port(intern(_text(name)), intern(_text(protocol)), int(_number(number, 0xFFFF)))


def _label(key: Any, value: Any) -> tuple[str, str]:
    return intern(_text(key)), intern(_text(value))


def _labels(texts: Any, count: int) -> tuple[str, ...]:
    found = _column(texts, count)
    for text in found:
        if text and not is_label(text):
            raise ValueError(f"{text!r:.40} is not a label")
    return found


def _column(texts: Any, count: int) -> tuple[str, ...]:
    found = tuple(map(_text, _list(texts)))
    if len(found) not in (0, count):
        raise ValueError(f"a slice has {count} addresses, but {len(found)} names or zones")
    return found
