"""Parses server block keys: the zones of a block, with port and transport.

CoreDNS: core/dnsserver/register.go (InspectServerBlocks) and address.go. The same keys are accepted
as in CoreDNS; keys that are probably mistakes get a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy.corefile import zones
from corepy.corefile.diagnostics import CorefileError, Diagnostic, quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from corepy.corefile.model import ServerBlock, Token

_MAX_PORT = 65535


class ZoneAddress(NamedTuple):
    """A zone and the address it is served at."""

    zone: str
    """Fully qualified and in lower case."""

    port: int
    """0 lets the kernel choose."""

    transport: str
    """The scheme of the key, such as "dns" or "tls"."""

    token: Token
    """The key that contains the zone."""

    def __str__(self) -> str:
        return f"{self.transport}://{self.zone}:{self.port}"


def server_keys(
    block: ServerBlock, default_port: int, schemes: Mapping[str, int | None] = zones.SCHEMES
) -> list[ZoneAddress]:
    """Return the zones of the keys of `block`, in order; a network has several zones.

    `default_port` applies to keys without a port whose scheme has none in `schemes`, such as plain
    DNS. Raises `CorefileError` with every invalid key.
    """
    found: list[ZoneAddress] = []
    mistakes: list[Diagnostic] = []
    for token in block.keys:
        try:
            found += _addresses(token, default_port, schemes)
        except ValueError as error:
            mistakes.append(Diagnostic(str(error), token, _hint(token.text, schemes)))
    if mistakes:
        raise CorefileError(*mistakes)
    return found


def key_warnings(
    keys: Iterable[Token], schemes: Collection[str] = zones.SCHEMES
) -> Iterator[Diagnostic]:
    """Yield a warning for each key that is a valid zone, but probably meant as something else."""
    for token in keys:
        for what, hint in _likely_mistakes(token.text, schemes):
            message = f"{quote(token.text)} is taken as a zone, {what}"
            yield Diagnostic(message, token, hint, "warning")
            break


class OverlapChecker:
    """Finds zones that are served twice at one address (core/dnsserver/address.go: zoneOverlap).

    For the same zone, port and transport, a block that listens on all addresses overlaps with a
    block that listens on a specific one.
    """

    def __init__(self) -> None:
        """Start without zones."""
        self._everywhere: dict[tuple[str, int, str], ZoneAddress] = {}
        self._bound: dict[tuple[str, int, str], dict[str, ZoneAddress]] = {}

    def check(self, key: ZoneAddress, host: str, *, filtered: bool = False) -> Diagnostic | None:
        """Return an error if `key` cannot be served at the address `host` ("" for all), or None.

        A valid key is recorded. A `filtered` block (with a view) may share zone and address with
        others, so it is only checked for overlaps and not recorded.
        """
        place = key[:3]
        bound = self._bound.get(place, {})
        same = bound.get(host) if host else self._everywhere.get(place)
        if same is not None:
            return None if filtered else _clash(key, host, "it is already defined", same, host)
        other = self._everywhere.get(place) if host else next(reversed(bound.values()), None)
        if other is not None:
            at = "" if host else next(reversed(bound))
            return _clash(key, host, "it overlaps with another listen address", other, at)
        if filtered:
            return None
        if host:
            self._bound.setdefault(place, {})[host] = key
        else:
            self._everywhere[place] = key
        return None


def _addresses(
    token: Token, default_port: int, schemes: Mapping[str, int | None]
) -> list[ZoneAddress]:
    """Return the zones of one key. Raises `ValueError` if it is invalid."""
    transport, rest = zones.split_transport(token.text, schemes)
    names, port = zones.split_host_port(rest)
    for name in names:
        # With a final dot, a name of maximum length becomes too long.
        zones.split_host_port(zones.fqdn(name))
    if port is None:
        port = schemes[transport]
    if port is None:
        port = default_port
    if not 0 <= port <= _MAX_PORT:
        raise ValueError(f"port {port} is outside 0 to {_MAX_PORT}")
    return [ZoneAddress(zone, port, transport, token) for zone in zones.normalized(names)]


def _hint(text: str, schemes: Collection[str]) -> str | None:
    """Return a hint to fix an invalid key, if there is one."""
    rest = zones.split_transport(text, schemes)[1]
    if text.endswith("{"):
        return "put a space before the '{'"
    if rest.startswith(":") and rest[1:].isdigit():
        return f"write '.{rest}' for the root zone at that port"
    if rest.endswith(":"):
        return "write the port after the colon, or remove the colon"
    return None


def _likely_mistakes(text: str, schemes: Collection[str]) -> Iterator[tuple[str, str]]:
    transport, rest = zones.split_transport(text, schemes)
    before, _, port = rest.rpartition(":")
    host = before if port.isdigit() else rest
    if text == "import":
        hint = "a snippet that begins with an import can only be imported inside a block"
        yield "not as an import", hint
    if text == "}":
        yield "since no block is open here", "remove the brace, or open a block with '{'"
    if text.endswith("{"):
        yield "with the brace as its last character", "put a space before the '{'"
    if text.isdigit():
        yield "not as a port", f"write '.:{text}' for the root zone at that port"
    network, slash, _ = host.partition("/")
    if slash and zones.is_address(network) and not _expands(host):
        length = 128 if ":" in network else 32
        yield "not as a network", f"the length after the slash is a number from 0 to {length}"
    elif before and ":" not in before and host == rest and "://" not in rest:
        yield "colon included", f"a port is a number, such as {before}:53"
    elif _has_scheme_like(host, schemes):
        scheme, _, zone = host.partition(":")
        yield "colon included", f"a scheme ends with '://', such as {scheme}://{zone.lstrip('/')}"
    host = rest if zones.is_address(rest) else host.strip("[]")
    if zones.is_address(host):
        length = 128 if ":" in host else 32
        hint = f"use bind to set the listen address, or write {host}/{length} for the reverse zone"
        yield "not as an address", hint
    if "," in host:
        yield "comma included", "put a space after the comma to have several zones"
    yield from _likely_mistakes_of_scheme(transport, rest, schemes)


def _likely_mistakes_of_scheme(
    transport: str, rest: str, schemes: Collection[str]
) -> Iterator[tuple[str, str]]:
    if transport == zones.DEFAULT_SCHEME and "://" in rest:
        yield "scheme included", f"known schemes: {', '.join(sorted(schemes))}"
    if transport == "unix":
        yield (
            "but nothing is served there",
            "the forward plugin supports unix sockets, a server block does not",
        )
    path = rest.partition("/")[2]
    if transport.startswith("http") and path[:1].isalpha():  # 0/25.2.0.192.in-addr.arpa: RFC 2317
        yield "path included", "DNS over HTTPS has one path, /dns-query: write the zone only"


def _has_scheme_like(host: str, schemes: Collection[str]) -> bool:
    """Return whether a zone begins with a scheme and a colon, but without the slashes."""
    scheme, colon, zone = host.partition(":")
    return bool(colon) and scheme.lower() in schemes and not zone.startswith("//")


def _expands(host: str) -> bool:
    """Return whether a key is a network, which expands to reverse zones, or is invalid."""
    try:
        return zones.split_host_port(host).zones != [host]
    except ValueError:
        return True


def _clash(key: ZoneAddress, host: str, why: str, other: ZoneAddress, at: str) -> Diagnostic:
    message = f"cannot serve {_spot(key, host)}: {why}"
    return Diagnostic(
        message, key.token, related=((f"{_spot(other, at)} is defined", other.token),)
    )


def _spot(key: ZoneAddress, host: str) -> str:
    return f"{key} on {host}" if host else str(key)
