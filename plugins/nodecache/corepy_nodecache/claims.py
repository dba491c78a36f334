"""Announce the desired state to other processes, with sockets in the abstract Unix namespace.

An abstract Unix socket belongs to a network namespace, as links, addresses and rules do. So two
pods in the host network see each other's sockets without sharing a directory. The kernel closes the
sockets of a process on any kind of exit. A name is `corepy-nodecache/TOKEN/CLAIM`. The token
identifies the process, because pids may be equal in containers. Before a process removes an object
it checks the claims of the others; `node_lock` makes check and removal atomic. No socket is ever
read or accepts connections.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from typing import TYPE_CHECKING, Final

from corepy_nodecache.model import Address, DesiredState, UntrackedEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = "corepy-nodecache/"
_LOCK_NAME: Final = "\0corepy-nodecache-lock"
_SOCKETS_FILE: Final = "/proc/thread-self/net/unix"
_STEP: Final = 0.01


@contextlib.contextmanager
def node_lock(wait: float = 3.0) -> Iterator[bool]:
    """Exclude the node's other corepy processes; yields False if that fails for `wait` seconds.

    The caller continues without the lock, because a node without DNS is worse: at worst two
    processes repair each other's changes.
    """
    deadline = time.monotonic() + wait
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while True:
            try:
                lock.bind(_LOCK_NAME)
            except OSError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(_STEP)
            else:
                yield True
                return


class Claims:
    """The claims of this process, and a view of the claims of others."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(4)
        self._held: dict[str, socket.socket] = {}

    def hold(self, want: DesiredState) -> None:
        """Claim exactly the addresses and endpoints in `want`."""
        names = {_address_text(it) for it in want.addresses}
        names |= {_endpoint_text(it) for it in want.endpoints}
        for name in names - self._held.keys():
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            claim.bind(f"\0{_PREFIX}{self._token}/{name}")
            self._held[name] = claim
        for name in self._held.keys() - names:
            self._held.pop(name).close()

    def close(self) -> None:
        """Release all claims."""
        self.hold(DesiredState())

    def others(self) -> DesiredState:
        """Return the claims of the other processes of this node."""
        addresses, endpoints = set(), set()
        for token, claim in _all_claims():
            item = _parse(claim) if token != self._token else None
            if isinstance(item, Address):
                addresses.add(item)
            elif item:
                endpoints.add(item)
        return DesiredState(frozenset(addresses), frozenset(endpoints))


def _address_text(address: Address) -> str:
    return f"address {address.device} {address.ip}"


def _endpoint_text(endpoint: UntrackedEndpoint) -> str:
    text = f"{endpoint.kind} {endpoint.port} {endpoint.ip}"
    return text if endpoint.style == "corepy" else f"{endpoint.style} {text}"


def _parse(claim: str) -> Address | UntrackedEndpoint | None:
    """Parse a claim; returns None for an unknown kind, which a future version may use."""
    match claim.split(" "):
        case ["address", device, ip]:
            return Address(device, ip)
        case [("dns" | "health") as kind, port, ip] if port.isdecimal():
            return UntrackedEndpoint(kind, ip, int(port))
        case ["node-cache" as style, ("dns" | "health") as kind, port, ip] if port.isdecimal():
            return UntrackedEndpoint(kind, ip, int(port), style)
    return None


def _all_claims() -> Iterator[tuple[str, str]]:
    marker = f" @{_PREFIX}"
    with open(_SOCKETS_FILE, encoding="utf-8", errors="replace") as file:
        for line in file:
            _, found, rest = line.rstrip("\n").partition(marker)
            if found:
                token, _, claim = rest.partition("/")
                yield token, claim
