"""The schema of SkyDNS: keys and values of etcd, names and services (CoreDNS: plugin/etcd/msg).

The key of `www.example.org` is `/skydns/org/example/www`. Its value is a JSON object, such as
{"host": "192.0.2.1", "ttl": 60}.
"""

from __future__ import annotations

import json
from posixpath import normpath
from sys import intern
from typing import Any, Final, NamedTuple

from corepy.dns.names import InvalidName, from_text, labels_of, lower
from corepy.plugin.backend_records import parse_host
from corepy.plugin.protocols import Service

DEFAULT_PRIORITY: Final = 10
DEFAULT_TTL: Final = 300
"""Seconds, of a service without a TTL."""

LARGEST_VALUE: Final = 65536
"""Bytes of a value; a reply cannot be longer."""

_LARGEST: Final = {"priority": 0xFFFF, "port": 0xFFFF, "weight": 0xFFFF, "ttl": 0x7FFFFFFF}


class Entry(NamedTuple):
    """A key of etcd with its service."""

    key: bytes
    service: Service
    lease: int
    """The number of its lease, 0 without one."""

    size: int
    """Bytes of memory, about."""


class UnusableRecord(ValueError):
    """A key or a value that cannot be used; the message has the reason."""


def normalized_path(path: str) -> str:
    """Return the prefix of all keys in the form "/skydns/", for the option `path`."""
    inner = normpath("/" + path).strip("/")
    return f"/{inner}/" if inner else "/"


def name_of_key(key: bytes, prefix: bytes) -> bytes:
    """Return the name of a key, in wire form and lower case; raises `UnusableRecord`.

    The segments of a key are labels in presentation form, in reverse order.
    """
    segments = key[len(prefix) :].removesuffix(b"/").split(b"/")
    if b"" in segments:
        raise UnusableRecord("the key is not a domain name: it has an empty segment")
    text = b".".join(reversed(segments)).decode("utf-8", "surrogateescape")
    try:
        return lower(from_text(text))
    except InvalidName as error:
        raise UnusableRecord(f"the key is not a domain name: {error}") from None


def path_of_name(name: bytes) -> list[bytes]:
    """Return the labels of a name, the last one first."""
    return labels_of(name)[::-1]


def service_of_value(value: bytes, name: bytes) -> Service:
    """Return the service in a value; raises `UnusableRecord`.

    Members that the schema does not have are ignored, such as those of external-dns. A member that
    is null is as one that is not there (encoding/json).
    """
    members = _members(value)
    host = _text(members, "host")
    if host and not parse_host(host).rtype:
        raise UnusableRecord(f"the host {host[:80]!r} is neither an address nor a domain name")
    return Service(
        key=name,
        host=host,
        port=_number(members, "port"),
        priority=_number(members, "priority") or DEFAULT_PRIORITY,
        weight=_number(members, "weight"),
        text=intern(_text(members, "text")),
        is_mail=_flag(members, "mail"),
        ttl=_number(members, "ttl"),
        group=_text(members, "group"),
        stripped_labels=_number(members, "targetstrip"),
    )


def _members(value: bytes) -> dict[str, Any]:
    """Return the members of the object, with names in lower case, as Go matches them."""
    if len(value) > LARGEST_VALUE:
        raise UnusableRecord(f"the value has more than {LARGEST_VALUE} bytes")
    try:
        members = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UnusableRecord(f"the value is not JSON: {str(error)[:80]}") from None
    if not isinstance(members, dict):
        raise UnusableRecord("the value is not a JSON object")
    return {name.lower(): it for name, it in members.items() if it is not None}


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name, "")
    if not isinstance(value, str):
        raise UnusableRecord(f"{name} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableRecord(f"{name} has half of a surrogate pair") from None
    return value


def _flag(members: dict[str, Any], name: str) -> bool:
    value = members.get(name, False)
    if not isinstance(value, bool):
        raise UnusableRecord(f"{name} is neither true nor false")
    return value


def _number(members: dict[str, Any], name: str) -> int:
    value = members.get(name, 0)
    largest = _LARGEST.get(name, 0xFF)
    if type(value) is not int or not 0 <= value <= largest:
        raise UnusableRecord(f"{name} is not a whole number from 0 to {largest}")
    return value
