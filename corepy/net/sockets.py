"""Opens listening sockets with the options that all listeners share.

Sockets are opened with SO_REUSEPORT, as in CoreDNS, so a second process can serve the same address.
A wildcard host becomes one dual-stack IPv6 socket, or an IPv4 socket if the kernel has no IPv6.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corepy.net.reuseport import share_by_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

UDP_BUFFER = 4 * 1024 * 1024
"""Size of a UDP socket's buffers in bytes.

It is large enough to queue a burst, or the queries of a second without a server, in the kernel.
Without CAP_NET_ADMIN the kernel grants at most net.core.rmem_max.
"""

SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
TCP_BACKLOG = 1024
DISCARD = 9
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
"""IP_FREEBIND (linux/in.h) and IPV6_FREEBIND (linux/in6.h)."""

_ANY_IPV4: Final = "0.0.0.0"
_ANY_IPV6: Final = "::"
WILDCARDS: Final = ("", _ANY_IPV4, _ANY_IPV6)
"""The hosts that mean all addresses: of both families, or of one."""

IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)


class BindError(OSError):
    """A listening socket could not be opened; the message contains address, cause and advice."""

    def __str__(self) -> str:
        return self.strerror or ""


@dataclass(frozen=True, slots=True)
class Address:
    """A listen address.

    `host` is an IP address, possibly with %zone, or "" for all addresses of the host.
    """

    host: str
    port: int

    @property
    def is_wildcard(self) -> bool:
        """Whether a socket has this address for all addresses of the host, or of one family."""
        return self.host in WILDCARDS

    def __str__(self) -> str:
        """Return host:port, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def bound(address: Address) -> Address:
    """Return the address of the socket that is opened for `address`.

    It is 0.0.0.0 instead of all addresses on a host without IPv6. A zone becomes the name of its
    interface if it is the interface's index or another of its names.
    """
    if not address.host:
        return address if _has_ipv6() else Address(_ANY_IPV4, address.port)
    host, _, zone = address.host.partition("%")
    if zone:
        with contextlib.suppress(OSError, OverflowError):  # no such interface now
            index = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
            return Address(f"{host}%{socket.if_indextoname(index)}", address.port)
    return address


def address_of(sock: socket.socket) -> Address:
    """Return the address that a socket listens on, "" for both families (dual-stack)."""
    host, port, *scope = sock.getsockname()
    if scope and scope[1] and "%" not in host:
        host = f"{host}%{socket.if_indextoname(scope[1])}"
    return Address("" if _is_dual_stack(sock, host) else host, port)


def family_of(host: str) -> int:
    """Return the address family of all clients of a socket at `host`, 0 if it has both.

    1 is IPv4 and 2 is IPv6, as in `corepy.dns.Request.family`. `host` is "" for all addresses of
    both families. The result for an IPv4-mapped IPv6 address is 0, too.
    """
    if not host or host.startswith("::ffff:"):
        return 0
    return 2 if ":" in host else 1


def open_all(address: Address, protocols: Sequence[str]) -> list[socket.socket]:
    """Open a non-blocking socket of each protocol ("udp", "tcp") at `address`.

    With port 0 the kernel chooses one port for all. No interface needs to have the address yet.
    Raises `BindError`.
    """
    attempts = 1 if address.port else 20
    while True:
        attempts -= 1
        opened: list[socket.socket] = []
        try:
            for protocol in protocols:
                port = opened[0].getsockname()[1] if opened else address.port
                at = Address(address.host, port)
                opened.append(open_listening(protocol, at, shares=address.port != 0))
            return opened
        except BaseException as error:
            for sock in opened:
                sock.close()
            is_taken = isinstance(error, BindError) and error.errno == errno.EADDRINUSE
            if not (is_taken and opened and attempts):
                raise


def open_listening(protocol: str, address: Address, *, shares: bool = True) -> socket.socket:
    """Open one socket of a server; no interface needs to have the address yet.

    `shares` as for `open_udp`.
    """
    return (open_udp if protocol == "udp" else open_tcp)(address, free=True, shares=shares)


def open_udp(address: Address, *, free: bool = False, shares: bool = True) -> socket.socket:
    """Open and bind a UDP socket; with `free` no interface needs to have the address yet.

    With `shares` other servers of the same user may have the port already (SO_REUSEPORT), unless it
    is 0. Raises `BindError`.
    """
    sock = _open(address, socket.SOCK_DGRAM, free=free, shares=shares and address.port != 0)
    prepare_udp(sock, wildcard=address.is_wildcard)
    return sock


