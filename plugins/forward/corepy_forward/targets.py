"""TO of a `forward` line: addresses, files in the style of resolv.conf, host names.

CoreDNS: plugin/pkg/parse/host.go, plugin/forward/resolve.go, setup.go.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from corepy.dns import names
from corepy.plugin import parse_unsigned

if TYPE_CHECKING:
    from collections.abc import Iterable

PORTS = {"dns": 53, "tls": 853, "https": 443}
"""The protocols that an upstream may speak, with their default ports."""

_PLACEHOLDER = re.compile("__[A-Z0-9_]+__|<nil>")
"""As in the Corefiles of node-cache, and what it puts there for a variable that is not set."""

_OTHER_SCHEMES = ("quic", "grpc", "https3", "unix")


class MissingFileError(ValueError):
    """A TO that can only be meant for a file, which is not there."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no such file: {path!r}")
        self.path = path


class Target(NamedTuple):
    """One upstream."""

    host: str
    """IP address, without scope."""

    port: int
    transport: str = "dns"
    server_name: str = ""
    """Name to send and verify in TLS."""

    scope: str = ""
    """Interface of a link-local address (plain DNS only)."""

    @property
    def address(self) -> str:
        """The target in logs and metrics, such as "192.0.2.1:53" or "[2001:db8::1]:53"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def connect_host(self) -> str:
        """The address as the socket calls want it."""
        return f"{self.host}%{self.scope}" if self.scope else self.host


class Hostname(NamedTuple):
    """An upstream given by name, to be looked up at start."""

    name: str
    port: int
    transport: str
    server_name: str


@dataclass(slots=True)
class Entry:
    """One TO."""

    text: str
    targets: list[Target]
    """What it means now; for a host name empty until it is looked up."""

    file: Path | None = None
    hostname: Hostname | None = None


def split_transport(text: str) -> tuple[str, str]:
    """Return the scheme, "dns" if there is none that we know, and the rest."""
    scheme, mark, rest = text.partition("://")
    if mark and (scheme in PORTS or scheme in _OTHER_SCHEMES):
        return scheme, rest
    return "dns", text


def parse_target(text: str) -> Entry:
    """Return what one TO means, reading the file if it is one; raises `ValueError`.

    A file without name servers gives an entry without targets.
    """
    transport, rest = split_transport(text)
    if not rest:
        raise ValueError(f'invalid address: "{text}"')
    if transport not in PORTS:
        raise ValueError(f"'{transport}' is not supported as a destination protocol in forward")
    if transport == "https" and "/" in rest:
        raise ValueError(
            "paths are not allowed in HTTPS upstream addresses (/dns-query is what is asked for):"
            f" {text}"
        )
    host, zone, port = _host_zone_port(rest)
    address = as_ip(host)
    if address is not None:
        number = PORTS[transport] if port is None else parse_port(port)
        scope = zone if transport == "dns" else ""
        server_name = zone if transport != "dns" else ""
        return Entry(text, [Target(address, number, transport, server_name, scope)])
    path = Path(rest)
    if path.exists():
        return Entry(text, read_resolv_conf(path), file=path)
    if _PLACEHOLDER.fullmatch(host):
        raise ValueError(f"a placeholder that nothing has replaced: {host!r}")
    hostname = _hostname(host, zone, port, transport)
    if hostname is None:
        if "/" in rest:
            raise MissingFileError(rest)
        raise ValueError(f'not an IP address, file, or valid domain: "{text}"')
    return Entry(text, [], hostname=hostname)


def _host_zone_port(rest: str) -> tuple[str, str, str | None]:
    """Take an address apart; the port is None where there is none."""
    split = split_host_port(rest)
    host, port = (rest.strip("[]"), None) if split is None else split
    address, percent, zone = host.rpartition("%")
    return (address, zone, port) if percent else (host, "", port)


def split_host_port(text: str) -> tuple[str, str] | None:
    """Return the parts of "host:port" or "[host]:port", else None (Go: net.SplitHostPort)."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest[1:]
        good = bracket and rest.startswith(":") and not set(port) & set("[]:")
        return (host, port) if good else None
    host, colon, port = text.rpartition(":")
    return None if not colon or set(text) & set("[]") or ":" in host else (host, port)


def as_ip(text: str) -> str | None:
    """Return an IP address in its shortest spelling, None if it is none.

    An IPv4-mapped IPv6 address is the IPv4 address, as for Go.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)


def parse_port(text: str) -> int:
    """Return a port number; raises `ValueError`."""
    port = parse_unsigned(text, 65535)
    if not port:
        raise ValueError(f"not a port number: {text!r}")
    return port


def _hostname(host: str, zone: str, port: str | None, transport: str) -> Hostname | None:
    host = host.strip("[]")
    try:
        wire = names.from_text(host)
    except ValueError:
        return None
    if len(wire) == 1 or "/" in host:
        return None
    number = PORTS[transport] if port is None else parse_port(port)
    return Hostname(host, number, transport, zone)


def read_resolv_conf(path: Path) -> list[Target]:
    """Return the name servers that a file in the style of resolv.conf names (`nameserver` lines).

    Raises `ValueError` for a file that cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror}") from None
    targets = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            host, _, scope = words[1].partition("%")
            address = as_ip(host)
            if address is not None:
                targets.append(Target(address, PORTS["dns"], scope=scope))
    return targets


def without_repeats(targets: Iterable[Target]) -> list[Target]:
    """Return `targets` without those whose address and port came before (resolve.go)."""
    first: dict[str, Target] = {}
    for target in targets:
        first.setdefault(target.address, target)
    return list(first.values())
