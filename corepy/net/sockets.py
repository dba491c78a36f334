"""Opening listening sockets: one place for the options that every listener shares.

Sockets are opened with SO_REUSEPORT, as CoreDNS does, so a second process can serve the same
address. A wildcard host becomes one dual-stack IPv6 socket, or an IPv4 one where the kernel has no
IPv6.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass

UDP_BUFFER = 4 * 1024 * 1024
"""Bytes of the UDP socket's buffers: a burst, or the queries of a second without a server, must
wait in the kernel rather than be lost. Without CAP_NET_ADMIN it grants at most net.core.rmem_max.
"""

SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
TCP_BACKLOG = 1024
DISCARD = 9
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
"""IP_FREEBIND (linux/in.h) and IPV6_FREEBIND (linux/in6.h)."""

IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)


class BindError(OSError):
    """A listening socket could not be opened; the message says where, why and what to do."""

    def __str__(self) -> str:
        return self.strerror or ""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `host` is an IP address, possibly with %zone, or "" for all of this
    machine's.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """Return host:port, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_pair(address: Address) -> tuple[socket.socket, socket.socket]:
    """Open the UDP socket and the listening TCP socket of `address`, non-blocking.

    With port 0 the system picks one port for both. The address need not be there yet. Raises
    `BindError`.
    """
    attempts = 1 if address.port else 20
    while True:
        attempts -= 1
        udp = open_udp(address, free=True)
        port = udp.getsockname()[1]
        try:
            return udp, open_tcp(Address(address.host, port), free=True)
        except BindError as error:
            udp.close()
            if not attempts or error.errno != errno.EADDRINUSE:
                raise
        except BaseException:
            udp.close()
            raise


def open_udp(address: Address, *, free: bool = False) -> socket.socket:
    """Open and bind a UDP socket; with `free` no interface needs to have the address yet.

    Raises `BindError`.
    """
    sock = _open(address, socket.SOCK_DGRAM, free=free)
    prepare_udp(sock, wildcard=not address.host)
    return sock


def prepare_udp(sock: socket.socket, *, wildcard: bool) -> None:
    """Give a UDP socket, ours or inherited, the options that listening takes."""
    for option, forced in ((socket.SO_RCVBUF, SO_RCVBUFFORCE), (socket.SO_SNDBUF, SO_SNDBUFFORCE)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, UDP_BUFFER)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, option, UDP_BUFFER)
    if wildcard:
        ask_packet_info(sock)


def open_tcp(address: Address, *, free: bool = False) -> socket.socket:
    """Open, bind and listen on a TCP socket; `free` and `BindError` as for `open_udp`."""
    sock = _open(address, socket.SOCK_STREAM, free=free)
    try:
        sock.listen(TCP_BACKLOG)
    except OSError as error:
        sock.close()
        raise _explained(error, address, "tcp") from error
    return sock


def ask_packet_info(sock: socket.socket) -> None:
    """Let the kernel say, with every datagram, which local address it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def leave_group(sock: socket.socket) -> bool:
    """Let a UDP socket be chosen no more for new datagrams, without losing those in its queue.

    A connected socket gets datagrams from its peer only, and is passed over when the kernel picks a
    member of a SO_REUSEPORT group; nobody sends from the discard port. Replies to others can still
    be sent. Returns whether it worked; it does not on kernels that know no route to loopback.
    """
    own = sock.getsockname()[0]
    mapped = "::ffff:127.0.0.1"  # for a dual-stack socket where IPv6 is switched off
    loopback = ("::1", mapped) if sock.family == socket.AF_INET6 else ("127.0.0.1",)
    for host in (*loopback, own):
        try:
            sock.connect((host, DISCARD))
        except OSError:
            continue
        return True
    return False


def own_address(sock: socket.socket) -> tuple[str | int, ...] | None:
    """Return where a listening socket can be reached from this machine, None while its address is
    on no interface.

    A wildcard socket is reached at loopback. Where the system lets everybody bind to any address
    (net.ipv4.ip_nonlocal_bind) all addresses seem to be there.
    """
    name: tuple[str | int, ...] = sock.getsockname()
    for host in _LOOPBACK.get(str(name[0]), (str(name[0]),)):
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


_LOOPBACK = {"0.0.0.0": ("127.0.0.1",), "::": ("127.0.0.1", "::1")}
"""IPv4 first: hosts without IPv6 have dual-stack sockets, too."""


def _open(address: Address, kind: socket.SocketKind, *, free: bool) -> socket.socket:
    protocol = "udp" if kind == socket.SOCK_DGRAM else "tcp"
    try:
        family, sockaddr = _resolve(address)
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _explained(error, address, protocol) from error
    try:
        _set_options(sock, wildcard=not address.host)
        if free and address.host:
            _free(sock)
        if address.port or kind == socket.SOCK_STREAM:
            _share_port(sock)
        sock.bind(sockaddr)
        _share_port(sock)  # else the kernel may choose a port that another such UDP socket has
    except OSError as error:
        sock.close()
        raise _explained(error, address, protocol) from error
    return sock


def _resolve(address: Address) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    if not address.host:
        if _has_ipv6():
            return socket.AF_INET6, ("::", address.port, 0, 0)
        return socket.AF_INET, ("0.0.0.0", address.port)
    try:
        info = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        _, percent, zone = address.host.partition("%")
        if not percent:
            raise
        raise OSError(errno.ENODEV, f"there is no network interface {zone!r}") from None
    family, _, _, _, sockaddr = info[0]
    return family, sockaddr  # type: ignore[return-value]  # numeric hosts give the two forms declared


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


def _set_options(sock: socket.socket, *, wildcard: bool) -> None:
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if wildcard else 1)


def _free(sock: socket.socket) -> None:
    """Let `sock` be bound before its address is there; not all systems can."""
    with contextlib.suppress(OSError):
        sock.setsockopt(*FREEBIND[sock.family], 1)


def _explained(error: OSError, address: Address, protocol: str) -> BindError:
    advice = {
        errno.EADDRINUSE: "another program listens there; stop it, or choose another address"
        " (bind) or port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; use another port,"
        " such as -dns.port 1053",
        errno.EADDRNOTAVAIL: "no interface of this machine has that address",
        errno.EAFNOSUPPORT: "this kernel does not have that address family",
    }.get(error.errno or 0, error.strerror or str(error))
    return BindError(error.errno, f"cannot listen on {protocol} {address}: {advice}")
