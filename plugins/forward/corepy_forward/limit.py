"""How many clients of this process may wait for upstreams at once.

Each costs memory while it waits, and a node's cache lives in a small container: when upstreams are
slow and questions many, SERVFAIL for some is better than being killed. `max_concurrent` limits one
`forward` line; this limits them all. Both are shared between clients (`corepy.net.clients.Shares`).
"""

from __future__ import annotations

BYTES_EACH = 4096
"""Memory that a waiting query takes with all that belongs to it (3 KB were measured)."""

SHARE = 8
"""The part of the memory limit that waiting queries may take: one in so many."""

LEAST, MOST = 1000, 10000


class Limit:
    """Number of clients that wait, and of those that may."""

    __slots__ = ("most", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.most = MOST

    def configure(self, memory: int | None) -> None:
        """Set the limit for `memory` bytes; None is unlimited memory."""
        fitting = MOST if memory is None else memory // SHARE // BYTES_EACH
        self.most = min(max(fitting, LEAST), MOST)

    @property
    def most_of_one(self) -> int:
        """How many may wait for the upstreams of one line, so that another's still get their turn
        while these are silent.
        """
        return self.most * 3 // 4


LIMIT = Limit()
