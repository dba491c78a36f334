"""Who on this node wants what: a process says so with sockets in the abstract namespace.

An abstract Unix socket belongs to a network namespace, just as links, addresses and rules do, so
two pods in the host's network see each other's without sharing a directory; and the kernel closes
it when its process dies, however it dies. A name is `corepy-nodecache/TOKEN/CLAIM`; the token tells
processes apart (their pids may be equal in containers). Whoever is about to remove something looks
for a claim of another process first. `node_lock` makes look and act one step. None of the sockets
is ever read, and none accepts connections.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from typing import TYPE_CHECKING, Final

from corepy_nodecache.model import Address, Endpoint, Want

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = "corepy-nodecache/"
_LOCK_NAME: Final = "\0corepy-nodecache-lock"
_SOCKETS_FILE: Final = "/proc/thread-self/net/unix"
_STEP: Final = 0.01


@contextlib.contextmanager
def node_lock(wait: float = 3.0) -> Iterator[bool]:
    """Exclude corepy's other processes of this node; yields False after `wait` seconds in vain.

    Going on without the lock is better than a node without DNS: at worst two processes repair each
    other's work.
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
    """The claims of this process, and a view of those of the others."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(4)
        self._held: dict[str, socket.socket] = {}

    def hold(self, want: Want) -> None:
        """Claim exactly what `want` says."""
        names = {_address_text(it) for it in want.addresses}
        names |= {_endpoint_text(it) for it in want.endpoints}
        for name in names - self._held.keys():
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            claim.bind(f"\0{_PREFIX}{self._token}/{name}")
            self._held[name] = claim
        for name in self._held.keys() - names:
            self._held.pop(name).close()

    def close(self) -> None:
        """Give up all claims."""
        self.hold(Want())

    def others(self) -> Want:
        """Return what other processes of this node claim."""
        addresses, endpoints = set(), set()
        for token, claim in _all_claims():
            item = _parse(claim) if token != self._token else None
            if isinstance(item, Address):
                addresses.add(item)
            elif item:
                endpoints.add(item)
        return Want(frozenset(addresses), frozenset(endpoints))


def _address_text(address: Address) -> str:
    return f"address {address.device} {address.ip}"


def _endpoint_text(endpoint: Endpoint) -> str:
    return f"{endpoint.kind} {endpoint.port} {endpoint.ip}"


def _parse(claim: str) -> Address | Endpoint | None:
    """Read a claim; None for one of a future version."""
    match claim.split(" "):
        case ["address", device, ip]:
            return Address(device, ip)
        case [("dns" | "health") as kind, port, ip] if port.isdecimal():
            return Endpoint(kind, ip, int(port))
    return None


def _all_claims() -> Iterator[tuple[str, str]]:
    marker = f" @{_PREFIX}"
    with open(_SOCKETS_FILE, encoding="utf-8", errors="replace") as file:
        for line in file:
            _, found, rest = line.rstrip("\n").partition(marker)
            if found:
                token, _, claim = rest.partition("/")
                yield token, claim
