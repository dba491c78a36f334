"""Read the interfaces of this host and their addresses, without privileges and without state.

Only netlink maps an IPv4 address to its interface. /proc lists the local addresses without their
interfaces, and an address with a /32 (an anycast address on lo, nodecache's on a dummy) has no
route that would identify the interface. So getifaddrs(3) is tried first. It opens a netlink socket,
which cannot carry traffic, and closes it before it returns. Where that is forbidden (seccomp,
systemd's RestrictAddressFamilies) /proc is read: exact for IPv6, a guess for IPv4.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

Network = ipaddress.IPv4Network

_PROC = Path("/proc/net")
_IPV4_AT, _IPV6_AT = slice(4, 8), slice(8, 24)
_SOCKADDR_SIZE: dict[int, int] = {socket.AF_INET: 16, socket.AF_INET6: 28}


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The interfaces of the host and their addresses."""

    addresses: dict[str, list[str]]
    """The addresses by interface, IPv4 first; includes interfaces without addresses."""

    exact: bool
    """False if the IPv4 addresses were guessed from routes."""

    @property
    def names(self) -> list[str]:
        """The names, sorted."""
        return sorted(self.addresses)

    def hosts(self, name: str) -> list[str] | None:
        """Return the addresses of an interface as listen hosts, None if it does not exist.

        A link-local IPv6 address gets the interface as its zone (plugin/bind/setup.go, listIP).
        """
        found = self.addresses.get(name)
        return None if found is None else [_with_zone(address, name) for address in found]


def _with_zone(address: str, name: str) -> str:
    ip = ipaddress.ip_address(address)
    link_multicast = ip.is_multicast and ip.packed[1] & 15 == 2
    return (
        f"{address}%{name}" if ip.version == 6 and (ip.is_link_local or link_multicast) else address
    )


def read_interfaces(*, may_ask: bool = True) -> Interfaces:
    """Return the interfaces of this network namespace; empty if the system provides none.

    Without `may_ask` only files are read, because checking a configuration must not open sockets.
    """
    if not may_ask:
        return Interfaces(_from_proc(_PROC), False)
    try:
        return Interfaces(_from_libc(), True)
    except (OSError, AttributeError):  # forbidden, or a C library without getifaddrs
        return Interfaces(_from_proc(_PROC), False)


class _IfAddrs(ctypes.Structure):
    """The first fields of `struct ifaddrs` (getifaddrs(3)); the rest is not needed."""


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]


def _from_libc() -> dict[str, list[str]]:
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(first)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    found: dict[str, list[str]] = {}
    try:
        entry = first
        while entry:
            # An IPv4 address may have a label, such as eth0:1, instead of the interface's name.
            name = os.fsdecode(entry.contents.name).partition(":")[0]
            addresses = found.setdefault(name, [])
            address = _read_sockaddr(entry.contents.address)
            if address is not None:
                addresses.append(address)
            entry = entry.contents.next
    finally:
        libc.freeifaddrs(first)
    return found


def _read_sockaddr(pointer: int | None) -> str | None:
    """Return the IP address in a sockaddr; None for other families, such as AF_PACKET."""
    if not pointer:
        return None
    family = ctypes.c_ushort.from_address(pointer).value
    size = _SOCKADDR_SIZE.get(family)
    if size is None:
        return None
    raw = ctypes.string_at(pointer, size)
    return str(ipaddress.ip_address(raw[_IPV4_AT if family == socket.AF_INET else _IPV6_AT]))


def _from_proc(proc: Path) -> dict[str, list[str]]:
    names = [line.partition(":")[0].strip() for line in _lines(proc / "dev") if ":" in line]
    found: dict[str, list[str]] = {name: [] for name in names}
    routes = _routes(proc)
    for address in _local_ipv4(proc):
        name = _likely_interface(address, routes)
        if name in found:
            found[name].append(str(address))
    for line in _lines(proc / "if_inet6"):
        digits, *_, name = line.split()
        found.setdefault(name, []).append(str(ipaddress.IPv6Address(int(digits, 16))))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").splitlines()
    except OSError:
        return []


def _local_ipv4(proc: Path) -> list[ipaddress.IPv4Address]:
    """Return the host's own IPv4 addresses: those that fib_trie lists as "/32 host LOCAL"."""
    lines = _lines(proc / "fib_trie")
    found: dict[ipaddress.IPv4Address, None] = {}
    leaf = ""
    for line in lines:
        words = line.split()
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found[ipaddress.IPv4Address(leaf)] = None
    return list(found)


def _routes(proc: Path) -> list[tuple[Network, str]]:
    """Return the on-link networks with their interfaces, the longest prefix first."""
    routes = [(Network("127.0.0.0/8"), "lo")]
    for line in _lines(proc / "route")[1:]:
        name, destination, gateway, *_, mask, _, _, _ = line.split()
        if int(gateway, 16) == 0 and int(mask, 16):
            bits = int(mask, 16).bit_count()
            routes.append((Network((int(destination, 16).to_bytes(4, "little"), bits)), name))
    return sorted(routes, key=lambda route: -route[0].prefixlen)


def _likely_interface(
    address: ipaddress.IPv4Address, routes: list[tuple[Network, str]]
) -> str | None:
    return next((name for network, name in routes if address in network), None)
