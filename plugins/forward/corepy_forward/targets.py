"""Parses the TOs of a `forward` line: addresses, files like resolv.conf, and host names.

`resolve` reads the files. CoreDNS: plugin/pkg/parse/host.go, plugin/forward/resolve.go, setup.go.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from corepy.dns import names
from corepy.plugin import parse_unsigned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.plugin.reading import FileVersion

PORTS = {"dns": 53, "tls": 853, "https": 443, "quic": 853, "https3": 443}
"""The transports of upstreams, with their default ports."""

_PLACEHOLDER = re.compile("__[A-Z0-9_]+__|<nil>")
"""Placeholders in the Corefiles of node-cache, and its text for a variable that is not set."""

_OTHER_SCHEMES = ("grpc", "unix")


class MissingFileError(ValueError):
    """Raised for a TO that can only be a file, but the file does not exist."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no such file: {path!r}")
        self.path = path


class TargetError(ValueError):
    """Raised for an invalid TO; `hint` explains how to correct it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


class Target(NamedTuple):
    """The address of one upstream."""

    host: str
    """IP address, without scope."""

    port: int
    transport: str = "dns"
    server_name: str = ""
    """Name to send and verify in TLS."""

    scope: str = ""
    """Name or number of the network interface of a link-local address (plain DNS only)."""

    interface: int = 0
    """Number of that interface; set before the upstream is used."""

    path: str = "/dns-query"
    """The path of DNS over HTTPS."""

    authority: str = ""
    """The host of DNS over HTTPS, if it is not the name that is verified."""

    is_verified: bool = True
    """Whether its certificate is verified."""

    @property
    def context_name(self) -> str:
        """The key of its TLS context in the settings."""
        return self.transport if self.is_verified else f"unverified {self.transport}"

    @property
    def address(self) -> str:
        """The text for logs and metrics, such as "192.0.2.1:53" or "[fe80::1%eth0]:53".

        The name of an interface in a file need not be UTF-8.
        """
        scope = self.scope.encode("utf-8", "backslashreplace").decode()
        host = f"{self.host}%{scope}" if scope else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def connect_host(self) -> str:
        """The host in the form for asyncio's functions."""
        return f"{self.host}%{self.interface}" if self.interface else self.host

    @property
    def family(self) -> socket.AddressFamily:
        """The address family of a socket to this upstream."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The address in the form for the methods of a socket."""
        if ":" in self.host:
            return self.host, self.port, 0, self.interface
        return self.host, self.port


class Hostname(NamedTuple):
    """An upstream given by host name, which is resolved at start."""

    name: str
    port: int
    transport: str
    server_name: str


@dataclass(slots=True)
class ToAddress:
    """One TO of a `forward` line."""

    text: str
    targets: list[Target]
    """The upstreams of this TO; for a host name empty until it is resolved."""

    file: Path | None = None
    hostname: Hostname | None = None
    position: str = ""
    """Its position in the Corefile, as FILE:LINE."""

    positions: dict[Target, str] = field(default_factory=dict)
    """The positions of targets from a file, as FILE:LINE."""

    last: list[Target] = field(default_factory=list)
    """The targets used last, which stay in use while no current one is usable."""

    problems: list[str] = field(default_factory=list)
    """A message for each line or address that can never be used."""

    version: FileVersion | None = None
    """The version of the file that was read; None if the file must be read again."""


def split_transport(text: str) -> tuple[str, str]:
    """Return the scheme and the rest; without a known scheme, "dns" and the whole text."""
    scheme, mark, rest = text.partition("://")
    if mark and (scheme in PORTS or scheme in _OTHER_SCHEMES):
        return scheme, rest
    return "dns", text


def parse_target(text: str) -> ToAddress:
    """Parse one TO without reading a file; raises `ValueError`."""
    transport, rest = split_transport(text)
    if not rest:
        raise ValueError(f'invalid address: "{text}"')
    if transport not in PORTS:
        raise ValueError(f"'{transport}' is not supported as a destination protocol in forward")
    if transport in ("https", "https3") and "/" in rest:
        raise ValueError(
            "paths are not allowed in HTTPS upstream addresses (the path is always /dns-query):"
            f" {text}"
        )
    if not _is_file(rest):
        _refuse_several(rest)
        _refuse_scheme(rest)
    host, zone, port = _host_zone_port(rest)
    address = as_ip(host)
    if address is not None:
        if port is not None and "%" in port:
            _refuse_late_name(host, port)
        number = PORTS[transport] if port is None else parse_port(port)
        if transport == "dns":
            return ToAddress(text, [Target(address, number, scope=scope_of(address, zone))])
        return ToAddress(text, [Target(address, number, transport, server_name(zone))])
    if _is_file(rest):
        return ToAddress(text, [], file=Path(rest))
    if _PLACEHOLDER.fullmatch(host):
        raise ValueError(f"a placeholder that was not replaced: {host!r}")
    _refuse_no_host(host)
    hostname = _hostname(host, zone, port, transport)
    if hostname is None:
        if "/" in rest:
            raise MissingFileError(rest)
        raise ValueError(f'not an IP address, file, or valid domain: "{text}"')
    return ToAddress(text, [], hostname=hostname)