def prepare_udp(sock: socket.socket, *, wildcard: bool) -> None:
    """Set the options of a listening UDP socket, whether opened here or inherited."""
    for option, forced in ((socket.SO_RCVBUF, SO_RCVBUFFORCE), (socket.SO_SNDBUF, SO_SNDBUFFORCE)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, UDP_BUFFER)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, option, UDP_BUFFER)
    if wildcard:
        ask_packet_info(sock)


def open_tcp(address: Address, *, free: bool = False, shares: bool = True) -> socket.socket:
    """Open, bind and listen on a TCP socket; the arguments and `BindError` as for `open_udp`."""
    sock = _open(address, socket.SOCK_STREAM, free=free, shares=shares and address.port != 0)
    try:
        sock.listen(TCP_BACKLOG)
    except OSError as error:
        sock.close()
        raise _explained(error, address, "tcp") from error
    return sock


def ask_packet_info(sock: socket.socket) -> None:
    """Request the local address of every datagram from the kernel (packet information)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def leave_group(sock: socket.socket) -> bool:
    """Remove a UDP socket from its SO_REUSEPORT group, keeping the datagrams in its queue.

    The socket is connected to the discard port, which sends nothing. The kernel delivers only
    datagrams of the peer to a connected socket, and skips it when it picks a member of the group.
    Replies to other addresses can still be sent. The rest of the group shares the datagrams by the
    kernel's hash from now on. Return whether it worked; it fails on kernels without a route to
    loopback.
    """
    share_by_hash(sock)
    own = sock.getsockname()[0]
    mapped = "::ffff:127.0.0.1"  # for a dual-stack socket if IPv6 is disabled
    loopback = ("::1", mapped) if sock.family == socket.AF_INET6 else ("127.0.0.1",)
    for host in (*loopback, own):
        try:
            sock.connect((host, DISCARD))
        except OSError:
            continue
        return True
    return False


def own_address(sock: socket.socket) -> tuple[str | int, ...] | None:
    """Return the address of a listening socket for local clients; None if no interface has it.

    A wildcard socket is reached through loopback. If the system permits binding to any address
    (net.ipv4.ip_nonlocal_bind), all addresses appear to exist.
    """
    name: tuple[str | int, ...] = sock.getsockname()
    own = str(name[0])
    for host in _LOOPBACK.get("" if _is_dual_stack(sock, own) else own, (own,)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = (host, *(name[1:] if ":" in host else name[1:2]))
        with socket.socket(family, sock.type) as probe:
            try:
                probe.bind((host, 0, *found[2:]))
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
                    continue
        return found
    return None


_LOOPBACK = {"": ("127.0.0.1", "::1"), _ANY_IPV4: ("127.0.0.1",), _ANY_IPV6: ("::1",)}
"""IPv4 first for dual-stack sockets: hosts without IPv6 have them, too."""


def _is_dual_stack(sock: socket.socket, host: str) -> bool:
    is_any = host == _ANY_IPV6
    return is_any and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _open(address: Address, kind: socket.SocketKind, *, free: bool, shares: bool) -> socket.socket:
    protocol = "udp" if kind == socket.SOCK_DGRAM else "tcp"
    try:
        family, sockaddr = _resolve(address)
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _explained(error, address, protocol) from error
    try:
        _set_options(sock, dual_stack=not address.host)
        if free and address.host:
            _free(sock)
        if shares:
            _share_port(sock)
        sock.bind(sockaddr)
        _share_port(sock)  # not before: a port that the kernel chooses has one server only
    except OSError as error:
        sock.close()
        raise _explained(error, address, protocol) from error
    return sock


def _resolve(address: Address) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    if not address.host:
        if _has_ipv6():
            return socket.AF_INET6, (_ANY_IPV6, address.port, 0, 0)
        return socket.AF_INET, (_ANY_IPV4, address.port)
    try:
        info = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        _, percent, zone = address.host.partition("%")
        if not percent:
            raise
        raise OSError(errno.ENODEV, f"network interface {zone!r} does not exist") from None
    family, _, _, _, sockaddr = info[0]
    return family, sockaddr  # type: ignore[return-value]  # numeric hosts have the declared forms


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _share_port(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _set_options(sock: socket.socket, *, dual_stack: bool) -> None:
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)


def _free(sock: socket.socket) -> None:
    """Let `sock` be bound before an interface has its address, if the system supports it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(*FREEBIND[sock.family], 1)


def _explained(error: OSError, address: Address, protocol: str) -> BindError:
    advice = {
        errno.EADDRINUSE: "another program listens on this address; stop it, or choose another"
        " address (bind) or port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; use another port,"
        " such as -dns.port 1053",
        errno.EADDRNOTAVAIL: "no interface of this host has this address",
        errno.EAFNOSUPPORT: "this kernel does not support that address family",
    }.get(error.errno or 0, error.strerror or str(error))
    return BindError(error.errno, f"cannot listen on {protocol} {address}: {advice}")
