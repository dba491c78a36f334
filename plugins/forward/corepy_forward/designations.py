"""Reads the encrypted resolvers that a plain one designates, from SVCB records (RFC 9461, 9462)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import names
from corepy.dns.constants import CLASS_IN, TYPE_A, TYPE_AAAA, TYPE_SVCB
from corepy.dns.form_error import FormError
from corepy.dns.presentation import svcb
from corepy.dns.wire import ADDITIONAL, ANSWER, read_name, read_ttl, walk
from corepy_forward.targets import PORTS, Target, flaw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME: Final = b"\4_dns\x08resolver\4arpa\0"
"""The name that a plain resolver is asked for (RFC 9462 section 4)."""

MOST: Final = 8
"""Maximum number of designated upstreams that are tried."""

_TRANSPORTS: Final = {b"dot": "tls", b"h2": "https", b"doq": "quic", b"h3": "https3"}
"""Transports by ALPN protocol; those above are preferred, because they cost less here."""

_KNOWN: Final = frozenset(
    (svcb.ALPN, svcb.NO_DEFAULT_ALPN, svcb.PORT, svcb.IPV4HINT, svcb.IPV6HINT, svcb.DOHPATH)
)
_TEMPLATE: Final = "{?dns}"
_SIZES: Final = {4: TYPE_A, 16: TYPE_AAAA}


class Designation(NamedTuple):
    """A usable SVCB record."""

    priority: int
    name: bytes
    """The name of the designated resolver."""

    transports: tuple[str, ...]
    port: int
    """0 for the default ports of the transports."""

    path: str
    addresses: tuple[str, ...]
    """Its addresses, from the record and from the additional section."""


class Designations(NamedTuple):
    """The content of a reply."""

    found: list[Designation]
    """In the order in which they are to be tried."""

    ttl: int
    """Seconds for which it is valid; 0 without records."""


def read(wire: bytes) -> Designations:
    """Return the designated resolvers in a reply to a query for `NAME`.

    Records without a use are skipped: malformed ones, aliases, those with another name or with a
    parameter that is mandatory and unknown. Raise FormError for a malformed message.
    """
    found: list[Designation] = []
    ttls: list[int] = []
    known = _additional_addresses(wire)
    for section, rtype, rclass, ttl, rdata, length, owner, _ in walk(wire):
        if section != ANSWER or rtype != TYPE_SVCB or rclass != CLASS_IN:
            continue
        if read_name(wire, owner)[0].lower() != NAME:
            continue
        try:
            found.append(_read_record(wire[rdata : rdata + length], known))
        except FormError:
            continue
        ttls.append(read_ttl(wire, ttl))
    found.sort(key=lambda designation: designation.priority)
    return Designations(found, min(ttls, default=0))


def _additional_addresses(wire: bytes) -> dict[bytes, list[str]]:
    """Return the addresses in the additional section, by name."""
    addresses: dict[bytes, list[str]] = {}
    for section, rtype, rclass, _, rdata, length, owner, _ in walk(wire):
        if section == ADDITIONAL and rclass == CLASS_IN and _SIZES.get(length) == rtype:
            name = read_name(wire, owner)[0].lower()
            addresses.setdefault(name, []).append(_address(wire[rdata : rdata + length]))
    return addresses


def read_addresses(wire: bytes, qtype: int) -> list[str]:
    """Return the addresses in a reply to a query for type A or AAAA; raise FormError."""
    return [
        _address(wire[rdata : rdata + length])
        for section, rtype, rclass, _, rdata, length, _, _ in walk(wire)
        if section == ANSWER and rtype == qtype == _SIZES.get(length) and rclass == CLASS_IN
    ]


def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _read_record(rdata: bytes, known: dict[bytes, list[str]]) -> Designation:
    """Return the content of a record; raise FormError if it has no use."""
    name, at = read_name(rdata, 2) if len(rdata) > 2 else (b"", 0)
    priority, name = int.from_bytes(rdata[:2], "big"), name.lower()
    if not priority or len(name) < 2 or names.is_subdomain(name, NAME[5:]):
        raise FormError("not a designated resolver")
    values = svcb.params_of(rdata, at)
    mandatory = svcb.keys_of(values[svcb.MANDATORY]) if svcb.MANDATORY in values else ()
    if not _KNOWN.issuperset(mandatory):
        raise FormError("unknown mandatory key")
    path = _path(values.get(svcb.DOHPATH, b""))
    offered = svcb.protocols_of(values.get(svcb.ALPN, b""))
    transports = (it for protocol, it in _TRANSPORTS.items() if protocol in offered)
    usable = tuple(it for it in transports if path or not it.startswith("https"))
    hints = [
        *_hints(values.get(svcb.IPV4HINT, b""), 4),
        *_hints(values.get(svcb.IPV6HINT, b""), 16),
    ]
    port = int.from_bytes(values.get(svcb.PORT, b""), "big")
    addresses = tuple(dict.fromkeys([*hints, *known.get(name, ())]))
    return Designation(priority, name, usable, port, path, addresses)


def _hints(value: bytes, size: int) -> Iterator[str]:
    for start in range(0, len(value), size):
        yield _address(value[start : start + size])


def _path(template: bytes) -> str:
    """Return the path of a URI template such as `/dns-query{?dns}`, "" for any other form."""
    text = template.decode("ascii", "replace")
    path = text.removesuffix(_TEMPLATE)
    is_plain = path.startswith("/") and path.isprintable() and not set(path) & set("{} #?\ufffd")
    return path if path != text and is_plain else ""


def targets(
    plain: Target, designation: Designation, addresses: Iterable[str], *, is_opportunistic: bool
) -> Iterator[Target]:
    """Yield the upstreams at the addresses of a designated resolver, to be tried in this order.

    The certificate must contain the address of the plain upstream (RFC 9462 section 4.2). An
    opportunistic upstream (section 4.3) follows if it has the same address as the plain one, which
    is not a public one.
    """
    authority = names.to_text(designation.name).rstrip(".")
    for address in of_family(plain, addresses):
        for transport in designation.transports:
            target = Target(
                address,
                designation.port or PORTS[transport],
                transport,
                plain.host,
                path=designation.path or "/dns-query",
                authority=authority,
            )
            if flaw(target):
                continue
            yield target
            if is_opportunistic and address == plain.host and _is_private(address):
                yield target._replace(is_verified=False)


def of_family(plain: Target, addresses: Iterable[str]) -> list[str]:
    """Return the addresses of the family of the plain upstream, beginning with its own."""
    found = [it for it in addresses if (":" in it) == (":" in plain.host)]
    return sorted(found, key=lambda address: address != plain.host)


def _is_private(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found.is_private or found.is_link_local