def is_address_or_file(text: str) -> bool:
    """Whether a word is an IP address, with or without a port, or an existing file."""
    rest = split_transport(text)[1]
    return as_ip(_host_zone_port(rest)[0]) is not None or _is_file(rest)


def _refuse_several(text: str) -> None:
    """Raise `TargetError` if a word has several upstreams."""
    if "," in text or any(char.isspace() for char in text):
        hint = "separate upstreams with spaces; the value of a variable stays one word"
        raise TargetError(f"more than one upstream in one word: {text!r}", hint)


def _refuse_scheme(text: str) -> None:
    """Raise `TargetError` for an unknown scheme."""
    scheme, mark, _ = text.partition("://")
    if mark and scheme.isalnum():
        message = f"'{scheme}' is not supported as a destination protocol in forward"
        raise TargetError(message, f"one of {', '.join(PORTS)}")


def _refuse_late_name(host: str, port: str) -> None:
    """Raise `TargetError` for a server name behind the port."""
    number, _, name = port.partition("%")
    hint = f"the server name precedes the port: {host}%{name}:{number}"
    raise TargetError(f"not a port number: {port!r}", hint)


def _refuse_no_host(host: str) -> None:
    """Raise `TargetError` for text that CoreDNS resolves although it is not a valid host name."""
    if "/" in host:
        return  # a missing file
    last = host.rstrip(".").rpartition(".")[2]
    if last.isdecimal():
        hint = "an IPv4 address has four numbers from 0 to 255"
        raise TargetError(f"not an IP address: {host!r}", hint)
    strange = next((char for char in host if not (char.isalnum() or char in "-_.[]")), None)
    if strange is not None:
        hint = f"{strange!r} is not allowed in a host name"
        if strange == ":":
            hint = "an IPv6 address with a port is [ADDRESS]:PORT"
        raise TargetError(f"not an IP address, file, or valid domain: {host!r}", hint)


def _is_file(text: str) -> bool:
    """Whether a TO is a file, not a host name, as far as this process may read directories."""
    try:
        mode = os.stat(text).st_mode
    except PermissionError:
        return "/" in text
    except (OSError, ValueError):  # it does not exist, or is not a path: too long, a NUL byte
        return False
    return "/" in text or not stat.S_ISDIR(mode)


def scope_of(address: str, zone: str) -> str:
    """Return `zone` if `address` is an IPv6 link-local address, which requires one; else ""."""
    return zone if ipaddress.ip_address(address).is_link_local and ":" in address else ""


def flaw(target: Target) -> str:
    """Return the reason why a socket can never connect to `target`; "" if it may."""
    address = ipaddress.ip_address(target.host)
    if address.is_multicast or target.host == "255.255.255.255":
        return f"{target.host} is not the address of a single host"
    if address.version == 6 and address.is_link_local and not target.scope:
        if target.transport != "dns":
            return f"a link-local address cannot be used over {target.transport}: {target.host}"
        return (
            f"a link-local address needs its network interface, such as {target.host}%eth0:"
            f" {target.host}"
        )
    return ""


def server_name(name: str) -> str:
    """Return the name to verify in TLS; raises `ValueError` if it is invalid."""
    if name == ".":
        raise ValueError("not a server name for TLS: '.'")
    if name:
        try:
            names.from_text(name)
        except ValueError as error:
            raise ValueError(f"not a server name for TLS: {name!r}: {error}") from None
    return name


def _host_zone_port(rest: str) -> tuple[str, str, str | None]:
    """Split an address into host, zone and port; the port may be missing (None)."""
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
    """Return an IP address in its canonical form; None if the text is not an IP address.

    An IPv4-mapped IPv6 address becomes the IPv4 address, as in Go.
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


def without_repeats(targets: Iterable[Target]) -> list[Target]:
    """Return `targets` without repeated addresses and ports of a transport (resolve.go)."""
    first: dict[tuple[str, str], Target] = {}
    for target in targets:
        first.setdefault((target.transport, target.address), target)
    return list(first.values())
